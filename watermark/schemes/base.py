"""What a scheme is: one keyed way to choose a token, and the exact test that finds it again.

A scheme holds public parameters only; the key is an argument. `choose` and `scores` call the same keyed function, one
with all candidates of a position, the other with the token that was chosen. Under the null hypothesis (text made
without the key) the scores of distinct draws are independent with a known distribution, so that `log_tails` is a
p-value and not an approximation.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from watermark import prf
from watermark.draw import Ids, Logits
from watermark.keys import Key
from watermark.tails import Floats

Scores = NDArray[np.float64]


class Kind(IntEnum):
    """Where a choice stands. Contexts never cross the border of a value, and values are short: they get a narrower
    context.
    """

    VALUE = 0
    PROSE = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate, and what it should add to the detector's statistic, averaged over keys."""

    index: int
    marked: bool
    expected: float = 0.0
    """Expected score of this position, if marked."""
    spread: float = 0.0
    """Variance of that score."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of n positions as arrays: row i of `tokens` holds `widths[i]` ids, oldest first, then padding."""

    tokens: NDArray[np.int64]
    widths: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Contexts":
        """Pack ragged rows."""
        widths = np.array([len(row) for row in rows], dtype=np.int64)
        tokens = np.zeros((len(rows), max(1, int(widths.max(initial=0)))), dtype=np.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = row
        return cls(tokens, widths)


@dataclass(frozen=True, slots=True)
class Draws:
    """The scores of n positions, and which draw of the keyed function each one shows.

    Two positions of equal `units` show the same draw: the second is no new evidence and must not be counted.
    """

    units: NDArray[np.uint64]
    scores: Scores


class Scheme(ABC):
    """A way to mark. Stateless, immutable, shared by all requests."""

    name: ClassVar[str]
    domain: ClassVar[int]
    """Keeps the seeds of schemes apart that share a key."""
    reweighs: ClassVar[bool]
    """True if the mark changes probabilities (a bias), False if it only replaces the noise."""
    marks_greedy: ClassVar[bool] = False
    """True if a choice at temperature 0 can carry the mark."""
    once_per_context: ClassVar[bool] = True
    """True if a context may carry the mark once only: its noise would repeat, and the text with it."""
    widths: ClassVar[tuple[int, int]] = (2, 4)
    """Context width in values and in prose."""

    def h(self, kind: Kind) -> int:
        """How many earlier tokens of the same value (or prose) seed a choice."""
        return self.widths[kind]

    def window(self, *, greedy: bool) -> float:
        """How far below the best logit a candidate may lie and still be chosen."""
        return 0.0 if greedy else math.inf

    def seed(self, context: Sequence[int], key: Key) -> np.uint64:
        """The seed of all candidates' words at this context."""
        return np.uint64(prf.context_seed(np.array(context, dtype=np.int64), key.words, self.domain))

    def seeds(self, context: Sequence[int], key: Key) -> tuple[np.uint64, ...]:
        """All that a device must know of key and context to make the choice there."""
        return (self.seed(context, key),)

    @abstractmethod
    def choose(
        self, ids: Ids, logits: Logits, context: Sequence[int], key: Key, uniform: float, *, greedy: bool
    ) -> Choice:
        """Choose among the candidates with the mark; `context` holds exactly the h tokens before."""

    @abstractmethod
    def as_choice(self, index: int, first: float, second: float = 0.0) -> Choice:
        """A marked choice of what kernels say of it: see the scheme's own."""

    @abstractmethod
    def scores(self, tokens: NDArray[np.int64], contexts: Contexts, key: Key) -> Draws:
        """What each chosen token shows of the key."""

    @property
    @abstractmethod
    def null_moments(self) -> tuple[float, float]:
        """Mean and variance of one score under the null."""

    @abstractmethod
    def log_tails(self, totals: Floats, counts: Floats) -> Floats:
        """Natural log of P(sum of `count` null scores ≥ total), exactly, elementwise."""

    def log_tail(self, total: float, count: int) -> float:
        """`log_tails` of one sum; 0 (p = 1) for none at all."""
        return float(self.log_tails(np.array([total]), np.array([float(count)]))[0]) if count else 0.0

    @abstractmethod
    def log_randomised_tail(self, total: float, count: int, uniform: float) -> float:
        """`log_tail` with the step of a discrete statistic split at `uniform`: exactly uniform p under the null.

        For testing the tests; a detector that rolled dice would give one text two answers.
        """

    @abstractmethod
    def expected_log_tail(self, mean: float, variance: float, count: int) -> float:
        """E[`log_tail`] when the total has this mean and variance."""

    @abstractmethod
    def percentile(self, scores: Scores) -> Scores:
        """Each score's place in its null distribution, 0 to 1: what a picture shows."""
