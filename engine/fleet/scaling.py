"""How many replicas there should be: from what waits, what is held, and how long the wait is.

What it is for: `decide`, one pure step of the autoscaler. What may not enter: clocks, Ray, who starts replicas.

The idea: the number of running requests says little, for their lengths differ by orders of magnitude. Three numbers
say whether a newcomer will wait: prompt tokens queued, against what a replica computes in the time that a request may
queue; pages held, against those there are; and how long requests did queue. All three are nothing until a fleet is
nearly full, so a fourth keeps it from shrinking to that edge: the share of its speed that prompts take. The worst of
them is the pressure; at 1 the fleet is just large enough. Growth is quick (up to double) once pressure has lasted;
shrinking is slow and a step at a time, for a replica that is started anew loads weights first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Seconds and shares."""

    least: int = 1
    most: int = 1
    first_token_s: float = 2.0  # the promise; a request may queue for `queue_share` of it
    queue_share: float = 0.3
    page_share: float = 0.85  # of its pages, what a replica should hold at most
    busy_share: float = 0.6  # of its speed, what prompts should take of a replica
    rise: float = 1.0  # pressure above it for `rise_s` calls for more
    rise_s: float = 15.0
    fall: float = 0.5  # pressure below it for `fall_s` lets some go
    fall_s: float = 300.0
    fall_step: float = 0.1  # share of the fleet that may go at once, one at least


@dataclass(frozen=True, slots=True)
class Signal:
    """What one replica says."""

    queued_tokens: float = 0.0
    page_share: float = 0.0
    queue_s: float = 0.0  # median over the last minute
    busy: float = 0.0  # share of that rate which prompts take now
    prefill_rate: float = 0.0  # prompt tokens a second that it has been seen to compute; 0: not seen yet


@dataclass(frozen=True, slots=True)
class ScalingState:
    """Since when the pressure has been high, or low; None if it is not."""

    high_since: float | None = None
    low_since: float | None = None


def pressure(signals: Sequence[Signal], rules: ScalingRules) -> float:
    """1: the fleet is just large enough. O(replicas)."""
    if not signals:
        return 0.0
    patience_s = rules.first_token_s * rules.queue_share
    count = len(signals)
    rates = [signal.prefill_rate for signal in signals if signal.prefill_rate > 0]
    queued = sum(signal.queued_tokens for signal in signals)
    # Before anything is known of its speed, a queue is a reason to wait for the other two numbers.
    by_queue = queued / (sum(rates) / len(rates) * count * patience_s) if rates else 0.0
    by_pages = sum(signal.page_share for signal in signals) / count / rules.page_share
    by_wait = sum(signal.queue_s for signal in signals) / count / patience_s
    by_speed = sum(signal.busy for signal in signals) / count / rules.busy_share
    return max(by_queue, by_pages, by_wait, by_speed)


def decide(
    state: ScalingState, replicas: int, signals: Sequence[Signal], now: float, rules: ScalingRules
) -> tuple[ScalingState, int]:
    """The next state and the number of replicas that there should be. `replicas`: those wanted now.

    Nothing is decided while replicas are starting (fewer signals than replicas): the queue of now is what they come
    for, and calling for more once more because it is still there would double the fleet again and again.
    """
    floor, ceiling = max(1, rules.least), max(rules.least, rules.most)
    within = min(max(replicas, floor), ceiling)
    if within != replicas or len(signals) < replicas:
        return ScalingState(), within
    load = pressure(signals, rules)
    if load > rules.rise:
        since = now if state.high_since is None else state.high_since
        if now - since < rules.rise_s:
            return ScalingState(high_since=since), replicas
        return ScalingState(), min(ceiling, max(replicas + 1, ceil(replicas * min(load, 2.0))))
    if load < rules.fall:
        since = now if state.low_since is None else state.low_since
        if now - since < rules.fall_s:
            return ScalingState(low_since=since), replicas
        needed = ceil(replicas * load / rules.fall)
        return ScalingState(), max(floor, needed, replicas - max(1, int(replicas * rules.fall_step)))
    return ScalingState(), replicas


class PrefillRate:
    """What a replica computes of prompts in a second while some wait; measured, for it depends on machine and model."""

    def __init__(self, memory: float = 0.3) -> None:
        self._memory = memory
        self._last: tuple[float, int, int] | None = None  # time, tokens computed, tokens waiting
        self.tokens_per_s = 0.0  # 0: none has waited yet
        self.busy = 0.0  # share of that rate in the last stretch

    def note(self, now: float, computed: int, waiting: int) -> None:
        """`computed`: prompt tokens ever. A stretch counts if prompts waited at both of its ends."""
        last, self._last = self._last, (now, computed, waiting)
        if last is None or now <= last[0] or computed < last[1]:
            return
        rate = (computed - last[1]) / (now - last[0])
        self.busy = min(1.0, rate / self.tokens_per_s) if self.tokens_per_s else 0.0
        if not (waiting and last[2]):
            return
        weight = self._memory if self.tokens_per_s else 1.0
        self.tokens_per_s += weight * (rate - self.tokens_per_s)
