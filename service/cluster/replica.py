"""What runs on a Ray cluster: one engine with all its ranks, and the socket on which it can be used.

What it is for: `EngineReplica`, the class that Ray Serve deploys. What may not enter: Ray's own calls beyond the handle
it is given, so that the class can be tested without a cluster.

Its life: it loads the model (Serve waits), announces itself, serves until Serve takes it down, then drains: it leaves
the directory, lets streams end for `drain_s`, and hands the rest back to be continued elsewhere.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import zmq

from engine.checkpoint import locate
from engine.client import EngineClient, Supervision
from engine.config import EngineConfig
from engine.fleet.host import Host
from engine.fleet.messages import KeyPair
from engine.fleet.scaling import PrefillRate
from engine.interface import EngineState
from service import logs
from service.cluster.directory import ANNOUNCE_S
from service.cluster.spec import ReplicaSpec

logger = logging.getLogger(__name__)

_DIRECTORY_S = 5.0  # for one answer of the directory
_CLOSING_S = 2.0


class EngineReplica:
    """Built by Ray Serve in its event loop: `spec` is a ReplicaSpec in JSON, `directory` a handle on the directory.

    `interface`: the address to listen on; empty: the one by which Ray knows this machine.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, spec: bytes, directory: Any, interface: str
    ) -> None:
        self._ended = True  # while nothing has begun
        self._spec = told = msgspec.json.decode(spec, type=ReplicaSpec)
        logs.set_up(told.log_level, "json" if told.log_format == "json" else "text")
        self._directory = directory
        self._name = f"replica-{secrets.token_hex(6)}"
        self._rate = PrefillRate()
        self._key_file = _kept(told.key_ring)
        supervision = Supervision(silence_s=told.silence_s)
        self._engine = await EngineClient.start(await asyncio.to_thread(_here, told, self._key_file), supervision)
        keys = make_keys()
        self._host = Host(self._engine, keys, told.client_key)
        self._address = await self._host.start(interface or _own_address())
        self._public_key = keys.public
        self._announcer = asyncio.create_task(self._announce())
        self._ended = False
        logger.info("%s serves at %s", self._name, self._address)

    async def check_health(self) -> None:
        """Raises what makes Serve replace this replica: an engine that was given up, a socket that nobody reads."""
        if self._engine.state in (EngineState.BROKEN, EngineState.CLOSED):
            raise RuntimeError(f"the engine is {self._engine.state}")
        if not self._host.is_serving:
            raise RuntimeError("the socket's task has ended")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For `service.cluster.autoscaling`."""
        stats = self._engine.stats
        self._rate.note(time.monotonic(), stats.prefill_tokens, stats.queued_tokens)
        return {
            "queued_tokens": float(stats.queued_tokens),
            "page_share": stats.pages_used / max(1, stats.pages_total),
            "queue_s": stats.queue_s_p50,
            "busy": self._rate.busy,
            "prefill_rate": self._rate.tokens_per_s,
        }

    async def whoami(self) -> dict[str, Any]:
        """Its name, and the processes that make it up: for operators and fault tests."""
        return {"name": self._name, "pid": os.getpid(), "engine_pid": self._engine.pid, "address": self._address}

    async def drain(self) -> None:
        """Ends without a loss: see the module."""
        self._ended = True
        self._announcer.cancel()
        try:
            await asyncio.wait_for(self._directory.retract.remote(self._name), _DIRECTORY_S)
        except Exception as error:  # it forgets us by itself, and our reports say that we are going
            logger.info("the directory was not told of the end: %s", error)
        await self._host.drain(self._spec.drain_s)
        await self._engine.close(_CLOSING_S)
        await self._host.close()
        if self._key_file is not None:
            self._key_file.unlink(missing_ok=True)

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        """Serve's name for `drain`: it calls this when the replica is taken down, and awaits what it gets.

        The collector calls it again later, and awaits nothing: by then there is nothing to do.
        """
        return None if self._ended else self.drain()

    async def _announce(self) -> None:
        while True:
            try:
                told = self._directory.announce.remote(self._name, self._address, self._public_key)
                await asyncio.wait_for(told, _DIRECTORY_S)
            except Exception as error:  # it is being restarted; those who know this replica go on using it
                logger.warning("the directory does not answer: %s", error)
            await asyncio.sleep(ANNOUNCE_S)


def _own_address() -> str:
    """Of this machine, as Ray's other machines reach it."""
    address: str = importlib.import_module("ray.util").get_node_ip_address()
    return address


def make_keys() -> KeyPair:
    """A new pair of CURVE keys."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def _here(spec: ReplicaSpec, key_file: Path | None) -> EngineConfig:
    """The configuration with this machine's paths: the folder as named, else fetched by its name."""
    folder: Path | str = spec.config.model
    if not Path(folder).is_dir():
        folder = locate(spec.model, spec.revision, code=spec.config.trust_remote_code)
    key_path = None if key_file is None else str(key_file)
    return msgspec.structs.replace(spec.config, model=str(folder), watermark_key_file=key_path)


def _kept(key_ring: bytes | None) -> Path | None:
    """The key ring in a file that only this user can read, as the engine wants it."""
    if key_ring is None:
        return None
    descriptor, path = tempfile.mkstemp(prefix="formwork-keys-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(key_ring)
    return Path(path)
