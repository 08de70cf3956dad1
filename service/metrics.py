"""Counters and histograms in Prometheus' text format, under the names that TGI's dashboards use and our own.

What it is for: `GET /metrics`. What may not enter: anything a client sent (a label from outside grows without bound).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.messages import Spread
from engine.step_times import SECOND_BOUNDS, SIZE_BOUNDS

Labels = tuple[tuple[str, str], ...]

SECONDS = SECOND_BOUNDS
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


_METHODS = ("prefill", "decode")
_BATCH: dict[str, tuple[str, str, tuple[float, ...], tuple[str, ...]]] = {
    "inference": ("tgi_batch_inference_duration", "Seconds of a step.", SECOND_BOUNDS, _METHODS),
    "forward": ("tgi_batch_forward_duration", "Seconds of a step's forward pass.", SECOND_BOUNDS, _METHODS),
    "decode": ("tgi_batch_decode_duration", "Seconds in which a step's rows are measured.", SECOND_BOUNDS, _METHODS),
    "filter": (
        "tgi_batch_filter_duration",
        "Seconds in which tokens are drawn and what has ended is let go.",
        SECOND_BOUNDS,
        _METHODS,
    ),
    "concat": ("tgi_batch_concat_duration", "Seconds in which sequences join running ones.", SECOND_BOUNDS, ("",)),
    "next_size": ("tgi_batch_next_size", "Sequences in a step that takes prompts in.", SIZE_BOUNDS, ("",)),
}


@dataclass(slots=True)
class Counter:
    name: str
    help: str
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, amount: float = 1.0, **labels: str) -> None:
        key = tuple(sorted(labels.items()))
        self.values[key] = self.values.get(key, 0.0) + amount

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} counter"
        for labels, value in (self.values or {(): 0.0}).items():
            yield f"{self.name}{_labels(labels)} {value:g}"


@dataclass(slots=True)
class Histogram:
    name: str
    help: str
    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        yield from _histogram_lines(self.name, "", self.bounds, self.counts, self.total)


def _histogram_lines(
    name: str, labels: str, bounds: Sequence[float], counts: Sequence[int], total: float
) -> Iterator[str]:
    running = 0
    inside = labels + "," if labels else ""
    around = f"{{{labels}}}" if labels else ""
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        running += count
        yield f'{name}_bucket{{{inside}le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}} {running}'
    yield f"{name}_sum{around} {total:g}"
    yield f"{name}_count{around} {running}"


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


@dataclass(slots=True)
class Metrics:
    """What the service itself counts; the engine's and the compiler's numbers are read when asked for."""

    requests: Counter = field(default_factory=lambda: Counter("tgi_request_count", "Requests received."))
    successes: Counter = field(default_factory=lambda: Counter("tgi_request_success", "Requests answered."))
    failures: Counter = field(
        default_factory=lambda: Counter("tgi_request_failure", "Requests failed, in TGI's words.")
    )
    errors: Counter = field(
        default_factory=lambda: Counter("formwork_request_errors_total", "Requests failed, by the code of the error.")
    )
    duration: Histogram = field(default_factory=lambda: Histogram("tgi_request_duration", "Seconds in the house."))
    queue: Histogram = field(default_factory=lambda: Histogram("tgi_request_queue_duration", "Seconds in the queue."))
    validation: Histogram = field(
        default_factory=lambda: Histogram(
            "tgi_request_validation_duration", "Seconds of checks, compilation included, before the engine is asked."
        )
    )
    skipped: Histogram = field(
        default_factory=lambda: Histogram(
            "tgi_request_skipped_tokens", "Tokens that were guessed right, by request.", TOKENS
        )
    )
    inference: Histogram = field(
        default_factory=lambda: Histogram("tgi_request_inference_duration", "Seconds of prefill and decoding.")
    )
    per_token: Histogram = field(
        default_factory=lambda: Histogram("tgi_request_mean_time_per_token_duration", "Seconds a token, by request.")
    )
    first_token: Histogram = field(
        default_factory=lambda: Histogram("formwork_first_token_seconds", "Seconds from arrival to the first token.")
    )
    generated: Histogram = field(
        default_factory=lambda: Histogram("tgi_request_generated_tokens", "Tokens generated, by request.", TOKENS)
    )
    input_length: Histogram = field(
        default_factory=lambda: Histogram("tgi_request_input_length", "Prompt tokens, by request.", TOKENS)
    )
    max_new_tokens: Histogram = field(
        default_factory=lambda: Histogram("tgi_request_max_new_tokens", "Token budget, by request.", TOKENS)
    )
    forced: Counter = field(default_factory=lambda: Counter("formwork_forced_tokens_total", "Tokens with one choice."))
    guesses: Counter = field(
        default_factory=lambda: Counter("formwork_guesses_total", "Guessed tokens that were verified, by proposer.")
    )
    accepted: Counter = field(
        default_factory=lambda: Counter(
            "formwork_accepted_guesses_total", "Guessed tokens that were drawn, by proposer."
        )
    )
    constrained: Counter = field(
        default_factory=lambda: Counter("formwork_constrained_outputs_total", "Outputs under a grammar.")
    )
    closed: Counter = field(
        default_factory=lambda: Counter("formwork_closed_by_budget_total", "Outputs that the budget closed.")
    )
    marked: Counter = field(
        default_factory=lambda: Counter("formwork_watermark_positions_total", "Choices that carry the watermark.")
    )

    def lines(self) -> Iterator[str]:
        for each in (
            self.requests,
            self.successes,
            self.failures,
            self.errors,
            self.duration,
            self.validation,
            self.queue,
            self.skipped,
            self.inference,
            self.per_token,
            self.first_token,
            self.generated,
            self.input_length,
            self.max_new_tokens,
            self.forced,
            self.guesses,
            self.accepted,
            self.constrained,
            self.closed,
            self.marked,
        ):
            yield from each.lines()


def spreads(batches: Mapping[str, Spread]) -> Iterator[str]:
    """The engine's histograms of its steps under TGI's names; those that have no value yet are told as such."""
    for name, (family, help_, bounds, methods) in _BATCH.items():
        yield f"# HELP {family} {help_}"
        yield f"# TYPE {family} histogram"
        for method in methods:
            found = batches.get(f"{name}/{method}" if method else name)
            labels = f'method="{method}"' if method else ""
            counts, total = (found.counts, found.total) if found is not None else ([0] * (len(bounds) + 1), 0.0)
            yield from _histogram_lines(family, labels, bounds, counts, total)


def gauges(values: Mapping[str, float], kind: str = "gauge") -> Iterable[str]:
    """Numbers that live elsewhere, read at this moment."""
    told = ""
    for name, value in values.items():
        family = name.partition("{")[0]
        if family != told:
            yield f"# TYPE {family} {kind}"
        told = family
        yield f"{name} {value:g}"
