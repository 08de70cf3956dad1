"""Keys: where they come from, how tenants get their own, and which one is in use.

A key is 128 secret bits under an id that may be told to anyone. The ring holds several: the *active* one marks, all
of them are looked for, so rotating is adding a key and making it active. A tenant's key is derived from the ring's
(HKDF-SHA256, RFC 5869), so that one customer's detector says nothing about another's text. Secrets come from a file
or a variable, are never printed by anything in here, and no error repeats them.

File (TOML, or JSON of the same shape); secrets are hexadecimal, 16 bytes or more:

    active = "2026-11"
    [keys]
    "2026-11" = "5f0c…"
    "2026-08" = "a911…"     # no longer used, still detected
"""

import hashlib
import hmac
import json
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.errors import KeyRingError, UnknownKey

KEY_BYTES = 16
_SALT = b"formwork watermark key v1"


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF of RFC 5869 with SHA-256 (extract, then expand); `length` is at most 255 · 32."""
    pseudo_random_key = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    blocks = b""
    block = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.new(pseudo_random_key, block + info + bytes([counter]), hashlib.sha256).digest()
        blocks += block
    return blocks[:length]


@dataclass(frozen=True, slots=True)
class Key:
    """128 secret bits with a public name; printing one shows the name only."""

    id: str
    tenant: str | None
    words: NDArray[np.uint64] = field(repr=False, compare=False)
    """The key as SipHash reads it: two little-endian 64-bit words. Secret."""

    @classmethod
    def derive(cls, secret: bytes, *, id: str, tenant: str | None = None) -> "Key":
        """The key of (id, tenant) under a master secret of any length."""
        # A length before the id keeps ("a", "bc") and ("ab", "c") apart; the flag keeps no tenant from the empty name.
        name = id.encode()
        info = len(name).to_bytes(4, "big") + name + (b"\0" if tenant is None else b"\1" + tenant.encode())
        raw = hkdf_sha256(secret, salt=_SALT, info=info, length=KEY_BYTES)
        return cls(id, tenant, np.frombuffer(bytearray(raw), dtype="<u8"))


class KeyRing:
    """Named master secrets, one of them active; immutable."""

    def __init__(self, secrets_by_id: Mapping[str, bytes], active: str | None = None) -> None:
        if not secrets_by_id:
            raise KeyRingError("the key ring is empty: give at least one key")
        for key_id, secret in secrets_by_id.items():
            if not key_id or not key_id.isprintable():
                raise KeyRingError("a key id must be a printable, non-empty name")
            if len(secret) < KEY_BYTES:
                raise KeyRingError(f"key {key_id!r} has {len(secret)} bytes; {KEY_BYTES} or more are needed")
        self._secrets = dict(secrets_by_id)
        self._active = next(iter(self._secrets)) if active is None else active
        if self._active not in self._secrets:
            raise KeyRingError(
                f"the active key {self._active!r} is not in the ring ({', '.join(map(repr, self._secrets))})"
            )

    def __repr__(self) -> str:
        return f"KeyRing(ids={list(self._secrets)}, active={self._active!r})"

    @property
    def active(self) -> str:
        """The id of the key that marks new text."""
        return self._active

    @property
    def ids(self) -> tuple[str, ...]:
        """Every key that detection looks for."""
        return tuple(self._secrets)

    def key(self, key_id: str | None = None, tenant: str | None = None) -> Key:
        """The key of `tenant` under `key_id` (the active one if None)."""
        wanted = self._active if key_id is None else key_id
        if wanted not in self._secrets:
            raise UnknownKey(f"no watermark key {wanted!r}; known: {', '.join(map(repr, self._secrets))}")
        return Key.derive(self._secrets[wanted], id=wanted, tenant=tenant)

    def keys(self, tenant: str | None = None) -> tuple[Key, ...]:
        """All keys of `tenant`, the active one first."""
        rest = (key_id for key_id in self._secrets if key_id != self._active)
        return tuple(self.key(key_id, tenant) for key_id in (self._active, *rest))

    @classmethod
    def generated(cls, key_id: str = "generated") -> "KeyRing":
        """A ring of one fresh key that lives as long as the process: its text cannot be recognised afterwards."""
        return cls({key_id: secrets.token_bytes(32)})

    @classmethod
    def from_file(cls, path: Path | str) -> "KeyRing":
        """Read a ring from a TOML or JSON file (by suffix; TOML where there is none)."""
        place = Path(path)
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyRingError(f"cannot read the key file {place}: {error.__class__.__name__}") from None
        return _ring_from_table(_table_of(text, place), where=f"key file {place}")

    @classmethod
    def create_file(cls, path: Path | str, key_id: str = "first") -> "KeyRing":
        """Make a file (readable by its owner only) with one fresh key, and read it; an existing file is an error."""
        place = Path(path)
        try:
            # Created with its final mode: there is no moment at which others can open it.
            place.touch(mode=0o600, exist_ok=False)
            place.write_text(
                f'active = "{key_id}"\n\n[keys]\n"{key_id}" = "{secrets.token_hex(32)}"\n', encoding="utf-8"
            )
        except OSError as error:
            raise KeyRingError(f"cannot create the key file {place}: {error.__class__.__name__}") from None
        return cls.from_file(place)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], variable: str = "FORMWORK_WATERMARK_KEYS"
    ) -> "KeyRing | None":
        """Read `id:hex[,id:hex…]` (the first is active) from a variable of the mapping given; None if it is unset or
        empty.
        """
        value = environment.get(variable, "").strip()
        if not value:
            return None
        found: dict[str, bytes] = {}
        for number, entry in enumerate(value.split(","), start=1):
            key_id, colon, secret = entry.strip().partition(":")
            # The entry is not quoted: without its colon, what looks like an id may be the secret.
            if not colon:
                raise KeyRingError(f"{variable}: entry {number} is not of the form id:hex")
            if key_id in found:
                raise KeyRingError(f"{variable}: key {key_id!r} is given twice")
            found[key_id] = _secret_of(secret, key_id, variable)
        return cls(found)


def _table_of(text: str, place: Path) -> dict[str, Any]:
    try:
        table = json.loads(text) if place.suffix == ".json" else tomllib.loads(text)
    except ValueError:
        # The parser's own message may quote the line, and with it the secret.
        raise KeyRingError(
            f"the key file {place} is not valid {'JSON' if place.suffix == '.json' else 'TOML'}"
        ) from None
    if not isinstance(table, dict):
        raise KeyRingError(f"the key file {place} must hold a table with `keys` and `active`")
    return table


def _ring_from_table(table: Mapping[str, Any], where: str) -> KeyRing:
    unknown = sorted(set(table) - {"active", "keys"})
    if unknown:
        raise KeyRingError(f"{where}: unknown entry {unknown[0]!r}; only `active` and `keys` are read")
    keys, active = table.get("keys"), table.get("active")
    if not isinstance(keys, dict) or not (active is None or isinstance(active, str)):
        raise KeyRingError(f"{where}: `keys` must be a table of id to hexadecimal secret, `active` one of its ids")
    return KeyRing({key_id: _secret_of(secret, key_id, where) for key_id, secret in keys.items()}, active)


def _secret_of(secret: object, key_id: str, where: str) -> bytes:
    if not isinstance(secret, str):
        raise KeyRingError(f"{where}: the secret of {key_id!r} must be a string of hexadecimal digits")
    try:
        return bytes.fromhex(secret)
    except ValueError:
        raise KeyRingError(f"{where}: the secret of {key_id!r} is not hexadecimal") from None
