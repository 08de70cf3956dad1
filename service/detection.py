"""What the detector says of one text, over all ways to read it, and how it is told.

What it is for: the best reading, marked passages, commonplaces from a caller's unmarked texts, the picture. What may
not enter: HTTP, the statistics (watermark/), which positions are eligible (engine.marking, engine.reading).
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.reading import read
from engine.tokenizer import Tokenizer
from service.compile_protocol import Choices
from service.marking import CONTEXT, SCHEMES
from watermark import Commonplaces, Detection, Detector, LeaveOut, Passage, Position, Positions
from watermark.picture import Piece, as_ansi, as_html


@dataclass(frozen=True)
class Reading:
    """One way to read a text: its eligible positions, and which of its tokens each is."""

    places: NDArray[np.int64]
    positions: Positions


Readings = Mapping[str, Reading]


def readings_of(found: Mapping[str, Choices], tokens: Sequence[int]) -> dict[str, Reading]:
    """What the replay of a text's tokens found."""
    return {name: _reading(choices, tokens) for name, choices in found.items()}


def _reading(choices: Choices, tokens: Sequence[int]) -> Reading:
    places = np.frombuffer(choices.places, np.int32).astype(np.int64)
    widths = np.frombuffer(choices.widths, np.uint8).astype(np.int64)
    return Reading(places, Positions.within(tokens, places, widths, np.frombuffer(choices.kinds, np.uint8)))


def commonplaces_of(texts: Iterable[Readings]) -> Commonplaces:
    """What these unmarked texts have in common, in whichever reading."""
    # All readings of a text at once: prose and value contexts differ, so their sayings do not meet. The schemes that
    # the server marks with read contexts of the same widths (`marking.SCHEMES`).
    return Commonplaces.of(
        (Positions.joined([reading.positions for reading in text.values()]) for text in texts), SCHEMES[0]
    )


def commonplaces_of_texts(texts: Iterable[str], tokenizer: Tokenizer) -> Commonplaces:
    """The same from plain texts, read as a detector that is not told their constraint reads them."""

    def positions(text: str) -> list[Position]:
        tokens = tokenizer.encode(text)
        readings = read(tokens, [tokenizer.token_bytes(token) for token in tokens], CONTEXT)
        return [choice.position for choices in readings.values() for choice in choices]

    return Commonplaces.of((positions(text) for text in texts), SCHEMES[0])


def leaving_out(background: Sequence[Readings], own: Commonplaces | None) -> LeaveOut | None:
    """The detector's own commonplaces and those of the texts that came with the question are not counted."""
    common = commonplaces_of(background) if background else None
    if common is None or own is None:
        common = common or own
        return None if common is None else common.leave_out
    return (common | own).leave_out


@dataclass(frozen=True)
class Finding:
    """The reading that shows most."""

    reading: str
    places: NDArray[np.int64]
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
    for name, reading in readings.items():
        positions = reading.positions
        each = detector.score_each(positions, readings=len(readings), leave_out=leave_out)
        passages = None
        if scan:
            passages = detector.passages(positions, alpha=threshold, readings=len(readings), leave_out=leave_out)
        found.append(Finding(name, reading.places, each, passages))
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
        facts["passages"] = [_passage(passage, finding.places, spelled) for passage in finding.passages]
    return facts


def _passage(passage: Passage, places: NDArray[np.int64], spelled: Sequence[bytes]) -> dict[str, Any]:
    first, last = int(places[passage.first]), int(places[passage.last])
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
    scores = dict(zip(finding.places.tolist(), finding.best.tokens, strict=True))
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    # A character in several tokens is shown with the last of them.
    pieces: list[Piece] = [(decoder.decode(data), scores.get(place)) for place, data in enumerate(spelled)]
    pieces.append((decoder.decode(b"", final=True), None))
    return as_html(pieces) if form == "html" else as_ansi(pieces)
