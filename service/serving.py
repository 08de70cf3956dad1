"""The server process: uvicorn around the application, with a drain that clients can rely on.

What it is for: `run(settings)`. On SIGTERM or Ctrl-C new requests are refused at once, running ones have `drain_s` to
finish and then end with an error event; a second signal ends promptly. What may not enter: routes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI

from engine.client import EngineClient
from service.app import create_app
from service.house import House
from service.logs import set_up
from service.routes.chat import EXAMPLE
from service.settings import Settings
from service.summary import summary

_CLOSING_S = 5.0  # after the drain, for the last events to be sent


def curl_line(host: str, port: int) -> str:
    """The line to copy: the README's, with this server's address."""
    where = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    return (
        f"curl -s http://{where}:{port}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-d '{json.dumps(EXAMPLE)}'"
    )


def run(settings: Settings, idle: Sequence[str] = ()) -> int:
    """Serves until told to stop; the exit status. `idle` are flags that were given and change nothing."""
    set_up(settings.log_level, settings.log_format)
    app = create_app(settings, EngineClient.start)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        uds=settings.uds or None,
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=round(settings.drain_s + _CLOSING_S),
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = Server(config, settings, app, idle)
    server.run()
    return 0 if server.started else 1


class Server(uvicorn.Server):
    """uvicorn's server that says when it is ready, and drains the house first."""

    def __init__(self, config: uvicorn.Config, settings: Settings, app: FastAPI, idle: Sequence[str] = ()) -> None:
        super().__init__(config)
        self._idle = idle
        self._settings = settings
        self._app = app
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Starts, then prints what to do with it."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            for line in summary(self._app.state.house, self._idle):
                sys.stdout.write(line + "\n")
            sys.stdout.write(self._welcome())
            sys.stdout.flush()

    def _welcome(self) -> str:
        names = ", ".join(self._settings.model_names)
        if self._settings.uds:
            return f"Formwork serves {names} on unix:{self._settings.uds}\n"
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"Formwork serves {names} on http://{host}:{port}; try:\n\n{curl_line(host, port)}\n\n"

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain; the second is uvicorn's own prompt end."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        house: House | None = getattr(self._app.state, "house", None)
        if house is not None and self._drain is None:
            house.gate.draining = True
            self._drain = asyncio.create_task(house.engine.close(0.0 if self.force_exit else self._settings.drain_s))
