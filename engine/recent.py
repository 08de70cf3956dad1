"""Names of what the other side has been given, as far as they are remembered.

What it is for: whoever sends plans notes here which ones went, so that each goes once. What may not enter: plans.

The idea: clients choose how many there are, so the oldest are forgotten. That costs sending one again, no more.
"""

from __future__ import annotations

from collections import OrderedDict


class Recent:
    """A set of at most `most` names; the one not asked for longest goes first."""

    def __init__(self, most: int = 1 << 14) -> None:
        self._most = most
        self._names: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        if name not in self._names:
            return False
        self._names.move_to_end(name)
        return True

    def add(self, name: str) -> None:
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._most:
            self._names.popitem(last=False)

    def discard(self, name: str) -> None:
        self._names.pop(name, None)
