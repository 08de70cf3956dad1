"""Who is admitted next: by priority, then fairly between tenants, then first come, first served.

What it is for: the requests that hold no pages. What may not enter: pages, batches, clocks.

The idea: start-time fair queueing. Each tenant has a virtual time that grows with the tokens computed for it; the
waiting tenant that is furthest behind goes next. A tenant that was idle starts at the time of those who were not, so
that absence saves nothing up.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from engine.sequence import Sequence


class WaitingQueue:
    """At most `most` sequences wait; preempted ones come back beyond that bound, for they were admitted once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lanes: dict[str, list[Sequence]] = {}  # most urgent first; no empty lanes
        self._served: dict[str, float] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        for lane in self._lanes.values():
            yield from lane

    @property
    def is_full(self) -> bool:
        return self._length >= self._most

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence into its tenant's lane, by urgency."""
        lane = self._lanes.get(sequence.tenant)
        if lane is None:
            lane = self._lanes[sequence.tenant] = []
            self._served[sequence.tenant] = max(self._served.get(sequence.tenant, 0.0), self._now(sequence.tenant))
        bisect.insort(lane, sequence, key=lambda other: other.urgency)
        self._length += 1

    def charge(self, tenant: str, tokens: int) -> None:
        """Notes that so many tokens were computed for a tenant."""
        self._served[tenant] = self._served.get(tenant, 0.0) + tokens

    def peek(self) -> Sequence | None:
        """Who is next."""
        if not self._lanes:
            return None
        return min(
            (lane[0] for lane in self._lanes.values()),
            key=lambda head: (-head.priority, self._served[head.tenant], head.arrival),
        )

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that waits here."""
        lane = self._lanes[sequence.tenant]
        lane.remove(sequence)
        self._length -= 1
        if not lane:
            del self._lanes[sequence.tenant]

    def forget_idle(self, active: set[str]) -> None:
        """Drops the books of tenants that neither wait nor run, so that they do not pile up."""
        for tenant in [name for name in self._served if name not in active and name not in self._lanes]:
            del self._served[tenant]

    def _now(self, newcomer: str) -> float:
        others = [self._served[tenant] for tenant in self._lanes if tenant != newcomer]
        return min(others, default=0.0)
