"""The mark's side of one generation: which choices carry it, and what they promise a detector.

The engine asks for each *eligible* choice (two or more legal tokens, inside free string content or prose; decided
from the grammar alone, so that the detector can decide it again) and commits the token it emits. A choice is drawn
with the request's own noise when fewer than h tokens stand before it in its value, and when its context was used
before in this response: a repeated context would repeat its noise, and with it the text. Neither kind is scored by
the detector.

`choose` changes nothing, so a speculative step may ask for several positions and commit only what it accepts. The
state is a function of the committed (token, context, kind) triples: `observe` them again, in order, and generation
goes on as if it had never stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from watermark.commonplaces import Commonplaces
from watermark.draw import Ids, Logits, plain_draw
from watermark.keys import Key
from watermark.schemes.base import Choice, Kind, Scheme


class Reason(StrEnum):
    """Why a response carries no mark."""

    NOT_REQUESTED = "not_requested"
    DISABLED = "disabled"
    NO_FREE_CHOICE = "no_free_choice"
    TOO_SHORT = "too_short"
    GREEDY = "greedy"


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to one response; safe to show to anyone."""

    applied: bool
    scheme: str | None = None
    key_id: str | None = None
    eligible: int = 0
    reason: Reason | None = None
    expected_p: float | None = None
    """The p-value to expect from the detector (geometric mean over keys); None where there is no mark (or for
    Unigram).
    """

    @classmethod
    def unmarked(cls, reason: Reason) -> "Report":
        """The report of a response that was never going to be marked."""
        return cls(applied=False, reason=reason)


class Embedder:
    """One response's mark. Not shared between requests, not thread-safe; O(1) a token, memory bounded by
    `history_limit`.
    """

    def __init__(
        self, scheme: Scheme, key: Key, *, history_limit: int = 8192, commonplaces: Commonplaces | None = None
    ) -> None:
        """`commonplaces`: what the detector will not count, and what nothing is promised of."""
        self._scheme = scheme
        self._sayings = frozenset() if commonplaces is None else commonplaces.sayings_for(scheme)
        self._key = key
        self._history_limit = history_limit
        self._seen: dict[tuple[int, ...], None] = {}  # in order of first use, oldest first
        self._eligible = self._fresh = self._scored = self._marked = 0
        self._mean = self._variance = 0.0

    def h(self, kind: Kind) -> int:
        """How many tokens of context `choose` reads; passing more is harmless."""
        return self._scheme.h(kind)

    def window(self, *, greedy: bool) -> float:
        """Candidates further than this below the best logit (after temperature) never win: they need not be passed."""
        return self._scheme.window(greedy=greedy)

    def marks(self, context: Sequence[int], kind: Kind) -> bool:
        """Whether the next choice would carry the mark: enough context, and none that was used before."""
        narrow = self._narrow(context, kind)
        return narrow is not None and not (self._scheme.once_per_context and narrow in self._seen)

    @property
    def scheme(self) -> Scheme:
        """How this response is marked."""
        return self._scheme

    def seeds(self, context: Sequence[int], kind: Kind) -> tuple[np.uint64, ...]:
        """What kernels need to make the next choice with the mark (`watermark.rows`, `watermark.tensors`).

        Where `marks` says no, the choice is not theirs to make.
        """
        return self._scheme.seeds(context[len(context) - self._scheme.h(kind) :], self._key)

    def choose(
        self, ids: Ids, logits: Logits, context: Sequence[int], kind: Kind, uniform: float, *, greedy: bool
    ) -> Choice:
        """Choose among the candidates (int32 ids, float32 logits); `context` is what precedes inside the value or the
        prose.
        """
        if self.marks(context, kind):
            width = self._scheme.h(kind)
            narrow = context[len(context) - width :]
            return self._scheme.choose(ids, logits, narrow, self._key, uniform, greedy=greedy)
        return Choice(int(plain_draw(logits, uniform, greedy)), marked=False)

    def observe(self, token_id: int, context: Sequence[int], kind: Kind, choice: Choice | None = None) -> bool:
        """Commit an eligible choice that was emitted; whether it could carry the mark, as `marks` said before.

        Without its `Choice` (a replay) it is taken as marked where it could be, and promises no evidence: what the
        model thought of it is no longer known, unless someone kept it for `recall`.
        """
        self._eligible += 1
        narrow = self._narrow(context, kind)
        if narrow is None:
            return False
        unit = narrow if self._scheme.once_per_context else (token_id,)
        first = unit not in self._seen
        self._remember(unit)
        mean, variance = self._scheme.null_moments
        if choice is None:
            self._marked += first
        elif choice.marked:
            self._marked += 1
            mean, variance = choice.expected, choice.spread
        self._fresh += first
        if first and (kind, narrow, token_id) not in self._sayings:
            self._scored += 1
            self._mean += mean
            self._variance += variance
        return first or not self._scheme.once_per_context

    @property
    def evidence(self) -> tuple[float, float]:
        """Mean and variance, over keys, of what was observed so far adds to the detector's statistic."""
        return self._mean, self._variance

    def recall(self, evidence: tuple[float, float]) -> None:
        """After a replay of the same choices, what another embedder knew of them."""
        self._mean, self._variance = evidence

    def report(self) -> Report:
        """What was done so far."""
        reason = None
        if not self._marked:
            reason = (
                Reason.NO_FREE_CHOICE if not self._eligible else Reason.TOO_SHORT if not self._fresh else Reason.GREEDY
            )
        expected = None
        # One list for all positions is used up as the text goes on: nothing is promised.
        if self._marked and self._scheme.once_per_context:
            expected = 1.0
            if self._scored:
                expected = float(np.exp(self._scheme.expected_log_tail(self._mean, self._variance, self._scored)))
        return Report(self._marked > 0, self._scheme.name, self._key.id, self._eligible, reason, expected)

    def _narrow(self, context: Sequence[int], kind: Kind) -> tuple[int, ...] | None:
        width = self._scheme.h(kind)
        return tuple(context[len(context) - width :]) if len(context) >= width else None

    def _remember(self, unit: tuple[int, ...]) -> None:
        self._seen[unit] = None
        if len(self._seen) > self._history_limit:
            del self._seen[next(iter(self._seen))]
