"""The compiled kernels against attention as the papers write it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import StepBatch
from engine.model import BrokenModel
from engine.model.attention import AttentionCall
from engine.model.cpu_attention import CpuBackend
from engine.model.memory import LayerShape
from tests.oracles.dense_attention import dense_attention

_PAGES = 16


def _one_sequence(query: int, context: int, page_size: int, rng: np.random.Generator) -> StepBatch:
    pages = rng.permutation(_PAGES)[: -(-context // page_size)].astype(np.int32)
    positions = np.arange(context - query, context, dtype=np.int64)
    return StepBatch(
        token_ids=np.zeros(query, np.int64),
        positions=positions,
        query_starts=np.array([0, query], np.int32),
        context_lengths=np.array([context], np.int32),
        page_table=pages[None],
        slots=pages[positions // page_size].astype(np.int64) * page_size + positions % page_size,
        logit_rows=np.zeros(0, np.int64),
    )


def _check(
    shape: LayerShape,
    group: int,
    context: int,
    *,
    cuts: tuple[int, ...] = (),
    window: int | None = None,
    softcap: float | None = None,
    sinks: bool = False,
    slopes: bool = False,
    threads: int = 1,
    stored: torch.dtype = torch.float32,
) -> None:
    """A sequence of `context` tokens, cut into chunks, against the oracle, which sees keys and values as stored."""
    rng = np.random.default_rng(context)
    heads = shape.kv_heads * group
    query = rng.standard_normal((context, heads, shape.key_dim)).astype(np.float32)
    key = rng.standard_normal((context, shape.kv_heads, shape.key_dim)).astype(np.float32)
    value = rng.standard_normal((context, shape.kv_heads, shape.value_dim)).astype(np.float32)
    sink = rng.standard_normal(heads).astype(np.float32) if sinks else None
    slope = (2.0 ** -rng.integers(1, 6, heads)).astype(np.float32) if slopes else None
    backend = CpuBackend([shape], _PAGES, 16, threads, stored)
    whole = _one_sequence(context, context, 16, rng)
    borders = (0, *cuts, context)
    parts = []
    for begin, end in pairwise(borders):
        part = StepBatch(
            token_ids=whole.token_ids[begin:end],
            positions=whole.positions[begin:end],
            query_starts=np.array([0, end - begin], np.int32),
            context_lengths=np.array([end], np.int32),
            page_table=whole.page_table,
            slots=whole.slots[begin:end],
            logit_rows=whole.logit_rows,
        )
        call = AttentionCall(
            layer=0,
            query=torch.from_numpy(query[begin:end]),
            key=torch.from_numpy(key[begin:end]),
            value=torch.from_numpy(value[begin:end]),
            scale=0.3,
            window=window,
            softcap=softcap,
            sinks=None if sink is None else torch.from_numpy(sink),
            slopes=None if slope is None else torch.from_numpy(slope),
        )
        parts.append(backend.step(part).attend(call).numpy())
    got = np.concatenate(parts)
    key, value = (torch.from_numpy(each).to(stored).float().numpy() for each in (key, value))

    for token in range(context):
        for head in range(heads):
            want = dense_attention(
                query[token, head].astype(np.float64),
                key[:, head // group].astype(np.float64),
                value[:, head // group].astype(np.float64),
                token,
                scale=0.3,
                window=window,
                cap=softcap,
                sink=None if sink is None else float(sink[head]),
                slope=0.0 if slope is None else float(slope[head]),
            )
            np.testing.assert_allclose(got[token, head], want, atol=2e-6)


@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 31, 32, 33, 40, 41])
def test_a_sliding_window_is_exact_at_its_edges(window: int) -> None:
    """Windows around one and two blocks of sixteen, and around the whole text."""
    _check(LayerShape(1, 8, 8), 2, 40, cuts=(17, 18), window=window)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7, 8, 9, 12])
def test_every_way_to_tile_grouped_heads_is_right(group: int) -> None:
    """Rows go through the loops eight, four, three, two or one at a time."""
    _check(LayerShape(1, 6, 5), group, 19, cuts=(18,))


def test_keys_and_values_may_differ_in_width() -> None:
    """As in multi-head latent attention; the key's width may be odd."""
    _check(LayerShape(2, 7, 20), 1, 35, cuts=(16, 32))


def test_sinks_take_part_in_the_softmax_only() -> None:
    """They lower every weight and add no value."""
    _check(LayerShape(1, 8, 8), 4, 20, sinks=True, window=5)


def test_soft_caps_and_slopes_are_applied_in_order() -> None:
    """Scale, cap, then ALiBi."""
    _check(LayerShape(1, 8, 8), 2, 33, softcap=0.7, slopes=True, cuts=(32,))


def test_threads_share_the_work() -> None:
    """More threads than heads is allowed."""
    _check(LayerShape(2, 8, 8), 2, 20, cuts=(19,), threads=3)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 9])
def test_narrow_keys_and_values_lose_nothing_but_their_own_rounding(stored: torch.dtype, group: int) -> None:
    """Arithmetic stays float32: as exact as ever over the rounded keys and values, odd widths and windows included."""
    _check(LayerShape(2, 7, 20), group, 35, cuts=(16, 34), window=20, sinks=True, stored=stored)


@settings(max_examples=15, deadline=None)
@given(
    context=st.integers(1, 50),
    group=st.integers(1, 9),
    kv_heads=st.integers(1, 3),
    dim=st.integers(1, 40),
    window=st.none() | st.integers(1, 60),
    data=st.data(),
)
def test_any_shape_and_any_chunks_match_the_oracle(
    context: int, group: int, kv_heads: int, dim: int, window: int | None, data: st.DataObject
) -> None:
    """Widths, groups, windows and cuts drawn at random."""
    cuts = tuple(sorted(data.draw(st.sets(st.integers(1, context - 1), max_size=4)))) if context > 1 else ()
    _check(LayerShape(kv_heads, dim, dim), group, context, cuts=cuts, window=window)


def test_a_step_without_sequences_of_one_kind_is_fine() -> None:
    """Contexts of 1 and of many pages side by side come out as alone."""
    rng = np.random.default_rng(0)
    shape = LayerShape(1, 8, 8)
    backend = CpuBackend([shape], _PAGES, 16, 1)
    alone = backend.step(_one_sequence(1, 1, 16, rng))
    q = torch.randn(1, 1, 8)
    out = alone.attend(AttentionCall(0, q, q, q, 1.0))
    torch.testing.assert_close(out, q)


def test_a_page_size_that_is_no_multiple_of_sixteen_is_refused() -> None:
    """The message says what would do."""
    with pytest.raises(BrokenModel, match="multiple of 16"):
        CpuBackend([LayerShape(1, 8, 8)], 4, 24, 1)
