"""division: the parts of all ranks are the whole, and what belongs together stays together."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model.errors import UnsupportedModel
from engine.model.parallel.division import (
    Cut,
    Division,
    Share,
    even,
    even_halves,
    even_pairs,
    grouped,
    heads,
    kv_heads,
    once,
    stacked,
    vocabulary,
)


@st.composite
def layers(draw: st.DrawFn) -> tuple[int, int, int]:
    """(ranks, heads, key-value heads) that can be divided."""
    ranks = draw(st.sampled_from([1, 2, 3, 4, 8]))
    kv = draw(st.sampled_from([1, ranks, 2 * ranks, *([2] if ranks % 2 == 0 else [])]))
    unit = max(kv, ranks)
    count = unit * draw(st.integers(1, 3))
    return ranks, count, kv


def kept(cut: Cut, layer: tuple[int, int, int], size: int) -> list[list[int]]:
    """What each rank keeps of a dimension, in order."""
    ranks, count, kv = layer
    shares = [cut(Division(rank, ranks, count, kv), size) for rank in range(ranks)]
    return [[i for start, stop in share.spans for i in range(start, stop)] for share in shares]


@given(layers(), st.integers(1, 5))
def test_query_heads_are_all_there_once_and_whole(layer: tuple[int, int, int], dim: int) -> None:
    size = layer[1] * dim
    parts = kept(heads, layer, size)
    assert [i for part in parts for i in part] == list(range(size))
    assert len({len(part) for part in parts}) == 1
    assert all(len(part) % dim == 0 for part in parts)


@given(layers(), st.integers(1, 5))
def test_each_rank_has_the_key_heads_that_its_queries_read(layer: tuple[int, int, int], dim: int) -> None:
    """Query head q reads key head q · kv / heads, on every rank as in the whole."""
    ranks, count, kv = layer
    keys = kept(kv_heads, layer, kv * dim)
    queries = kept(heads, layer, count)
    for own_keys, own_queries in zip(keys, queries, strict=True):
        held = sorted({i // dim for i in own_keys})
        assert {q * kv // count for q in own_queries} == set(held)
        per_key = len(own_queries) // len(held)
        assert [held[i // per_key] for i in range(len(own_queries))] == [q * kv // count for q in own_queries]
    copies = Counter(i for part in keys for i in part)
    assert set(copies.values()) == {max(1, ranks // kv)}


@given(layers(), st.integers(1, 4))
def test_fused_projections_are_cut_like_their_parts(layer: tuple[int, int, int], dim: int) -> None:
    """[q | k | v] and [queries, key, value of each key head] against the parts cut one by one."""
    _, count, kv = layer
    queries, keys = kept(heads, layer, count * dim), kept(kv_heads, layer, kv * dim)
    for q, k, fused in zip(queries, keys, kept(stacked, layer, (count + 2 * kv) * dim), strict=True):
        values = [(count + kv) * dim + i for i in k]
        assert fused == [*q, *(count * dim + i for i in k), *values]
    per_key = count // kv
    rows = [(head, kind, d) for head in range(kv) for kind in range(per_key + 2) for d in range(dim)]
    for q, k, fused in zip(queries, keys, kept(grouped, layer, len(rows)), strict=True):
        own = [rows[i] for i in fused]
        assert [(h * per_key + kind) * dim + d for h, kind, d in own if kind < per_key] == q
        assert [h * dim + d for h, kind, d in own if kind == per_key] == k
        assert [h * dim + d for h, kind, d in own if kind == per_key + 1] == k


@given(st.integers(1, 8), st.integers(1, 60))
def test_widths_are_divided_as_evenly_as_can_be(ranks: int, width: int) -> None:
    """Gate and up are cut alike, side by side or one after the other."""
    layer = (ranks, ranks, ranks)
    plain = kept(even, layer, width)
    assert [i for part in plain for i in part] == list(range(width))
    assert max(map(len, plain)) - min(map(len, plain)) <= 1
    for part, halves, pairs in zip(
        plain, kept(even_halves, layer, 2 * width), kept(even_pairs, layer, 2 * width), strict=True
    ):
        assert halves == [*part, *(width + i for i in part)]
        assert pairs == [i for j in part for i in (2 * j, 2 * j + 1)]


@given(st.integers(1, 8), st.integers(1, 60))
def test_vocabularies_are_filled_up_with_zeros(ranks: int, size: int) -> None:
    """Every rank has as many rows, and at least one of zeros at the end."""
    shares = [vocabulary(Division(rank, ranks, ranks, ranks), size) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert all(share.zeros >= 1 for share in shares)
    assert [i for s in shares for a, b in s.spans for i in range(a, b)] == list(range(size))


def test_a_bias_of_a_sum_is_added_by_the_first_rank() -> None:
    assert once(Division(0, 2, 2, 2), 5) == Share(((0, 5),))
    assert once(Division(1, 2, 2, 2), 5) == Share((), zeros=5)


@pytest.mark.parametrize(("count", "kv", "ranks"), [(6, 6, 4), (8, 3, 2), (12, 3, 4)])
def test_heads_that_cannot_be_divided_are_refused(count: int, kv: int, ranks: int) -> None:
    with pytest.raises(UnsupportedModel, match=f"heads cannot be divided among {ranks} ranks"):
        Division(0, ranks, count, kv)
