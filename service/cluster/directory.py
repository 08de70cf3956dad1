"""Where the replicas are: a list that they keep alive themselves.

What it is for: `Directory` runs as a Serve deployment of one; replicas announce themselves every few seconds, and the
service asks. What may not enter: requests, loads.

The idea: soft state. Nothing is stored; a directory that is restarted has filled again after one round of
announcements, and says until then that it does not know.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ANNOUNCE_S = 1.0
_FORGET_S = 5.0  # after the last announcement


class Directory:
    """One for each application. Names, addresses and keys are strings, so that any Ray version carries them."""

    def __init__(self, deployed: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._deployed = deployed
        self._clock = clock
        self._began = clock()
        self._seen: dict[str, tuple[float, tuple[str, str]]] = {}

    def deployed(self) -> str:
        """A hash of all that was deployed with this directory: who would deploy the same need not."""
        return self._deployed

    def announce(self, name: str, address: str, public_key: str) -> None:
        """The replica is there; to be repeated every `ANNOUNCE_S`."""
        self._seen[name] = (self._clock(), (address, public_key))

    def retract(self, name: str) -> None:
        """The replica takes no new requests."""
        self._seen.pop(name, None)

    def members(self) -> list[tuple[str, str, str]] | None:
        """Name, address and public key of each; None while this process is too young to know."""
        now = self._clock()
        self._seen = {name: entry for name, entry in self._seen.items() if now - entry[0] < _FORGET_S}
        if now - self._began < 2 * ANNOUNCE_S and not self._seen:
            return None
        return [(name, *entry) for name, (_, entry) in self._seen.items()]
