"""Counters and histograms in Prometheus' text format, under the names that TGI's dashboards use and our own.

What it is for: `GET /metrics`. What may not enter: anything a client sent (a label from outside grows without bound).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.histogram import SECONDS, Histogram
from engine.messages import Spread
from engine.step_times import BOUNDS
from grammar import KEYWORDS

Labels = tuple[tuple[str, str], ...]

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


MASSES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
_KNOWN = frozenset([*KEYWORDS, "$schema", "grammar"])
_METHODS = ("prefill", "decode")
# The engine's own, by the names of `engine.step_times`: family, help, and the values of the label `method`.
_STEPS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "inference": ("tgi_batch_inference_duration", "Seconds of a step.", _METHODS),
    "forward": ("tgi_batch_forward_duration", "Seconds of a step's forward pass.", _METHODS),
    "decode": ("tgi_batch_decode_duration", "Seconds in which a step's rows are measured.", _METHODS),
    "filter": (
        "tgi_batch_filter_duration",
        "Seconds in which tokens are drawn and what has ended is let go.",
        _METHODS,
    ),
    "concat": ("tgi_batch_concat_duration", "Seconds in which sequences join running ones.", ("",)),
    "next_size": ("tgi_batch_next_size", "Sequences in a step that takes prompts in.", ("",)),
    "host": (
        "formwork_step_host_seconds",
        "Seconds of a step's scheduling, waiting for masks, advance and events.",
        _METHODS,
    ),
    "mask_wait": ("formwork_step_mask_wait_seconds", "Seconds of masks that no forward pass hid, by step.", _METHODS),
    "inter_token": ("formwork_inter_token_seconds", "Seconds between two tokens of a request.", ("",)),
    "bandwidth_share": (
        "formwork_decode_bandwidth_share",
        "Memory bandwidth of a step that decodes, of the device's.",
        ("",),
    ),
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
class Family:
    """A histogram with a name."""

    name: str
    help: str
    bounds: tuple[float, ...] = SECONDS
    values: Histogram = field(init=False)

    def __post_init__(self) -> None:
        self.values = Histogram(self.bounds)

    def observe(self, value: float) -> None:
        self.values.observe(value)

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        yield from _histogram_lines(self.name, "", self.bounds, self.values.spread)


def _histogram_lines(name: str, labels: str, bounds: Sequence[float], spread: Spread) -> Iterator[str]:
    running = 0
    inside = labels + "," if labels else ""
    around = f"{{{labels}}}" if labels else ""
    for bound, count in zip((*bounds, float("inf")), spread.counts, strict=True):
        running += count
        yield f'{name}_bucket{{{inside}le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}} {running}'
    yield f"{name}_sum{around} {spread.total:g}"
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
    duration: Family = field(default_factory=lambda: Family("tgi_request_duration", "Seconds in the house."))
    queue: Family = field(default_factory=lambda: Family("tgi_request_queue_duration", "Seconds in the queue."))
    validation: Family = field(
        default_factory=lambda: Family(
            "tgi_request_validation_duration", "Seconds of checks, compilation included, before the engine is asked."
        )
    )
    skipped: Family = field(
        default_factory=lambda: Family(
            "tgi_request_skipped_tokens", "Tokens that were guessed right, by request.", TOKENS
        )
    )
    inference: Family = field(
        default_factory=lambda: Family("tgi_request_inference_duration", "Seconds of prefill and decoding.")
    )
    per_token: Family = field(
        default_factory=lambda: Family("tgi_request_mean_time_per_token_duration", "Seconds a token, by request.")
    )
    first_token: Family = field(
        default_factory=lambda: Family("formwork_first_token_seconds", "Seconds from arrival to the first token.")
    )
    generated: Family = field(
        default_factory=lambda: Family("tgi_request_generated_tokens", "Tokens generated, by request.", TOKENS)
    )
    input_length: Family = field(
        default_factory=lambda: Family("tgi_request_input_length", "Prompt tokens, by request.", TOKENS)
    )
    max_new_tokens: Family = field(
        default_factory=lambda: Family("tgi_request_max_new_tokens", "Token budget, by request.", TOKENS)
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
    constraints_refused: Counter = field(
        default_factory=lambda: Counter(
            "formwork_constraints_refused_total", "Constraints refused, by the code of the error and the keyword."
        )
    )
    legal_mass: Family = field(
        default_factory=lambda: Family(
            "formwork_legal_mass", "The model's own probability of what the grammar allowed, by token.", MASSES
        )
    )
    closed: Counter = field(
        default_factory=lambda: Counter("formwork_closed_by_budget_total", "Outputs that the budget closed.")
    )
    marked: Counter = field(
        default_factory=lambda: Counter("formwork_watermark_positions_total", "Choices that carry the watermark.")
    )

    def refuse_constraint(self, code: str, keyword: str | None) -> None:
        """Counts a refusal; a keyword that is the client's own word is `other`, for labels must be few."""
        told = keyword if keyword is None or keyword in _KNOWN else "other"
        self.constraints_refused.add(code=code, keyword=told or "")

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
            self.constraints_refused,
            self.legal_mass,
            self.closed,
            self.marked,
        ):
            yield from each.lines()


def spreads(told: Mapping[str, Spread]) -> Iterator[str]:
    """The engine's histograms of its steps; those that have no value yet are told as such.

    They begin anew with each engine process, as a counter of Prometheus may.
    """
    for name, (family, help_, methods) in _STEPS.items():
        yield f"# HELP {family} {help_}"
        yield f"# TYPE {family} histogram"
        for method in methods:
            spread = told.get(f"{name}/{method}" if method else name) or Histogram(BOUNDS[name]).spread
            yield from _histogram_lines(family, f'method="{method}"' if method else "", BOUNDS[name], spread)


def gauges(values: Mapping[str, float], kind: str = "gauge") -> Iterable[str]:
    """Numbers that live elsewhere, read at this moment."""
    told = ""
    for name, value in values.items():
        family = name.partition("{")[0]
        if family != told:
            yield f"# TYPE {family} {kind}"
        told = family
        yield f"{name} {value:g}"
