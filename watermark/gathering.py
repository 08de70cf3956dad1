"""From eligible positions to arrays, and to the draws that count: what detector and scan both start from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.base import Contexts, Draws, Kind, Scheme


@dataclass(frozen=True, slots=True)
class Position:
    """One eligible choice: the token, and what precedes it inside its value or prose (the last h tokens are enough)."""

    token_id: int
    context: tuple[int, ...]
    kind: Kind = Kind.VALUE


LeaveOut = Callable[[Position, Scheme], bool]
"""Whether a position is not to be counted; may look at the text only, never at a key."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The positions that count and have their full context, as arrays; `places` says where each stood."""

    eligible: int
    places: NDArray[np.int64]
    tokens: NDArray[np.int64]
    contexts: Contexts
    left_out: tuple[int, ...] = ()


def gather(positions: Sequence[Position], scheme: Scheme, leave_out: LeaveOut | None = None) -> Gathered:
    """Cut contexts to the scheme's width and leave out positions that have less."""
    places, tokens, rows, left_out = [], [], [], []
    for place, position in enumerate(positions):
        width = scheme.h(position.kind)
        if len(position.context) < width:
            continue
        if leave_out is not None and leave_out(position, scheme):
            left_out.append(place)
            continue
        places.append(place)
        tokens.append(position.token_id)
        rows.append(position.context[len(position.context) - width :])
    as_array = np.array(places, dtype=np.int64), np.array(tokens, dtype=np.int64)
    return Gathered(len(positions), *as_array, Contexts.of(rows), tuple(left_out))


def first_showings(draws: Draws) -> NDArray[np.int64]:
    """Indices of the draws shown for the first time, in order."""
    return np.sort(np.unique(draws.units, return_index=True)[1])
