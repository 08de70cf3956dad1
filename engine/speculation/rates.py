"""How often guesses come true: learned for all, for a grammar, for a request, each leaning on the one before.

What it is for: the chance of a guess before it is verified. What may not enter: what a guess is made of.

The idea: a rate is the mean of a Beta posterior whose prior is the parent's rate, worth a few observations. A new
request starts with what is known of its grammar, a new grammar with what is known of the model; both soon go by their
own. Older observations fade.
"""

from __future__ import annotations

from enum import StrEnum

_PRIOR_WEIGHT = 6.0  # observations that the parent's rate counts for
_KEPT = 0.98  # of the weight of what was seen, per observation of the same kind


class Source(StrEnum):
    """Who guessed."""

    GRAMMAR = "grammar"  # forced text
    ENDINGS = "endings"  # that a copied value ends
    NGRAM = "ngram"
    HEADS = "heads"
    MODEL = "model"


Kind = tuple[Source, int]  # and what tells its guesses apart by how good they are

_FIRST: dict[Kind, float] = {  # before anything was seen; what is not named is in the next
    (Source.ENDINGS, 0): 0.05,
    (Source.NGRAM, 1): 0.3,
    (Source.NGRAM, 2): 0.5,
}
_OTHERWISE = {
    Source.GRAMMAR: 0.9,
    Source.ENDINGS: 0.4,
    Source.NGRAM: 0.6,
    Source.HEADS: 0.5,
    Source.MODEL: 0.6,
}


class Rates:
    """Chances by kind of guess."""

    def __init__(self, parent: Rates | None = None) -> None:
        self._parent = parent
        self._seen: dict[Kind, tuple[float, float]] = {}  # came true, in all

    def chance(self, kind: Kind) -> float:
        """That a guess of this kind, those before it having come true, comes true."""
        prior = _FIRST.get(kind, _OTHERWISE[kind[0]]) if self._parent is None else self._parent.chance(kind)
        true, count = self._seen.get(kind, (0.0, 0.0))
        return (_PRIOR_WEIGHT * prior + true) / (_PRIOR_WEIGHT + count)

    def learn(self, kind: Kind, *, came_true: bool) -> None:
        """A guess of this kind was verified."""
        true, count = self._seen.get(kind, (0.0, 0.0))
        self._seen[kind] = (_KEPT * true + came_true, _KEPT * count + 1.0)
        if self._parent is not None:
            self._parent.learn(kind, came_true=came_true)
