"""The server process: uvicorn around the application, with a drain that clients can rely on.

What it is for: `run(settings)`, and what signals mean (`Server`). What may not enter: routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from engine.client import EngineClient, Supervision
from service.app import StartEngine, create_app
from service.cluster.launch import starting
from service.connections import ConnectionLimits, bounded
from service.front import front_of
from service.house import House
from service.logs import set_up
from service.routes.chat import EXAMPLE
from service.routes.health import metrics_app
from service.settings import Settings
from service.summary import summary

_CLOSING_S = 5  # after the drain, for the last events to be sent
_TICK_S = 0.05
_LOG = logging.getLogger(__name__)


def curl_line(host: str, port: int) -> str:
    """The line to copy: the README's, with this server's address."""
    where = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    return (
        f"curl -s http://{where}:{port}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-d '{json.dumps(EXAMPLE)}'"
    )


def run(settings: Settings, idle: Mapping[str, str]) -> int:
    """Serves until told to stop; the exit status. `idle` are flags and variables that change nothing, and why."""
    set_up(settings.log_level, settings.log_format)
    app = create_app(settings, _start_engine(settings))
    limits = ConnectionLimits(
        settings.max_connections, settings.head_limit_bytes, settings.head_timeout_s, front_of(app, settings)
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        uds=settings.uds or None,
        http=bounded(limits),
        ws="none",
        log_config=None,
        access_log=False,  # uvicorn's line has the query, where a key may stand; service.app writes its own
        server_header=False,
        timeout_graceful_shutdown=_CLOSING_S,
    )
    server = Server(config, settings, app, idle)
    server.run()
    return 0 if server.started or server.was_told_to_end else 1


def _start_engine(settings: Settings) -> StartEngine:
    """One engine beside this process, or replicas on a cluster."""
    if settings.replicas:
        return starting(settings)
    return partial(EngineClient.start, supervision=Supervision(silence_s=settings.engine_silence_s))


class Server(uvicorn.Server):
    """uvicorn's server that says when it is ready, and ends in steps.

    The first signal: new requests get a 503, /readyz says so, running requests have `drain_s`. The second: running
    requests end with an error event now. A third ends the process without waiting for anyone. While the model is still
    loading the first one ends the process.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings, app: FastAPI, idle: Mapping[str, str]) -> None:
        super().__init__(config)
        self._idle = idle
        self._settings = settings
        self._app = app
        self._signals = 0
        self._hurry = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._metrics: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def was_told_to_end(self) -> bool:
        return self._signals > 0

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Starts, then prints what to do with it."""
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.create_task(super().startup(sockets))  # type: ignore[arg-type]
        try:
            await self._starting
        except asyncio.CancelledError:  # by a signal; what was half built is taken down when the loop ends
            self.should_exit = True
            return
        if not self.started:
            return
        if self._settings.metrics_port:
            self._metrics = asyncio.create_task(serve_metrics(self._settings, self._app.state.house))
        for line in summary(self._app.state.house, self._idle):
            sys.stdout.write(line + "\n")
        sys.stdout.write(self._welcome())
        sys.stdout.flush()

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Ends what is left of connections, then the house."""
        if self._metrics is not None:
            self._metrics.cancel()
            await asyncio.gather(self._metrics, return_exceptions=True)
        await super().shutdown(sockets)  # type: ignore[arg-type]

    def _welcome(self) -> str:
        names = ", ".join(self._settings.model_names)
        if self._settings.uds:
            return f"Formwork serves {names} on unix:{self._settings.uds}\n"
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"Formwork serves {names} on http://{host}:{port}; try:\n\n{curl_line(host, port)}\n\n"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  (a signal handler's signature)
        """Counts the signal; see the class. uvicorn would raise it again at the end: ended as asked is no failure."""
        self._signals += 1
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._on_signal, self._signals)

    def _on_signal(self, number: int) -> None:
        if not self.started:
            assert self._starting is not None
            self._starting.cancel()
        elif number == 1:
            self._draining = asyncio.create_task(self._drain(self._app.state.house))
        elif number == 2:
            self._hurry.set()
        else:
            self.should_exit = self.force_exit = True

    async def _drain(self, house: House) -> None:
        """Lets running requests finish, ends those that do not, then lets the server end."""
        house.gate.draining = True
        _LOG.info("draining: %d requests have %g s", house.gate.inside, self._settings.drain_s)
        await self._emptied(house, self._settings.drain_s)
        await house.engine.close()  # each request that still runs gets an error event
        await self._emptied(house, _CLOSING_S, hurried=False)
        self.should_exit = True

    async def _emptied(self, house: House, wait_s: float, *, hurried: bool = True) -> None:
        """Until the house is empty, the time is over, or someone is in a hurry."""
        end = time.monotonic() + wait_s
        while house.gate.inside and time.monotonic() < end and not (hurried and self._hurry.is_set()):
            await asyncio.sleep(_TICK_S)


async def serve_metrics(settings: Settings, house: House) -> None:
    """/metrics and health on their own port, until cancelled."""
    config = uvicorn.Config(
        metrics_app(house),
        host=settings.metrics_host,
        port=settings.metrics_port,
        http=bounded(ConnectionLimits(64, settings.head_limit_bytes, settings.head_timeout_s)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Quiet(config)
    try:
        await server.serve()
    finally:
        server.should_exit = True


class _Quiet(uvicorn.Server):
    """A second server in one process: signals are the first one's."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
