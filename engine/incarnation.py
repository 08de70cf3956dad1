"""One life of the engine process, as its parent sees it.

What it is for: starting it, talking to it, noticing its end. What may not enter: requests, restarts. The secret and the
configuration go down a pipe; the socket lies in a folder that only this user can enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from engine.config import EngineConfig
from engine.messages import Command, Event
from engine.recent import Recent
from engine.wire import Launch, client_side

_GRACE_S = 5.0  # between asking and killing
_SECOND_LOOK_S = 0.5  # many times what a message takes from the socket to its reader


class Incarnation:
    """A running (or dying) engine process and the socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, socket: zmq.asyncio.Socket, secret: str) -> None:
        self._process = process
        self._socket = socket
        self._wire = client_side(secret)
        self._exit = asyncio.ensure_future(process.wait())
        self.grammars = Recent()  # fingerprints of plans sent to this life

    @classmethod
    async def begin(cls, config: EngineConfig, context: zmq.asyncio.Context, folder: Path, life: int) -> Incarnation:
        """Starts a process; its first event is Ready or Fatal. `life` counts the client's processes from 1."""
        secret = secrets.token_hex(16)
        address = f"ipc://{folder / secrets.token_hex(4)}"
        socket = context.socket(zmq.PAIR)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.bind(address)
        launch = Launch(config=config, address=address, secret=secret, life=life)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine", stdin=asyncio.subprocess.PIPE, env=_environment()
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(launch))
        process.stdin.close()
        return cls(process, socket, secret)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def send(self, command: Command) -> None:
        """Queues a command; never waits for the engine."""
        # Where the socket is closed, before or meanwhile, whoever waits for an answer learns of the death.
        with contextlib.suppress(zmq.ZMQError):
            try:
                await self._socket.send_multipart(self._wire.frames(command))
            except asyncio.CancelledError:  # a socket that is closed cancels what waits for it
                task = asyncio.current_task()
                if task is None or task.cancelling():  # it was the caller who was cancelled
                    raise

    async def events(self, silence_s: float) -> AsyncGenerator[Event, None]:
        """All events until the process ends or is silent for `silence_s`.

        If it was this process that stood still (stopped, suspended), what came meanwhile is not read yet when the time
        is over; so silence is believed at a second look only.
        """
        while True:
            receiving = asyncio.ensure_future(self._socket.recv_multipart())
            try:
                for patience_s in (silence_s, _SECOND_LOOK_S):
                    done, _ = await asyncio.wait(
                        {receiving, self._exit}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    if done:
                        break
            finally:
                if not receiving.done():
                    receiving.cancel()
            if receiving not in done:
                return
            event = self._wire.message(receiving.result())
            if event is not None:
                yield event

    async def wait(self, timeout_s: float) -> None:
        """Waits for the process to end by itself, for so long at most."""
        await asyncio.wait({self._exit}, timeout=timeout_s)

    async def end(self) -> None:
        """Kills what is left of it."""
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await asyncio.wait({self._exit}, timeout=_GRACE_S)
        self._socket.close(0)


def _environment() -> dict[str, str]:
    """The parent's, with this checkout or installation first on the path: `-m engine` must find this engine."""
    here = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here if not path else f"{here}{os.pathsep}{path}"}
