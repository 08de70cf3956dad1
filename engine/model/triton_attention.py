# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (Triton gives the kernels' arguments their types.)
# ruff: noqa: N803 - Triton names compile-time arguments in capitals
"""Paged attention in Triton, for what the flash kernels do not take: sinks, soft caps, ALiBi, keys wider than values.

What it is for: one kernel for decode and chunked prefill over the cache of `device_attention`, and one that combines
the parts of a text that was split. What may not enter: cache management, the choice between kernels.

The idea: a program takes one block of a sequence's queries with all heads that share a key head, so that keys are read
once for the group, and one part of the keys. Parts are cut at multiples of `SPLIT` keys from the text's first token and
keys go `BLOCK_N` at a time from there, so a row's order of additions does not depend on its neighbours. Where sequences
bring few tokens long texts thus keep many multiprocessors busy, and a token that is verified is computed as one that is
decoded; a prefill chunk has programs enough and is not split.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from engine.model.attention import AttentionCall
from engine.model.device_batch import DeviceBatch

SPLIT = 512  # keys of one part where sequences bring few tokens
_BLOCK_N = 64
_PREFILL_ROWS = 64


# Not specialised in what changes from step to step: a kernel would be compiled in the midst of serving.
@triton.jit(do_not_specialize=["window", "table_stride", "split", "parts"])
def _attend(  # noqa: C901, PLR0913, PLR0915, PLR0917
    query,
    keys,
    values,
    out,
    tops,
    totals,
    query_starts,
    context_lengths,
    page_table,
    block_sequences,
    block_firsts,
    sinks,
    slopes,
    scale,
    cap,
    window,
    table_stride,
    split,
    parts,
    heads,
    kv_heads,
    GROUP: tl.constexpr,
    KEY_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    block = tl.program_id(0)
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    sequence = tl.load(block_sequences + block)
    first_token = tl.load(block_firsts + block)
    start = tl.load(query_starts + sequence)
    count = tl.load(query_starts + sequence + 1) - start
    if first_token >= count:  # the launch has blocks for as many tokens as a sequence may bring
        return
    context = tl.load(context_lengths + sequence)

    row = tl.arange(0, BLOCK_M)
    token = first_token + row // GROUP
    head = kv_head * GROUP + row % GROUP
    live = (token < count) & (row < BLOCK_M // GROUP * GROUP)
    position = context - count + token
    k = tl.arange(0, BLOCK_K)
    v = tl.arange(0, BLOCK_V)
    place = ((start + token) * heads + head).to(tl.int64)
    q = tl.load(query + place[:, None] * KEY_DIM + k[None, :], mask=live[:, None] & (k < KEY_DIM)[None, :], other=0.0)

    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    if HAS_SINKS:  # noqa: SIM102 - the outer one is decided when the kernel is compiled
        if part == 0:
            top = tl.load(sinks + head, mask=live, other=0.0).to(tl.float32)
            total += 1.0
    mixed = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    slope = tl.zeros([BLOCK_M], tl.float32)
    if HAS_SLOPES:
        slope = tl.load(slopes + head, mask=live, other=0.0).to(tl.float32)

    last = tl.minimum(context - count + first_token + BLOCK_M // GROUP - 1, context - 1)
    begin = part * split
    end = tl.minimum(begin + split, last + 1)
    if begin >= end:  # the launch has parts for the longest text it may meet; `_combine` reads none beyond the context
        return
    if HAS_WINDOW:
        earliest = tl.maximum(context - count + first_token - window + 1, 0)
        begin = tl.maximum(begin, earliest // BLOCK_N * BLOCK_N)
    for at in range(begin, end, BLOCK_N):
        key = at + tl.arange(0, BLOCK_N)
        inside = key < end
        page = tl.load(page_table + sequence * table_stride + key // PAGE_SIZE, mask=inside, other=0).to(tl.int64)
        slot = (page * PAGE_SIZE + key % PAGE_SIZE) * kv_heads + kv_head
        kt = tl.load(
            keys + slot[None, :] * KEY_DIM + k[:, None], mask=inside[None, :] & (k < KEY_DIM)[:, None], other=0.0
        )
        score = tl.dot(q, kt.to(q.dtype), input_precision="ieee") * scale
        if HAS_CAP:
            double = tl.minimum(2.0 * score / cap, 80.0)
            score = cap * (1.0 - 2.0 / (tl.exp(double) + 1.0))
        if HAS_SLOPES:
            score += slope[:, None] * (key[None, :] - position[:, None]).to(tl.float32)
        seen = inside[None, :] & (key[None, :] <= position[:, None]) & live[:, None]
        if HAS_WINDOW:
            seen = seen & (key[None, :] > position[:, None] - window)
        score = tl.where(seen, score, float("-inf"))
        new_top = tl.maximum(top, tl.max(score, 1))
        # A row that has seen no key yet keeps -inf, whose difference with itself would be NaN.
        safe_top = tl.where(new_top == float("-inf"), 0.0, new_top)
        weight = tl.exp(score - safe_top[:, None])
        shrink = tl.exp(top - safe_top)
        total = total * shrink + tl.sum(weight, 1)
        vt = tl.load(
            values + slot[:, None] * VALUE_DIM + v[None, :], mask=inside[:, None] & (v < VALUE_DIM)[None, :], other=0.0
        )
        vt = vt.to(q.dtype)  # the cache may hold a narrower type
        mixed = mixed * shrink[:, None] + tl.dot(weight.to(vt.dtype), vt, input_precision="ieee")
        top = new_top

    wanted = live[:, None] & (v < VALUE_DIM)[None, :]
    if parts == 1:
        tl.store(
            out + place[:, None] * VALUE_DIM + v[None, :], (mixed / total[:, None]).to(out.dtype.element_ty), wanted
        )
    else:
        cell = place * parts + part
        tl.store(out + cell[:, None] * VALUE_DIM + v[None, :], mixed, wanted)
        tl.store(tops + cell, top, live)
        tl.store(totals + cell, total, live)


@triton.jit(do_not_specialize=["parts", "split"])
def _combine(  # noqa: PLR0913, PLR0917
    mixed,
    tops,
    totals,
    out,
    positions,
    owned,
    heads,
    parts,
    split,
    VALUE_DIM: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64)
    v = tl.arange(0, BLOCK_V)
    if place // heads >= tl.load(owned):  # no sequence owns the token, so nothing was written for it
        tl.store(out + place * VALUE_DIM + v, tl.zeros([BLOCK_V], out.dtype.element_ty), mask=v < VALUE_DIM)
        return
    used = tl.cdiv(tl.load(positions + place // heads) + 1, split)
    top = tl.load(tops + place * parts)
    total = tl.load(totals + place * parts)
    acc = tl.load(mixed + place * parts * VALUE_DIM + v, mask=v < VALUE_DIM, other=0.0)
    for part in range(1, used):
        cell = place * parts + part
        other = tl.load(tops + cell)
        new_top = tl.maximum(top, other)
        safe_top = tl.where(new_top == float("-inf"), 0.0, new_top)
        mine, its = tl.exp(top - safe_top), tl.exp(other - safe_top)
        total = total * mine + tl.load(totals + cell) * its
        acc = acc * mine + tl.load(mixed + cell * VALUE_DIM + v, mask=v < VALUE_DIM, other=0.0) * its
        top = new_top
    tl.store(out + place * VALUE_DIM + v, (acc / total).to(out.dtype.element_ty), mask=v < VALUE_DIM)


def triton_attention(call: AttentionCall, keys: torch.Tensor, values: torch.Tensor, batch: DeviceBatch) -> torch.Tensor:
    """(T, heads, value_dim); caches are (pages, page_size, kv_heads, dim)."""
    query = call.query.contiguous()
    count, heads, key_dim = query.shape
    page_size, kv_heads, value_dim = values.shape[1:]
    group = heads // kv_heads
    rows = block_rows(group, brief=batch.is_brief)
    sequences, firsts = batch.blocks(rows // group)
    parts = -(-batch.longest_context // SPLIT) if batch.is_brief else 1
    # Tokens that pad a step may belong to no sequence: what is said of them goes on through the model, and is finite.
    out = query.new_empty(count, heads, value_dim) if batch.is_decode else query.new_zeros(count, heads, value_dim)
    mixed, tops, totals = out, out, out  # unused unless the text is split
    if parts > 1:
        mixed = query.new_empty((count, heads, parts, value_dim), dtype=torch.float32)
        tops = query.new_empty((count, heads, parts), dtype=torch.float32)
        totals = torch.empty_like(tops)
    _attend[(sequences.shape[0], kv_heads, parts)](
        query,
        keys,
        values,
        mixed,
        tops,
        totals,
        batch.query_starts,
        batch.context_lengths,
        batch.page_table,
        sequences,
        firsts,
        query if call.sinks is None else call.sinks,
        query if call.slopes is None else call.slopes,
        call.scale,
        call.softcap or 1.0,
        call.window or 0,
        batch.page_table.stride(0),
        SPLIT if parts > 1 else batch.longest_context,
        parts,
        heads,
        kv_heads,
        GROUP=group,
        KEY_DIM=key_dim,
        VALUE_DIM=value_dim,
        PAGE_SIZE=page_size,
        HAS_CAP=bool(call.softcap),
        HAS_WINDOW=bool(call.window),
        HAS_SINKS=call.sinks is not None,
        HAS_SLOPES=call.slopes is not None,
        BLOCK_M=rows,
        BLOCK_N=_BLOCK_N,
        BLOCK_K=max(16, triton.next_power_of_2(key_dim)),
        BLOCK_V=max(16, triton.next_power_of_2(value_dim)),
    )
    if parts > 1:
        block_v = max(16, triton.next_power_of_2(value_dim))
        _combine[(count * heads,)](
            mixed,
            tops,
            totals,
            out,
            batch.positions,
            batch.query_starts[-1:],
            heads,
            parts,
            SPLIT,
            VALUE_DIM=value_dim,
            BLOCK_V=block_v,
        )
    return out


def block_rows(group: int, *, brief: bool) -> int:
    """Rows of one program: a power of two that holds at least one token's group, and 16, the least of a tensor core."""
    least = max(16, triton.next_power_of_2(group))
    return int(least if brief else max(least, _PREFILL_ROWS))
