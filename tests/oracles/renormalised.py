"""The distribution that constrained sampling promises, by enumeration: the model's own, renormalised token by token.

Slow and obvious: the language is a finite set of texts, so a token is legal iff some member begins with the text that
it makes. Nothing here knows of automata, masks or engines.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Model = Callable[[list[int]], NDArray[np.float64]]
"""Logits after the tokens emitted so far."""


def distribution(
    language: Sequence[bytes], tokens: Sequence[bytes], end: int, model: Model
) -> dict[tuple[int, ...], float]:
    """The probability of each token sequence that spells a member; O(sequences · vocabulary · language)."""
    found: dict[tuple[int, ...], float] = {}
    _walk(language, tokens, end, model, [], b"", 1.0, found)
    return found


def _walk(  # noqa: PLR0917 - a recursion carries what it needs
    language: Sequence[bytes],
    tokens: Sequence[bytes],
    end: int,
    model: Model,
    said: list[int],
    text: bytes,
    chance: float,
    found: dict[tuple[int, ...], float],
) -> None:
    legal = [
        token
        for token, spelt in enumerate(tokens)
        if (spelt and any(member.startswith(text + spelt) for member in language))
        or (token == end and text in language)
    ]
    logits = model(said)[legal]
    weights = np.exp(logits - logits.max())
    for token, share in zip(legal, weights / weights.sum(), strict=True):
        if token == end:
            found[tuple(said)] = chance * float(share)
        else:
            longer = text + tokens[token]
            _walk(language, tokens, end, model, [*said, token], longer, chance * float(share), found)
