"""The wire between a place where requests arrive and a replica: the engine's own messages, and four of its own.

What it is for: the only values that cross the TCP socket. msgspec checks every field when it decodes; nothing is ever
unpickled. What may not enter: behaviour, sockets.

A conversation: Hello, Welcome; then commands one way, events the other, and a sign of life from both sides several
times a second (Ping, Report; Pulse where several peers share a replica). Whoever is not known (the host has given it
up, or the connection broke and came back) is told so by Stranger, and begins again: what was lost in between is then
sent again, not guessed.
"""

from __future__ import annotations

import msgspec

from engine.interface import Continuity, EngineState
from engine.messages import Abort, Batch, Generate, LoadGrammar, ModelInfo, Ping, Stats

PROTOCOL = 2


class Member(msgspec.Struct, frozen=True):
    """Where a replica can be reached."""

    name: str
    address: str  # tcp://host:port
    public_key: str  # CURVE, in Z85; whoever answers there must hold the secret one


class KeyPair(msgspec.Struct, frozen=True):
    """CURVE keys in Z85."""

    public: str
    secret: str


class Hello(msgspec.Struct, frozen=True, tag=True):
    protocol: int = PROTOCOL


class Welcome(msgspec.Struct, frozen=True, tag=True):
    info: ModelInfo
    protocol: int = PROTOCOL


class Report(msgspec.Struct, frozen=True, tag=True):
    """How the replica is, several times a second."""

    state: EngineState
    stats: Stats
    continuity: Continuity
    blocks: list[int] = []  # of the prompts that came since the last report (engine.fleet.routing), whoever sent them
    grammars: list[str] = []  # likewise, fingerprints


class Pulse(msgspec.Struct, frozen=True, tag=True):
    """What is there now, some milliseconds after it changed: what other peers send is otherwise known too late."""

    sequences: int
    queued_tokens: int  # of prompts from which nothing has come yet


class Stranger(msgspec.Struct, frozen=True, tag=True):
    """Whoever speaks is not known here."""


PeerMessage = Hello | Generate | LoadGrammar | Abort | Ping
HostMessage = Batch | Welcome | Report | Pulse | Stranger
