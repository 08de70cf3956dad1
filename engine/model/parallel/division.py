"""Which part of a dimension is one rank's.

What it is for: a `Cut` takes the length of a dimension and gives the rank's `Share` of it: the spans that it keeps, and
zeros after them. What may not enter: names of tensors, families.

The idea: a checkpoint's tensor and the model's parameter are cut by the same function, once as numbers to copy and once
as a length, so the two cannot disagree. Fused projections ([q | k | v], groups of queries with their key and value) are
several spans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.model.errors import UnsupportedModel

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Share:
    """What a rank has of a dimension: the numbers in `spans`, then `zeros` zeros."""

    spans: tuple[Span, ...]
    zeros: int = 0

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.spans) + self.zeros


@dataclass(frozen=True, slots=True)
class Division:
    """One rank's part of the heads. Raises UnsupportedModel where heads cannot be divided."""

    rank: int
    ranks: int
    heads: int
    kv_heads: int

    def __post_init__(self) -> None:
        if self.heads % self.ranks:
            raise UnsupportedModel(f"{self.heads} attention heads cannot be divided among {self.ranks} ranks")
        if self.kv_heads % self.ranks and self.ranks % self.kv_heads:
            raise UnsupportedModel(f"{self.kv_heads} key-value heads cannot be divided among {self.ranks} ranks")

    @property
    def queries(self) -> Span:
        """This rank's query heads."""
        count = self.heads // self.ranks
        return self.rank * count, (self.rank + 1) * count

    @property
    def keys(self) -> Span:
        """This rank's key-value heads; where there are fewer of them than ranks, several ranks hold the same one."""
        if self.kv_heads >= self.ranks:
            count = self.kv_heads // self.ranks
            return self.rank * count, (self.rank + 1) * count
        head = self.rank * self.kv_heads // self.ranks
        return head, head + 1


Cut = Callable[[Division, int], Share]


def heads(division: Division, size: int) -> Share:
    """Query heads, one after the other; whatever belongs to a head (its query, key and value, say) lies together."""
    return Share((_scaled(division.queries, size // division.heads),))


def kv_heads(division: Division, size: int) -> Share:
    """Key-value heads, one after the other."""
    return Share((_scaled(division.keys, size // division.kv_heads),))


def even(division: Division, size: int) -> Share:
    """As even as can be."""
    start, stop = (size * r // division.ranks for r in (division.rank, division.rank + 1))
    return Share(((start, stop),))


def even_pairs(division: Division, size: int) -> Share:
    """Pairs that lie side by side (gate and up, interleaved), as even as can be."""
    return Share((_scaled(even(division, size // 2).spans[0], 2),))


def even_halves(division: Division, size: int) -> Share:
    """Two halves (gate, then up), each as even as can be."""
    start, stop = even(division, size // 2).spans[0]
    return Share(((start, stop), (start + size // 2, stop + size // 2)))


def stacked(division: Division, size: int) -> Share:
    """All queries, then all keys, then all values."""
    unit = size // (division.heads + 2 * division.kv_heads)
    keys = _scaled(division.keys, unit, division.heads)
    values = _scaled(division.keys, unit, division.heads + division.kv_heads)
    return Share((_scaled(division.queries, unit), keys, values))


def grouped(division: Division, size: int) -> Share:
    """Each key-value head's queries, then its key, then its value, then the next one's."""
    queries = division.heads // division.kv_heads
    unit = size // (division.kv_heads * (queries + 2))
    first, last = division.queries
    spans: list[Span] = []
    for head in range(*division.keys):
        start = head * (queries + 2)
        own = max(first - head * queries, 0), min(last - head * queries, queries)
        spans += [_scaled(own, unit, start), _scaled((queries, queries + 2), unit, start)]
    return Share(tuple(spans))


def vocabulary(division: Division, size: int) -> Share:
    """As many rows for every rank, filled up with zeros, and one of zeros for the tokens that are others'."""
    width = -(-size // division.ranks)
    start = min(division.rank * width, size)
    stop = min(start + width, size)
    return Share(((start, stop),), zeros=width + 1 - (stop - start))


def once(division: Division, size: int) -> Share:
    """The first rank's alone: a bias that is added to a sum."""
    return Share(((0, size),)) if division.rank == 0 else Share((), zeros=size)


def _scaled(span: Span, unit: int, offset: int = 0) -> Span:
    return (offset + span[0]) * unit, (offset + span[1]) * unit
