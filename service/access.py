"""Who may come in, and how many at once.

What it is for: API keys, each key's own limits, and the bound on requests in the house. What may not enter: what
requests do.

The idea: only keys' hashes are kept, and comparing hashes of equal length in constant time tells nothing about the key.
A request that is over the bound is told so before any work was done for it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.errors import KeyLimited, Overloaded, Unauthorized


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
class _Account:
    """One key's use; `left` are the requests it may still send at `at`."""

    left: float
    at: float
    inside: int = 0


@dataclass(slots=True)
class Allowances:
    """Each key's own limits; 0 is none. Without keys there is nobody to limit."""

    at_once: int
    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _accounts: dict[str, _Account] = field(default_factory=dict)

    def enter(self, tenant: str) -> None:
        """Counts one request of this key, or raises KeyLimited; each `enter` needs its `leave`."""
        if not tenant or not (self.at_once or self.per_minute):
            return
        account = self._refilled(tenant)
        if self.at_once and account.inside >= self.at_once:
            raise KeyLimited(f"this key may have {self.at_once} requests running at once", retry_after_s=1.0)
        if self.per_minute:
            if account.left < 1:
                wait_s = (1 - account.left) * 60 / self.per_minute
                raise KeyLimited(f"this key may send {self.per_minute} requests a minute", retry_after_s=wait_s)
            account.left -= 1
        account.inside += 1

    def leave(self, tenant: str) -> None:
        if tenant in self._accounts:
            self._accounts[tenant].inside -= 1

    def _refilled(self, tenant: str) -> _Account:
        """The key's account now: what it may send comes back evenly over the minute."""
        now = self.clock()
        account = self._accounts.setdefault(tenant, _Account(self.per_minute, now))
        account.left = min(self.per_minute, account.left + (now - account.at) * self.per_minute / 60)
        account.at = now
        return account


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
