"""How long steps took, what they read, and how many sequences they served, as histograms for a dashboard.

What it is for: told in `Stats`, rendered by the service under TGI's names and ours. What may not enter: the loop's
decisions; it looks at what the loop has counted before and after a step.

The words are those of TGI: a step with prompt tokens in it is a prefill, any other a decode; to *concat* is to take new
sequences in beside running ones, to *filter* is to let ended ones go.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.histogram import SECONDS, SHARES, SHORT_SECONDS, SIZES, Histogram
from engine.measures import Measures
from engine.messages import Spread

# All there are, without the `/prefill` or `/decode` that some names end in.
BOUNDS: dict[str, tuple[float, ...]] = {
    "inference": SECONDS,  # the whole step
    "forward": SECONDS,  # its forward pass (where a device computes: until it is launched)
    "decode": SECONDS,  # measuring and drawing
    "filter": SECONDS,  # matchers advanced, tokens made known, what has ended let go
    "host": SHORT_SECONDS,  # scheduling, waiting for masks, advance, events: what no pass over the model or logits is
    "mask_wait": SHORT_SECONDS,  # what the forward pass did not hide of the masks
    "concat": SECONDS,
    "next_size": SIZES,
    "inter_token": SECONDS,  # between two tokens of a request
    "bandwidth_share": SHARES,  # of the device's memory bandwidth, in steps that only decode
}


@dataclass(slots=True)
class StepTimes:
    """`note` after each call of the loop's step, with what the loop has counted since start.

    `bandwidth`: bytes a second that the device was measured to read; 0: not known.
    """

    bandwidth: float = 0.0
    _found: dict[str, Histogram] = field(default_factory=dict)
    _steps: int = 0
    _prefilled: int = 0
    _running: int = 0
    _read: tuple[int, float] = (0, 0.0)  # bytes and seconds of decoding
    _seconds: dict[str, float] = field(default_factory=dict)

    def note(self, measures: Measures, running: int) -> None:
        """`running`: the sequences that run now."""
        spent = {phase: measures.seconds[phase] - self._seconds.get(phase, 0.0) for phase in measures.seconds}
        self._seconds = dict(measures.seconds)
        if measures.steps == self._steps:  # there was nothing to do
            return
        method = "prefill" if measures.prefill_tokens > self._prefilled else "decode"
        self._note_phases(spent, method)
        if method == "prefill":
            self._observe("next_size", max(running, 1))
            if self._running:
                self._observe("concat", spent.get("schedule", 0.0))
        for gap_s, times in measures.gaps.items():
            self._observe("inter_token", gap_s, times)
        self._note_read(measures)
        self._steps, self._prefilled, self._running = measures.steps, measures.prefill_tokens, running

    def told(self) -> dict[str, Spread]:
        """The histograms by name; `x/prefill` and `x/decode` are one with a label."""
        return {name: each.spread for name, each in self._found.items()}

    def _note_phases(self, spent: dict[str, float], method: str) -> None:
        phases = ("schedule", "forward", "mask_wait", "sample", "conclude", "publish")
        schedule, forward, waited, sample, conclude, publish = (spent.get(phase, 0.0) for phase in phases)
        host = schedule + waited + conclude + publish
        self._observe(f"inference/{method}", host + forward + sample)
        self._observe(f"forward/{method}", forward)
        self._observe(f"decode/{method}", sample)
        self._observe(f"filter/{method}", conclude)
        self._observe(f"host/{method}", host)
        self._observe(f"mask_wait/{method}", waited)

    def _note_read(self, measures: Measures) -> None:
        count, seconds = measures.decode_bytes - self._read[0], measures.decode_s - self._read[1]
        self._read = measures.decode_bytes, measures.decode_s
        if self.bandwidth > 0 and seconds > 0:
            self._observe("bandwidth_share", count / seconds / self.bandwidth)

    def _observe(self, name: str, value: float, times: int = 1) -> None:
        if name not in self._found:
            self._found[name] = Histogram(BOUNDS[name.partition("/")[0]])
        self._found[name].observe(value, times)
