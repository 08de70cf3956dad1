"""The LoRA adapters in use, in a bounded number of slots.

What it is for: a request names an adapter by folder and version; it is loaded when the first request needs it, stays
while one uses it, and the least recently used of the others gives up its slot. What may not enter: what an adapter
computes (`engine.model.lora`), the names that clients use.
"""

from __future__ import annotations

from collections import OrderedDict

from engine.batch import AdapterSlots
from engine.errors import EngineOverloaded, InvalidRequest
from engine.messages import AdapterRef
from engine.model import ModelError


class AdapterStore:
    """`count` slots of a runner, for adapters of at most `most_rank`."""

    def __init__(self, runner: AdapterSlots, count: int, most_rank: int) -> None:
        self._runner = runner
        self._most_rank = most_rank
        self._free = list(range(count))
        self._slots: OrderedDict[str, int] = OrderedDict()  # by version, least recently used first
        self._users: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def open(self, adapter: AdapterRef) -> int:
        """The slot of an adapter, which stays loaded until `close`.

        Raises InvalidRequest for one that does not fit the model, EngineOverloaded where all slots are in use.
        """
        if adapter.version not in self._slots:
            self._load(adapter)
        self._slots.move_to_end(adapter.version)
        self._users[adapter.version] = self._users.get(adapter.version, 0) + 1
        return self._slots[adapter.version]

    def close(self, adapter: AdapterRef) -> None:
        """The request of one `open` has ended."""
        self._users[adapter.version] -= 1
        if not self._users[adapter.version]:
            del self._users[adapter.version]

    def _load(self, adapter: AdapterRef) -> None:
        slot = self._room()
        try:
            self._runner.load_adapter(slot, adapter.folder, self._most_rank)
        except ModelError as error:
            self._free.append(slot)
            raise InvalidRequest(f"adapter: {error}") from error
        except BaseException:
            self._free.append(slot)
            raise
        self._slots[adapter.version] = slot

    def _room(self) -> int:
        if self._free:
            return self._free.pop()
        idle = next((version for version in self._slots if version not in self._users), None)
        if idle is None:
            raise EngineOverloaded(
                f"all {len(self._slots)} adapter slots are in use" if self._slots else "this server holds no adapters"
            )
        slot = self._slots.pop(idle)
        self._runner.unload_adapter(slot)
        return slot
