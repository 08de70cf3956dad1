"""Bytes that come back from a disk or another process: what wrote them, in which form, and whether they are whole.

Nothing here is executed or trusted: a wrong kind, version or checksum is a GrammarError, and the caller makes the value
anew. Where such bytes are kept, and how many, is the service's business.
"""

import hashlib
from typing import Final

from grammar.errors import GrammarError

_MAGIC: Final = b"formwork"
_DIGEST: Final = 16


def seal(kind: bytes, version: int, payload: bytes) -> bytes:
    """The payload behind its kind, version and checksum."""
    head = _MAGIC + len(kind).to_bytes(1, "big") + kind + version.to_bytes(2, "big")
    return head + _checksum(head, payload) + payload


def unseal(kind: bytes, version: int, data: bytes) -> bytes:
    """The payload of what `seal` made; GrammarError for anything else."""
    head = _MAGIC + len(kind).to_bytes(1, "big") + kind + version.to_bytes(2, "big")
    if data[: len(head)] != head:
        raise GrammarError(f"these bytes are no {kind.decode()} of version {version}")
    payload = data[len(head) + _DIGEST :]
    if data[len(head) : len(head) + _DIGEST] != _checksum(head, payload):
        raise GrammarError(f"these bytes are a damaged {kind.decode()}")
    return payload


def _checksum(head: bytes, payload: bytes) -> bytes:
    digest = hashlib.blake2b(head, digest_size=_DIGEST)
    digest.update(payload)
    return digest.digest()
