"""The engine as the API process sees it: requests in, tokens out, whatever becomes of the process behind it.

What it is for: implements `engine.Engine` over an engine process. The API process owns each request: its prompt, its
seed, the tokens it has received. So when the process dies or hangs, another is started and every live request is sent
again with what it has; the stream goes on behind its last token. What may not enter: torch, HTTP, scheduling.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq.asyncio

from engine.config import EngineConfig
from engine.continued import Continued
from engine.errors import EngineDied, EngineError, EngineKilled, EngineUnavailable, InternalError, error_of
from engine.incarnation import Incarnation
from engine.interface import Continuity, EngineState
from engine.messages import (
    Abort,
    Batch,
    ErrorCode,
    Event,
    Failure,
    Fatal,
    Generate,
    LoadGrammar,
    ModelInfo,
    Output,
    Plan,
    Ready,
    Shutdown,
    Stats,
)
from engine.suspects import Quarantine, Suspects, refused_for

logger = logging.getLogger(__name__)


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the supervisor is."""

    start_s: float = 600.0  # for loading the model
    silence_s: float = 60.0  # without a sign of life: hung
    most_resumptions: int = 2  # of one request
    crashes: int = 5  # within `window_s`: the breaker opens
    window_s: float = 120.0
    cool_s: float = 30.0  # the breaker stays open so long, then one more start is tried
    quarantine_s: float = 300.0  # what killed the process alone is refused so long


@dataclass(slots=True, eq=False)
class _Live:
    """A request that has not ended."""

    continued: Continued
    plan: Plan | None
    inbox: asyncio.Queue[Output | EngineError] = field(default_factory=asyncio.Queue)
    sent: bool = False  # to the current life
    resumptions: int = 0
    plan_resent: bool = False


class EngineClient:
    """Made by `start`; one per event loop."""

    def __init__(self, config: EngineConfig, supervision: Supervision) -> None:
        self._config = config
        self._supervision = supervision
        self._folder = Path(tempfile.mkdtemp(prefix="formwork-"))  # mode 0700
        self._context = zmq.asyncio.Context()
        self._life: Incarnation | None = None
        self._live: dict[str, _Live] = {}
        self._state = EngineState.STARTING
        self._info: ModelInfo | None = None
        self._stats = Stats()
        self._continuity = Continuity()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._crashes: list[float] = []
        self._suspects = Suspects()
        self._quarantine = Quarantine(supervision.quarantine_s)
        self._supervisor: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, config: EngineConfig, supervision: Supervision | None = None) -> EngineClient:
        """Starts the process and waits until the model is loaded. Raises EngineUnavailable with the reason."""
        client = cls(config, supervision or Supervision())
        client._supervisor = asyncio.create_task(client._supervise())
        try:
            await client._started
        except BaseException:
            await client.close()
            raise
        return client

    @property
    def info(self) -> ModelInfo:
        """The model as loaded."""
        assert self._info is not None, "start() has returned, so the model was loaded"
        return self._info

    @property
    def stats(self) -> Stats:
        """The latest counters of the current process; between two, all who wait for the next one."""
        return self._stats

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def continuity(self) -> Continuity:
        return self._continuity

    @property
    def pid(self) -> int | None:
        """Of the current process, for operators and fault tests."""
        return None if self._life is None else self._life.pid

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        """See `engine.Engine.generate`."""
        self._refuse_if_unavailable(request)
        live = _Live(Continued(request, time.monotonic()), plan)
        self._live[request.request_id] = live
        ended = False
        try:
            await self._submit(live)
            while not ended:
                event = await live.inbox.get()
                ended = isinstance(event, EngineError) or event.finish is not None
                if isinstance(event, EngineError):
                    raise event
                yield event
        finally:
            self._live.pop(request.request_id, None)
            if not ended and self._life is not None:
                await self._life.send(Abort(request.request_id))
            await self._acquit(request.request_id)

    async def close(self, drain_s: float = 0.0) -> None:
        """See `engine.Engine.close`."""
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.DRAINING
        life = self._life  # the supervisor may take it away while this waits
        if life is not None and self._started.done() and not self._started.cancelled():
            await life.send(Shutdown(drain_s))
            await life.wait(drain_s + 2.0)
        self._state = EngineState.CLOSED
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._fail_all(EngineUnavailable("the engine was closed"))
        self._context.destroy(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refuse_if_unavailable(self, request: Generate) -> None:
        if self._state in (EngineState.BROKEN, EngineState.DRAINING, EngineState.CLOSED):
            raise EngineUnavailable(f"the engine is {self._state}")
        if request.request_id in self._live:
            raise InternalError(f"request id {request.request_id!r} is in use")
        if left_s := self._quarantine.left_s(request):
            before = self._continuity
            self._continuity = msgspec.structs.replace(before, quarantined=before.quarantined + 1)
            raise refused_for(left_s)

    async def _submit(self, live: _Live) -> None:
        """Sends a request to the current life; between two lives it waits for the next one to fetch it."""
        life = self._life
        if life is None or (self._state is not EngineState.READY and self._state is not EngineState.DRAINING):
            return
        if live.plan is not None and live.plan.fingerprint not in life.grammars:
            life.grammars.add(live.plan.fingerprint)
            await life.send(LoadGrammar(live.plan))
        now = time.monotonic()
        if not live.sent:  # else its plan had been let go
            live.sent = True
            live.continued.sent(now)
        await life.send(live.continued.message(now))

    # Lives

    async def _supervise(self) -> None:
        """Starts the process again whenever it ends before it was asked to."""
        try:
            while self._state not in (EngineState.DRAINING, EngineState.CLOSED):
                await self._one_life()
                if self._state in (EngineState.DRAINING, EngineState.CLOSED):
                    return
                await self._after_death()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("the supervisor failed")
            self._state = EngineState.BROKEN
            self._fail_all(EngineUnavailable(f"the supervisor failed: {error}"))
            if not self._started.done():
                self._started.set_exception(EngineUnavailable(f"the engine could not be started: {error}"))

    async def _one_life(self) -> None:
        number = self._continuity.restarts + 1
        life = self._life = await Incarnation.begin(self._config, self._context, self._folder, number)
        try:
            patience = self._supervision.start_s
            async with contextlib.aclosing(life.events(patience)) as events:
                async for event in events:
                    if isinstance(event, Ready):
                        await self._on_ready(event)
                        break
                    if isinstance(event, Fatal):
                        self._on_fatal(event)
            async with contextlib.aclosing(life.events(self._supervision.silence_s)) as events:
                async for event in events:
                    await self._on_event(event)
        finally:
            self._life = None
            await life.end()

    async def _on_ready(self, ready: Ready) -> None:
        self._info = ready.info
        self._state = EngineState.READY
        if not self._started.done():
            self._started.set_result(None)
        self._suspects.adjourn()
        for request_id, live in list(self._live.items()):
            if request_id not in self._suspects:
                await self._submit(live)
        await self._try_next()

    async def _try_next(self) -> None:
        """Sends the next suspect, if it is someone's turn."""
        while (request_id := self._suspects.take()) is not None:
            if (live := self._live.get(request_id)) is not None:
                await self._submit(live)
                return
            self._suspects.release(request_id)

    async def _acquit(self, request_id: str) -> None:
        """Whoever has ended, or got past the place where the process died, is under suspicion no more."""
        if self._suspects.release(request_id):
            await self._try_next()

    def _on_fatal(self, fatal: Fatal) -> None:
        logger.error("the engine cannot start: %s", fatal.message)
        if not self._started.done():
            self._started.set_exception(EngineUnavailable(fatal.message))

    async def _after_death(self) -> None:
        """Counts the death, gives up those resumed too often, and waits if it was one too many."""
        if not self._started.done():
            self._started.set_exception(EngineUnavailable("the engine process ended while it started; see its log"))
        if self._started.exception() is not None:
            self._state = EngineState.CLOSED
            return
        now, rules = time.monotonic(), self._supervision
        self._crashes = [crash for crash in self._crashes if crash > now - rules.window_s] + [now]
        self._state = EngineState.RESTARTING
        self._count_resumptions()
        # Nothing runs and no page is held; the next process counts from nothing.
        before = self._stats
        self._stats = Stats(waiting=len(self._live), pages_total=before.pages_total, queue_s_p50=before.queue_s_p50)
        logger.error("the engine process ended; restarting (%d live requests)", len(self._live))
        if len(self._crashes) >= rules.crashes:
            self._state = EngineState.BROKEN
            self._fail_all(EngineUnavailable(f"the engine process ended {len(self._crashes)} times in a row"))
            await asyncio.sleep(rules.cool_s)
            self._crashes = self._crashes[-1:]

    def _count_resumptions(self) -> None:
        """Blames the one on trial, or else everyone who was in the process."""
        under = {request_id: live for request_id, live in self._live.items() if live.sent}
        tried = self._suspects.on_trial
        blamed = [tried] if tried is not None and tried in under else list(under)
        lost = 0
        for request_id in blamed:
            live = under[request_id]
            live.resumptions += 1
            if live.resumptions > self._supervision.most_resumptions:
                lost += 1
                self._give_up(request_id, live, alone=len(blamed) == 1)
            elif live.resumptions == self._supervision.most_resumptions:
                self._suspects.add(request_id, len(live.continued.emitted))
        for live in under.values():  # a request that waited for this life was not in it
            live.sent = False
            live.continued.lost(time.monotonic())
        before = self._continuity
        self._continuity = msgspec.structs.replace(
            before,
            restarts=before.restarts + 1,
            resumptions=before.resumptions + len(under) - lost,
            lost=before.lost + lost,
        )

    def _give_up(self, request_id: str, live: _Live, *, alone: bool) -> None:
        """Ends a request; one that alone can have killed the process is not let in again for a while."""
        del self._live[request_id]
        self._suspects.release(request_id)
        if alone:
            self._quarantine.put(live.continued.request)
        kind = EngineKilled if alone else EngineDied
        live.inbox.put_nowait(kind(f"the engine process ended {live.resumptions} times under the request"))

    def _fail_all(self, error: EngineError) -> None:
        for live in self._live.values():
            live.inbox.put_nowait(error)
        self._live.clear()

    # Events

    async def _on_event(self, event: Event) -> None:
        match event:
            case Batch(events):
                for inner in events:
                    await self._on_event(inner)
            case Output():
                self._on_output(event)
                await self._judge(event)
            case Failure():
                await self._on_failure(event)
            case Stats():
                self._stats = event
            case Fatal():
                logger.error("the engine gives up: %s", event.message)
            case Ready():
                logger.warning("the engine said twice that it is ready")

    def _on_output(self, output: Output) -> None:
        live = self._live.get(output.request_id)
        if live is None:  # closed by its reader a moment ago
            return
        try:
            live.inbox.put_nowait(live.continued.take(output, time.monotonic()))
        except InternalError as error:
            del self._live[output.request_id]
            live.inbox.put_nowait(error)

    async def _judge(self, output: Output) -> None:
        live = self._live.get(output.request_id)
        if live is not None and self._suspects.has_passed(output.request_id, len(live.continued.emitted)):
            await self._acquit(output.request_id)

    async def _on_failure(self, failure: Failure) -> None:
        live = self._live.get(failure.request_id)
        if live is None:
            return
        if failure.code is ErrorCode.UNKNOWN_GRAMMAR and live.plan is not None and not live.plan_resent:
            live.plan_resent = True  # it was evicted since it was sent
            if self._life is not None:
                self._life.grammars.discard(live.plan.fingerprint)
            await self._submit(live)
            return
        live.inbox.put_nowait(error_of(failure.code, failure.message))
