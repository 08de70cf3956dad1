"""Mask rows that live on the device, found again by name or content.

What it is for: most masks of a step were seen before; those are already there, and a step sends their numbers. What
may not enter: grammars, what a mask means.

The idea: a row's key is what it is known by, if it has a name that never stands for anything else; else its content
(exactly, no digest). The table is bounded, and what was not used for longest makes room. A row in use in this step is
never overwritten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engine.masks import NO_NAMES, Names


class DeviceMasks:
    """`table`: (capacity + extra, words) int32 on the device. Rows from `capacity` on are the caller's own scratch."""

    def __init__(self, words: int, device: torch.device, capacity: int = 2048, extra: int = 256) -> None:
        self.capacity = capacity
        self.table = torch.zeros((capacity + extra, words), dtype=torch.int32, device=device)
        self.uploads = 0
        self._device = device
        self._places: OrderedDict[object, int] = OrderedDict()  # least recently used first

    def place(self, masks: NDArray[np.int32], wanted: Sequence[int], names: Names = NO_NAMES) -> dict[int, int]:
        """Where on the device each wanted row of `masks` lies; those that were missing are copied there at once.

        A step that wants more different rows than there is room for makes the table larger, and `capacity` with it.
        Does not wait for the device.
        """
        keys = {row: names[row] if row in names else masks[row].tobytes() for row in set(wanted)}
        if len(keys) > self.capacity:
            self._grow(len(keys))
        missing: dict[object, int] = {}
        for key in keys.values():
            if key in self._places:
                self._places.move_to_end(key)
        for row, key in keys.items():
            if key not in self._places:
                missing[key] = row
                self._places[key] = self._room()
        if missing:
            self._upload(masks, missing)
        return {row: self._places[key] for row, key in keys.items()}

    def _grow(self, capacity: int) -> None:
        """Known rows keep their places; the caller's scratch begins further on."""
        extra = len(self.table) - self.capacity
        larger = self.table.new_zeros((capacity + extra, self.table.shape[1]))
        larger[: self.capacity] = self.table[: self.capacity]
        self.table, self.capacity = larger, capacity

    def _room(self) -> int:
        if len(self._places) < self.capacity:
            return len(self._places)
        _, place = self._places.popitem(last=False)
        return place

    def _upload(self, masks: NDArray[np.int32], missing: dict[object, int]) -> None:
        rows = torch.from_numpy(masks[list(missing.values())])
        places = torch.tensor([self._places[key] for key in missing], dtype=torch.int64)
        if self._device.type == "cuda":
            rows, places = rows.pin_memory(), places.pin_memory()
        moved = rows.to(self._device, non_blocking=True), places.to(self._device, non_blocking=True)
        self.table.index_copy_(0, moved[1], moved[0])
        self.uploads += len(missing)
