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


@dataclass(frozen=True, slots=True)
class Positions:
    """Many of them in columns: a long text is a quarter of a million.

    Row i of `before` (n, w) ends with the context of token i; its last `widths[i]` entries are context.
    """

    tokens: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    before: NDArray[np.int64]
    widths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, positions: Sequence[Position]) -> "Positions":
        """From single ones."""
        widths = np.array([len(each.context) for each in positions], np.int64)
        before = np.zeros((len(positions), int(widths.max(initial=0))), np.int64)
        for row, each in zip(before, positions, strict=True):
            row[len(row) - len(each.context) :] = each.context
        tokens = np.array([each.token_id for each in positions], np.int64)
        return cls(tokens, np.array([each.kind for each in positions], np.uint8), before, widths)

    @classmethod
    def within(
        cls, text: Sequence[int], places: NDArray[np.int64], widths: NDArray[np.int64], kinds: NDArray[np.uint8]
    ) -> "Positions":
        """Of a text: which of its tokens, how many before each are context, and of which kind it is."""
        tokens = np.array(text, np.int64)
        back = np.arange(-int(widths.max(initial=0)), 0)
        # What lies before the text's start is no context of anything, so any token may stand for it.
        before = tokens[np.maximum(places[:, None] + back, 0)] if len(tokens) else np.empty((0, 0), np.int64)
        return cls(tokens[places], kinds, before, widths)

    @classmethod
    def joined(cls, parts: Sequence["Positions"]) -> "Positions":
        """One behind the other."""
        wide = max((part.before.shape[1] for part in parts), default=0)
        before = [np.pad(part.before, ((0, 0), (wide - part.before.shape[1], 0))) for part in parts]
        columns = ([getattr(part, name) for part in parts] for name in ("tokens", "kinds", "widths"))
        tokens, kinds, widths = (np.concatenate(each) for each in columns)
        return cls(tokens, kinds, np.concatenate(before), widths)

    def contexts(self, places: NDArray[np.int64], widths: NDArray[np.int64]) -> Contexts:
        """The last `widths` tokens before each of `places`, which have as many."""
        rows, kept = self.before[places], np.zeros((len(places), max(1, int(widths.max(initial=0)))), np.int64)
        for width in np.unique(widths):
            same = widths == width
            kept[same, :width] = rows[same, rows.shape[1] - width :]
        return Contexts(kept, widths)


LeaveOut = Callable[[Positions, Scheme], NDArray[np.bool_]]
"""Which positions are not to be counted; may look at the text only, never at a key."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The positions that count and have their full context, as arrays; `places` says where each stood."""

    eligible: int
    places: NDArray[np.int64]
    tokens: NDArray[np.int64]
    contexts: Contexts
    left_out: NDArray[np.int64]
    used_up: NDArray[np.int64]
    """Behind one that was left out, at its context: the mark was spent there, so that these were drawn without it."""


def gather(positions: Sequence[Position] | Positions, scheme: Scheme, leave_out: LeaveOut | None = None) -> Gathered:
    """Cut contexts to the scheme's width and leave out positions that have less."""
    columns = positions if isinstance(positions, Positions) else Positions.of(positions)
    needed = np.array([scheme.h(kind) for kind in Kind], np.int64)[columns.kinds]
    places = np.flatnonzero(columns.widths >= needed)
    contexts = columns.contexts(places, needed[places])
    said = np.zeros(len(places), np.bool_) if leave_out is None else leave_out(columns, scheme)[places]
    spent = _behind(said, contexts) if scheme.once_per_context and said.any() else np.zeros(len(places), np.bool_)
    kept = ~(said | spent)
    return Gathered(
        eligible=len(columns),
        places=places[kept],
        tokens=columns.tokens[places[kept]],
        contexts=Contexts(contexts.tokens[kept], contexts.widths[kept]),
        left_out=places[said & ~spent],
        used_up=places[spent],
    )


def _behind(said: NDArray[np.bool_], contexts: Contexts) -> NDArray[np.bool_]:
    """Whether an earlier row of the same context is one of `said`."""
    rows = np.column_stack([contexts.widths, contexts.tokens])
    same = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    first = np.full(len(rows), len(rows))
    np.minimum.at(first, same[said], np.flatnonzero(said))
    behind: NDArray[np.bool_] = np.arange(len(rows)) > first[same]
    return behind


def first_showings(draws: Draws) -> NDArray[np.int64]:
    """Indices of the draws shown for the first time, in order."""
    return np.sort(np.unique(draws.units, return_index=True)[1])
