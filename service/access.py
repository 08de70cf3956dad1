"""Who may come in, for what, and how many at once.

What it is for: API keys with their scopes, each key's own limits, and the bound on requests in the house. What may not
enter: what requests do.

The idea: only keys' hashes are kept, and comparing hashes of equal length in constant time tells nothing about the key.
Keys are long and random (`formwork key` makes them), so one SHA-256 is enough. A request that is over a bound is told
so before any work was done for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec

from service.errors import Forbidden, KeyLimited, Overloaded, Unauthorized


class Scope(StrEnum):
    """What a key may be used for."""

    GENERATE = "generate"
    DETECT = "detect"
    ADMIN = "admin"  # metrics, adapters at run time


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key, as the file of keys has it. A limit that is None is the server's."""

    sha256: str
    name: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    requests_at_once: int | None = None
    requests_per_minute: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256 must be 64 hexadecimal digits: the hash of the key, not the key")
        if not self.scopes:
            raise ValueError("a key without scopes opens nothing")

    @property
    def tenant(self) -> str:
        """A name that tells nothing of the key."""
        return hashlib.sha256(b"tenant" + bytes.fromhex(self.sha256)).hexdigest()[:16]


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: list[KeyEntry]


def read_keys(path: str) -> list[KeyEntry]:
    """The `[[key]]` tables of a TOML file. Raises ValueError, naming what is wrong; it never quotes a value."""
    try:
        return msgspec.convert(tomllib.loads(Path(path).read_text("utf-8")), _KeyFile).key
    except (OSError, ValueError) as error:  # msgspec's and tomllib's errors are ValueErrors
        raise ValueError(f"the file of keys {path}: {error}") from None


def entry_of(key: str) -> KeyEntry:
    """A key that may do everything; `sha256:…` stands for the key with this hash."""
    prefix, _, digest = key.partition(":")
    return KeyEntry(sha256=digest if prefix == "sha256" else hashlib.sha256(key.encode()).hexdigest())


def make_key() -> str:
    """A new key: 256 random bits, recognisable in a leak."""
    return f"fw-{secrets.token_urlsafe(32)}"


class Keys:
    """The accepted API keys; none at all means that everyone may come in."""

    def __init__(self, entries: Iterable[KeyEntry]) -> None:
        self._entries = tuple((bytes.fromhex(entry.sha256), entry) for entry in entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def limits(self) -> dict[str, tuple[int | None, int | None]]:
        """Each tenant's own limits: requests at once, and a minute."""
        return {entry.tenant: (entry.requests_at_once, entry.requests_per_minute) for _, entry in self._entries}

    def admit(self, authorization: str | None, scope: Scope = Scope.GENERATE) -> str:
        """The tenant of a request by its Authorization header; raises Unauthorized or Forbidden."""
        if not self._entries:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("an API key is needed: send the header Authorization: Bearer <key>")
        given = hashlib.sha256(key.strip().encode()).digest()
        # Every hash is compared, so that the time does not tell which one it was.
        found = [entry for known, entry in self._entries if hmac.compare_digest(given, known)]
        if not found:
            raise Unauthorized("this API key is not known here")
        if scope not in found[0].scopes:
            raise Forbidden(f"this API key may not be used for this: it lacks the scope {scope}")
        return found[0].tenant


@dataclass(slots=True)
class _Account:
    """One key's use; `left` are the requests it may still send at `at`."""

    left: float
    at: float
    inside: int = 0


@dataclass(slots=True)
class Allowances:
    """Each key's own limits; 0 is none. Without keys there is nobody to limit. `own` goes before the common ones."""

    at_once: int
    per_minute: int
    clock: Callable[[], float] = time.monotonic
    own: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)
    refused: int = 0
    _accounts: dict[str, _Account] = field(default_factory=dict)

    def enter(self, tenant: str) -> None:
        """Counts one request of this key, or raises KeyLimited; each `enter` needs its `leave`."""
        at_once, per_minute = self._limits(tenant)
        if not tenant or not (at_once or per_minute):
            return
        account = self._refilled(tenant, per_minute)
        if at_once and account.inside >= at_once:
            self.refused += 1
            raise KeyLimited(f"this key may have {at_once} requests running at once", retry_after_s=1.0)
        if per_minute:
            if account.left < 1:
                self.refused += 1
                wait_s = (1 - account.left) * 60 / per_minute
                raise KeyLimited(f"this key may send {per_minute} requests a minute", retry_after_s=wait_s)
            account.left -= 1
        account.inside += 1

    def leave(self, tenant: str) -> None:
        if tenant in self._accounts:
            self._accounts[tenant].inside -= 1

    def _limits(self, tenant: str) -> tuple[int, int]:
        at_once, per_minute = self.own.get(tenant, (None, None))
        return self.at_once if at_once is None else at_once, self.per_minute if per_minute is None else per_minute

    def _refilled(self, tenant: str, per_minute: int) -> _Account:
        """The key's account now: what it may send comes back evenly over the minute."""
        now = self.clock()
        account = self._accounts.setdefault(tenant, _Account(per_minute, now))
        account.left = min(per_minute, account.left + (now - account.at) * per_minute / 60)
        account.at = now
        return account


_HALF_LIFE_S = 10.0


@dataclass(slots=True)
class Gate:
    """Counts requests in the house, and how many would be."""

    limit: int
    inside: int = field(default=0)
    refused: int = field(default=0)
    draining: bool = field(default=False)
    clock: Callable[[], float] = time.monotonic
    _came: float = 0.0  # of late: what is long over counts ever less
    _entered: float = 0.0
    _at: float = 0.0

    @property
    def is_shut(self) -> bool:
        """Whether `enter` would refuse now."""
        return self.draining or self.inside >= self.limit

    @property
    def crowd(self) -> float:
        """How many come for each one that is let in, of late; 1 where nobody is refused."""
        return max(1.0, (1 + self._came) / (1 + self._entered))

    def enter(self, retry_after_s: float) -> None:
        """Lets one request in, or raises Overloaded; each `enter` needs its `leave`."""
        self.check(retry_after_s)
        self._count(entered=True)
        self.inside += 1

    def check(self, retry_after_s: float) -> None:
        """Raises Overloaded where `enter` would now: before anything of the request is awaited."""
        if not self.is_shut:
            return
        self.refuse()
        if self.draining:
            raise Overloaded("the server is closing", retry_after_s=5.0)
        raise Overloaded(f"{self.limit} requests are being served", retry_after_s=retry_after_s)

    def refuse(self) -> None:
        """Counts one that is not let in."""
        self.refused += 1
        self._count(entered=False)

    def leave(self) -> None:
        self.inside -= 1

    def _count(self, *, entered: bool) -> None:
        now = self.clock()
        kept = 0.5 ** ((now - self._at) / _HALF_LIFE_S)
        self._at = now
        self._came = self._came * kept + 1
        self._entered = self._entered * kept + entered
