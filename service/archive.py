"""Responses that are kept for a while, so that a conversation can go on by the id of its last answer.

What it is for: `/v1/responses` where `response_store_bytes` is set; nothing is kept otherwise. What may not enter: the
shapes of responses and items (service.dialects.responses).

The idea: an entry is whole, the conversation before the answer included, so that it needs no other one. It is JSON, so
its size is known. Over the limit the key that holds the most bytes loses the entry that it has not used for longest:
nobody can push out what another keeps by keeping more. All of it is gone when the process ends.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

_ENTRY_BYTES = 512  # of the entry itself: its id, its place in two tables


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer, and what it answered: a JSON object, and a JSON array of items."""

    response: bytes
    items: bytes

    @property
    def nbytes(self) -> int:
        return len(self.response) + len(self.items) + _ENTRY_BYTES


@dataclass(slots=True)
class _Shelf:
    """One key's entries, the one used last at the end."""

    entries: OrderedDict[str, Entry] = field(default_factory=OrderedDict)
    nbytes: int = 0


@dataclass(slots=True)
class Archive:
    """What all keys keep; at most `limit_bytes`, 0 for nothing."""

    limit_bytes: int
    nbytes: int = 0
    _shelves: dict[str, _Shelf] = field(default_factory=dict)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept here at all."""
        return self.limit_bytes > 0

    def put(self, tenant: str, name: str, entry: Entry) -> bool:
        """Keeps an entry; False if there is no room for it."""
        self.drop(tenant, name)
        if entry.nbytes > self.limit_bytes:
            return False
        shelf = self._shelves.setdefault(tenant, _Shelf())
        shelf.entries[name] = entry
        self._weigh(shelf, entry.nbytes)
        while self.nbytes > self.limit_bytes:
            largest = max(self._shelves, key=lambda each: self._shelves[each].nbytes)
            self.drop(largest, next(iter(self._shelves[largest].entries)))
        return name in shelf.entries

    def find(self, tenant: str, name: str) -> Entry | None:
        """The entry of this key, which is then the one used last."""
        shelf = self._shelves.get(tenant)
        if shelf is None or name not in shelf.entries:
            return None
        shelf.entries.move_to_end(name)
        return shelf.entries[name]

    def drop(self, tenant: str, name: str) -> bool:
        """Forgets an entry; False if there was none."""
        shelf = self._shelves.get(tenant)
        entry = shelf.entries.pop(name, None) if shelf is not None else None
        if shelf is None or entry is None:
            return False
        self._weigh(shelf, -entry.nbytes)
        if not shelf.entries:
            del self._shelves[tenant]
        return True

    def _weigh(self, shelf: _Shelf, more: int) -> None:
        shelf.nbytes += more
        self.nbytes += more
