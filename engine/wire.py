"""How messages cross the socket between the API process and the engine process.

What it is for: both ends' frames. A message is two frames: the launch's secret, and MessagePack. What does not begin
with the secret, or is no message of the expected kind, is dropped and logged; nothing is ever unpickled. What may not
enter: what messages mean.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from engine.config import EngineConfig
from engine.messages import Command, Event

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine process reads from its standard input, once."""

    config: EngineConfig
    address: str  # of the socket that the API process has bound
    secret: str
    life: int = 1  # the how manieth process of its client
    beat_s: float = 0.25  # at most so long without a sign of life while idle


class Wire(Generic[T]):
    """Encodes anything, decodes messages of one kind."""

    def __init__(self, secret: str, kind: Any) -> None:
        self._secret = secret.encode()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def frames(self, message: Any) -> list[bytes]:
        """The frames of one message."""
        return [self._secret, self._encoder.encode(message)]

    def message(self, frames: Sequence[bytes]) -> T | None:
        """The message in these frames; None if they are not for us."""
        if len(frames) != 2 or not hmac.compare_digest(frames[0], self._secret):
            logger.warning("dropped %d frames without the secret of this launch", len(frames))
            return None
        try:
            decoded: T = self._decoder.decode(frames[1])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # text that is no UTF-8 is a ValueError
            logger.warning("dropped a malformed message: %s", error)
            return None
        return decoded


def engine_side(secret: str) -> Wire[Command]:
    """For the engine process: it receives commands."""
    return Wire(secret, Command)


def client_side(secret: str) -> Wire[Event]:
    """For the API process: it receives events."""
    return Wire(secret, Event)
