"""What the detector says of one text, over all ways to read it, and how it is told.

What it is for: the best reading, marked passages, commonplaces from a caller's unmarked texts, the picture. What may
not enter: HTTP, the statistics (watermark/), which positions are eligible (engine.marking, engine.reading).
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.compile_protocol import ReplayedChoice
from service.marking import SCHEMES
from watermark import Commonplaces, Detection, Detector, Kind, LeaveOut, Passage, Position, Scheme
from watermark.picture import Piece, as_ansi, as_html

Readings = dict[str, list[ReplayedChoice]]


def positions_of(choices: Iterable[ReplayedChoice]) -> list[Position]:
    """What the replay found, as the detector takes it."""
    return [Position(each.token_id, tuple(each.context), Kind(each.kind)) for each in choices]


def leaving_out(background: Sequence[Readings]) -> LeaveOut | None:
    """What these unmarked texts have in common is not counted, in whichever reading."""
    if not background:
        return None
    # All readings of a text at once: prose and value contexts differ, so their sayings do not meet.
    texts = [[place for choices in text.values() for place in positions_of(choices)] for text in background]
    common = {scheme.name: Commonplaces.of(texts, scheme) for scheme in SCHEMES}

    def leave_out(position: Position, scheme: Scheme) -> bool:
        return common[scheme.name].holds(position)

    return leave_out


@dataclass(frozen=True)
class Finding:
    """The reading that shows most."""

    reading: str
    choices: list[ReplayedChoice]
    each: tuple[Detection, ...]
    passages: tuple[Passage, ...] | None

    @property
    def best(self) -> Detection:
        """The strongest evidence."""
        return min(self.each, key=lambda detection: detection.log_p)


def judged(
    detector: Detector, readings: Readings, leave_out: LeaveOut | None, *, scan: bool, threshold: float
) -> Finding:
    """Scores each reading, and pays for having read the text in several ways."""
    found = []
    for name, choices in readings.items():
        positions = positions_of(choices)
        each = detector.score_each(positions, readings=len(readings), leave_out=leave_out)
        passages = None
        if scan:
            passages = detector.passages(positions, alpha=threshold, readings=len(readings), leave_out=leave_out)
        found.append(Finding(name, choices, each, passages))
    return min(found, key=_weight)


def _weight(finding: Finding) -> tuple[float, float]:
    """A text as a whole, or a passage of it, whichever shows more."""
    passages = min((passage.log_p for passage in finding.passages or ()), default=0.0)
    return min(finding.best.log_adjusted, passages), finding.best.log_adjusted


def told(finding: Finding, spelled: Sequence[bytes], threshold: float) -> dict[str, Any]:
    """The reply's facts; `spelled`: the bytes of each token of the text."""
    best = finding.best
    facts: dict[str, Any] = {
        "watermarked": best.adjusted <= threshold,
        "p_value": best.adjusted,
        "log10_p_value": best.log_adjusted / math.log(10),
        "threshold": threshold,
        "reading": finding.reading,
        "scheme": best.scheme,
        "key_id": best.key_id,
        "eligible": best.eligible,
        "scored": best.scored,
        "statistic": best.statistic,
        "z": best.z,
        "evidence": [
            {"scheme": each.scheme, "key_id": each.key_id, "scored": each.scored, "p_value": each.p_value}
            for each in finding.each
        ],
        "tokens": len(spelled),
    }
    if finding.passages is not None:
        facts["passages"] = [_passage(passage, finding.choices, spelled) for passage in finding.passages]
    return facts


def _passage(passage: Passage, choices: Sequence[ReplayedChoice], spelled: Sequence[bytes]) -> dict[str, Any]:
    first, last = choices[passage.first].place, choices[passage.last].place
    return {
        "first_token": first,
        "last_token": last,
        "text": b"".join(spelled[first : last + 1]).decode(errors="replace"),
        "scored": passage.scored,
        "scheme": passage.scheme,
        "key_id": passage.key_id,
        "p_value": passage.p_value,
    }


def pictured(finding: Finding, spelled: Sequence[bytes], form: Literal["html", "ansi"]) -> str:
    """The text with each token's part in the best evidence."""
    scores = dict(zip((choice.place for choice in finding.choices), finding.best.tokens, strict=True))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    # A character in several tokens is shown with the last of them.
    pieces: list[Piece] = [(decoder.decode(data), scores.get(place)) for place, data in enumerate(spelled)]
    pieces.append((decoder.decode(b"", final=True), None))
    return as_html(pieces) if form == "html" else as_ansi(pieces)
