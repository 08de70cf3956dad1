"""What crosses the pipe between the service and a compile worker.

What it is for: msgspec structs in length-prefixed frames; never pickle, since the worker reads hostile input and its
answers are trusted no more than that input. What may not enter: processes, grammars.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

LENGTH = struct.Struct(">I")


class Setup(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The first frame: the vocabulary and the limits."""

    tokens: list[bytes]
    eos_token_ids: list[int]
    special_tokens: dict[str, int] = {}
    memory_bytes: int
    cpu_s: float


class Compile(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    kind: str
    source: str  # JSON
    options: str  # JSON


class Replay(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Which of these tokens were free choices under this plan (None: nobody knows of a constraint)?"""

    plan: bytes | None
    tokens: list[int]
    context: int  # how many tokens of context each position is given at most


class ListWords(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Which texts does this regular expression match, if they are no more than `most`?"""

    regex: str
    most: int


class Listed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    words: list[str]


class Warm(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The worker is ready."""


class Compiled(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    fingerprint: str
    data: bytes
    least_budget: int
    nbytes: int
    compile_s: float
    explanation: Any


class Refused(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """A GrammarError, by the name of its class; `internal` is a defect of ours."""

    error: str
    message: str
    pointer: str = ""
    keyword: str | None = None
    reason: str | None = None


class Choices(msgspec.Struct, frozen=True, array_like=True):
    """The eligible positions of one reading, in columns: a long text has a quarter of a million of them."""

    places: bytes  # int32: which of the text's tokens
    widths: bytes  # uint8: how many tokens before it stand in the same value or prose, as far as was asked
    kinds: bytes  # uint8: `watermark.Kind`


class Replayed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """`readings`: the eligible positions by how the text was read: `constraint`, or else `json` and `text`.

    `illegal` is the index of the first token that the constraint does not allow.
    """

    readings: dict[str, Choices]
    illegal: int | None = None


Job = Compile | Replay | ListWords
Answer = Compiled | Refused | Replayed | Listed

encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(Setup | Compile | Replay | ListWords).decode
decode_answer = msgspec.msgpack.Decoder(Warm | Compiled | Refused | Replayed | Listed).decode


def frame(message: msgspec.Struct) -> bytes:
    """The message with its length before it."""
    data = encode(message)
    return LENGTH.pack(len(data)) + data
