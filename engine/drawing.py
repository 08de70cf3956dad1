"""What is drawn and what comes of it: how a request draws, one row of logits, its mark, the token.

What it is for: the values that the loop hands a sampler and gets back, wherever logits lie.
What may not enter: kernels, buffers, devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from engine.history import History
from engine.masks import NO_NAMES, Names
from engine.messages import Alternative, Sampling
from engine.settling import BY_ROW, NEAR_TIE, RACE, UNMARKED
from watermark import Choice, Embedder, Kind
from watermark.schemes import Gumbel, Kgw, SelfHash


class Rule(msgspec.Struct, frozen=True):
    """How a request draws, as the kernels read it; the same for all of its rows."""

    numbers: tuple[float, ...]  # the columns of `settling.settle`'s rules
    packed: bytes  # the same as float64: a step's rules are these, one behind the other
    seed: int
    typical_p: float
    bias_ids: list[int]
    bias: list[float]

    @classmethod
    def of(cls, sampling: Sampling) -> Rule:
        """`temperature == 0` is greedy: then nothing is scaled or truncated."""
        greedy = sampling.temperature == 0.0
        numbers = (
            1.0 if greedy else 1.0 / sampling.temperature,
            float(greedy),
            float(sampling.top_k or 0),
            sampling.top_p,
            sampling.min_p,
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        return cls(
            numbers=numbers,
            packed=np.array(numbers, np.float64).tobytes(),
            seed=sampling.seed & 0xFFFFFFFFFFFFFFFF,
            typical_p=1.0 if greedy else sampling.typical_p,
            bias_ids=list(sampling.logit_bias),
            bias=list(sampling.logit_bias.values()),
        )

    @property
    def scale(self) -> float:
        return self.numbers[0]

    @property
    def is_greedy(self) -> bool:
        return self.numbers[1] > 0.0

    @property
    def limits(self) -> NDArray[np.float64]:
        """(top_k or 0, top_p, min_p)."""
        return np.array(self.numbers[2:5])

    @property
    def truncates(self) -> bool:
        """Whether some legal tokens may not be drawn."""
        top_k, top_p, min_p = self.numbers[2:5]
        return not self.is_greedy and (top_k > 0 or top_p < 1.0 or min_p > 0.0 or self.typical_p < 1.0)

    @property
    def is_typical(self) -> bool:
        """Whether the survivors are not simply the likeliest."""
        return self.typical_p < 1.0

    @property
    def penalises(self) -> bool:
        """Whether rows of this request need a History."""
        return self.numbers[5:8] != (1.0, 0.0, 0.0)


class Marking(msgspec.Struct, frozen=True):
    """The watermark's view of one position: eligible, with `context` standing before it in its value."""

    embedder: Embedder
    context: list[int]
    kind: Kind
    keeps: Callable[[int], bool] | None = None  # whether a token is the usual spelling; None: any will do

    @property
    def marks(self) -> bool:
        """Whether the scheme chooses here."""
        return self.embedder.marks(self.context, self.kind)

    @property
    def seeds(self) -> tuple[np.uint64, ...]:
        """What kernels must know to choose here, where the scheme does."""
        return self.embedder.seeds(self.context, self.kind)


class Row(msgspec.Struct, frozen=True):
    """One row of logits to choose a token from, or to score a known one with."""

    rule: Rule
    position: int  # of the token among those emitted
    mask: int | None = None  # row of the masks: the grammar alone
    drawn_from: int | None = None  # row of the masks: what may be drawn
    alternatives: int = 0  # how many log-probs to report beside the token's own
    known: int | None = None
    forced: bool = False  # exactly one token is legal under the grammar alone
    history: History | None = None
    marking: Marking | None = None

    @property
    def is_marked(self) -> bool:
        """Whether the watermark chooses its token, by what is committed now."""
        marking = self.marking
        if marking is None or self.known is not None:
            return False
        return (marking.embedder.scheme.marks_greedy or not self.rule.is_greedy) and marking.marks

    @property
    def way(self) -> int:
        """Who makes the choice, here and on a device: UNMARKED, RACE, NEAR_TIE, or BY_ROW for all without a kernel."""
        if self.marking is None or self.rule.is_typical or not self.is_marked:
            return UNMARKED
        scheme = self.marking.embedder.scheme
        if isinstance(scheme, Gumbel):
            return RACE
        is_list = isinstance(scheme, Kgw) and not isinstance(scheme, SelfHash)
        return NEAR_TIE if is_list and self.rule.is_greedy else BY_ROW

    def stands(self, token: int, *, was_marked: bool) -> bool:
        """Whether a token that was chosen with the step's other rows stays, now that all before it are committed.

        It does not if a draft's token has just used its context, or if it is no usual spelling.
        """
        if self.marking is None or self.known is not None:
            return True
        return self.is_marked == was_marked and (self.marking.keeps is None or self.marking.keeps(token))


class Drawn(msgspec.Struct, frozen=True):
    """What came of a row. Natural logarithms."""

    token_id: int
    logprob: float
    constrained_logprob: float
    legal_mass: float
    alternatives: list[Alternative] = []
    choice: Choice | None = None  # of the watermark, if the position was eligible


class Rejected(msgspec.Struct, frozen=True):
    """Nothing can be drawn from this row: its logits are not finite, or no token is legal."""

    is_numeric: bool


class Sampler(Protocol):
    """Draws for the rows of a step; the loop's, where logits lie."""

    def measure(
        self, logits: torch.Tensor, rows: Sequence[Row], masks: NDArray[np.int32], names: Names = NO_NAMES
    ) -> None:
        """Takes a step's rows: `logits` (R, V) float32 and the masks must stay until the last `draw`.

        `names`: what some rows of the masks are known by, step after step (`MaskRows.names`).
        """
        ...

    def draw(self, index: int) -> Drawn | Rejected:
        """What row `index` of the step gives; the logits are as they were."""
        ...
