"""Whose job a worker takes next: tenants take turns, so one with many slow jobs holds up nobody but itself.

What it is for: `Turns` hands out whatever is lent, here compile workers. What may not enter: what is done with it.

The idea: a queue a tenant, served round robin. What runs is not interrupted, so a tenant waits for one job of each of
the others at most, however many they have sent.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

Lent = TypeVar("Lent")


class Turns(Generic[Lent]):
    """`take` and `give`, in one event loop. Who stops waiting leaves nothing behind."""

    def __init__(self) -> None:
        self._idle: deque[Lent] = deque()
        self._waiting: OrderedDict[str, deque[asyncio.Future[Lent]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._waiting.values())

    async def take(self, tenant: str) -> Lent:
        """One that nobody else has, when it is this tenant's turn."""
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[Lent] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given in the same moment
                self.give(turn.result())
            else:
                self._leave(tenant, turn)
            raise

    def give(self, lent: Lent) -> None:
        """To the next tenant in turn, or to whoever comes."""
        if not self._waiting:
            self._idle.append(lent)
            return
        tenant, queue = self._waiting.popitem(last=False)
        turn = queue.popleft()
        if queue:
            self._waiting[tenant] = queue  # behind all others
        if turn.done():  # cancelled a moment ago, and not gone yet
            self.give(lent)
        else:
            turn.set_result(lent)

    def _leave(self, tenant: str, turn: asyncio.Future[Lent]) -> None:
        queue = self._waiting.get(tenant)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[tenant]
