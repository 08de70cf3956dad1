"""Who may come in, and how many at once.

What it is for: API keys and the bound on requests in the house. What may not enter: what requests do.

The idea: only keys' hashes are kept, and comparing hashes of equal length in constant time tells nothing about the key.
A request that is over the bound is told so before any work was done for it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.errors import Overloaded, Unauthorized


class Keys:
    """The accepted API keys; none at all means that everyone may come in."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def admit(self, authorization: str | None) -> str:
        """The tenant of a request by its Authorization header: a name that tells nothing of the key."""
        if not self._hashes:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("an API key is needed: send the header Authorization: Bearer <key>")
        given = hashlib.sha256(key.strip().encode()).digest()
        # Every hash is compared, so that the time does not tell which one it was.
        matches = [hmac.compare_digest(given, known) for known in self._hashes]
        if not any(matches):
            raise Unauthorized("this API key is not known here")
        return hashlib.sha256(b"tenant" + given).hexdigest()[:16]


@dataclass(slots=True)
class Gate:
    """Counts requests in the house."""

    limit: int
    inside: int = field(default=0)
    refused: int = field(default=0)
    draining: bool = field(default=False)

    def enter(self, queue_s: float) -> None:
        """Lets one request in, or raises Overloaded; each `enter` needs its `leave`."""
        if self.draining:
            self.refused += 1
            raise Overloaded("the server is closing", retry_after_s=5.0)
        if self.inside >= self.limit:
            self.refused += 1
            raise Overloaded(f"{self.limit} requests are being served", retry_after_s=max(1.0, 2 * queue_s))
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1
