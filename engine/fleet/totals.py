"""The counters of several engines as those of one, for metrics that know one engine only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from engine.interface import Continuity
from engine.messages import ModelInfo, Spread, Stats

_TYPICAL = frozenset({"queue_s_p50"})  # a fleet's is the median of its replicas', all else adds up
_OWN = frozenset({"nonce", "batches"})


def total_stats(each: Sequence[Stats]) -> Stats:
    """Sums; the median of medians."""
    if not each:
        return Stats(engines=0)
    names = [name for name in Stats.__struct_fields__ if name not in _OWN]
    found = {name: (median if name in _TYPICAL else sum)(getattr(stats, name) for stats in each) for name in names}
    return msgspec.structs.replace(Stats(), **found, batches=_added(stats.batches for stats in each))


def total_continuity(each: Iterable[Continuity]) -> Continuity:
    """Sums."""
    known = list(each)
    return Continuity(**{name: sum(getattr(one, name) for one in known) for name in Continuity.__struct_fields__})


def common_info(each: Sequence[ModelInfo]) -> ModelInfo:
    """What holds on every replica: the smallest cache is what a request may count on. `each` is not empty."""
    return min(each, key=lambda info: (info.pages * info.page_size, info.max_positions))


def is_same_model(one: ModelInfo, other: ModelInfo) -> bool:
    """Whether a request may go from one to the other in mid-stream."""
    names = ("model_type", "vocab_size", "eos_token_ids", "dtype", "parameters")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _added(each: Iterable[dict[str, Spread]]) -> dict[str, Spread]:
    found: dict[str, Spread] = {}
    for batches in each:
        for name, spread in batches.items():
            before = found.get(name, Spread([0] * len(spread.counts), 0.0))
            counts = [one + other for one, other in zip(before.counts, spread.counts, strict=True)]
            found[name] = Spread(counts, before.total + spread.total)
    return found
