"""A language small enough to know everything about: next-token logits that are a fixed function of the last two
tokens.

It stands in for a model where the statistics of the watermark are at stake and nothing else: contexts differ in
entropy as those of a real model do (some nearly certain, some nearly free), phrases recur, and the true probabilities
are at hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from watermark import Embedder, Kind, Position
from watermark.draw import plain_draw
from watermark.prf import context_seed, words

_PUBLIC = np.array([1, 2], dtype=np.uint64)  # no secret: this randomness is the language, not a mark

Draw = Callable[[], float]


@dataclass(frozen=True)
class ToyLanguage:
    """`sharpness` scales the logits: a context's own scale is drawn between half of it and one and a half."""

    size: int = 200
    sharpness: float = 2.0
    seed: int = 0

    @property
    def ids(self) -> NDArray[np.int32]:
        """All tokens."""
        return np.arange(self.size, dtype=np.int32)

    def logits(self, before: Sequence[int]) -> NDArray[np.float32]:
        """What follows the last two tokens."""
        context = np.array([self.seed, *before[-2:]], dtype=np.int64)
        seed = np.uint64(context_seed(context, _PUBLIC, 0))
        uniform = (words(seed, np.arange(self.size + 1, dtype=np.int32)).astype(np.float64) + 0.5) * 2.0**-32
        scale = self.sharpness * (0.5 + uniform[-1])
        return np.asarray(scale * special.ndtri(uniform[:-1]), dtype=np.float32)

    def write(
        self,
        length: int,
        draw: Draw,
        embedder: Embedder | None = None,
        *,
        kind: Kind = Kind.PROSE,
        greedy: bool = False,
        start: Sequence[int] = (),
    ) -> list[Position]:
        """A text of `length` tokens as the detector sees it; `draw` is the request's own noise, `start` a prompt."""
        written: list[int] = []
        positions = []
        for _ in range(length):
            logits, context = self.logits([*start, *written[-2:]]), tuple(written[-4:])
            if embedder is None:
                token = int(plain_draw(logits, draw(), greedy))
            else:
                choice = embedder.choose(self.ids, logits, context, kind, draw(), greedy=greedy)
                token = choice.index
                embedder.observe(token, context, kind, choice)
            positions.append(Position(token, context, kind))
            written.append(token)
        return positions
