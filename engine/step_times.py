"""How long steps took and how many sequences they served, as histograms: what a dashboard draws percentiles from.

What it is for: told in `Stats`, rendered by the service under TGI's names. What may not enter: the loop's decisions; it
looks at what the loop has counted before and after a step.

The words are those of TGI: a step with prompt tokens in it is a prefill, any other a decode; to *concat* is to take new
sequences in beside running ones, to *filter* is to let ended ones go.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from engine.measures import Measures
from engine.messages import Spread

SECOND_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(slots=True)
class _Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class StepTimes:
    """`note` after each call of the loop's step, with what the loop has counted since start."""

    _found: dict[str, _Histogram] = field(default_factory=dict)
    _steps: int = 0
    _prefilled: int = 0
    _running: int = 0
    _seconds: dict[str, float] = field(default_factory=dict)

    def note(self, measures: Measures, running: int) -> None:
        """`running`: the sequences that run now."""
        if measures.steps == self._steps:  # there was nothing to do
            return
        spent = {phase: measures.seconds[phase] - self._seconds.get(phase, 0.0) for phase in measures.seconds}
        method = "prefill" if measures.prefill_tokens > self._prefilled else "decode"
        # Masks are filled beside the forward pass; what that did not hide is told as waiting.
        hidden = "mask" if "mask_wait" not in spent else "mask_wait"
        phases = ("schedule", "forward", hidden, "sample", "conclude")
        self._observe(f"inference/{method}", sum(spent.get(phase, 0.0) for phase in phases))
        self._observe(f"forward/{method}", spent.get("forward", 0.0))
        self._observe(f"decode/{method}", spent.get("sample", 0.0))
        self._observe(f"filter/{method}", spent.get("conclude", 0.0))
        if method == "prefill":
            self._observe("next_size", max(running, 1), SIZE_BOUNDS)
            if self._running:
                self._observe("concat", spent.get("schedule", 0.0))
        self._steps, self._prefilled, self._running = measures.steps, measures.prefill_tokens, running
        self._seconds = dict(measures.seconds)

    def told(self) -> dict[str, Spread]:
        """The histograms by name; `x/prefill` and `x/decode` are one with a label."""
        return {name: Spread(list(each.counts), each.total) for name, each in self._found.items()}

    def _observe(self, name: str, value: float, bounds: tuple[float, ...] = SECOND_BOUNDS) -> None:
        if name not in self._found:
            self._found[name] = _Histogram(bounds)
        self._found[name].observe(value)
