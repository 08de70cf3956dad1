"""One connection to one replica, as the place where requests arrive sees it.

What it is for: sending requests to a host, receiving their events, noticing that it is gone. What may not enter: which
replica to choose, what becomes of a request whose link is lost.

The idea: a link lives once. When the host is silent, or says that we are strangers, the link is lost, with every
request on it, and another one is opened: a message that a broken connection swallowed is never waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator

import msgspec
import zmq
import zmq.asyncio

from engine.errors import error_of
from engine.fleet.messages import (
    PROTOCOL,
    Hello,
    HostMessage,
    KeyPair,
    Member,
    PeerMessage,
    Pulse,
    Report,
    Stranger,
    Welcome,
)
from engine.interface import EngineState
from engine.messages import Abort, Batch, ErrorCode, Failure, Generate, LoadGrammar, ModelInfo, Output, Ping, Plan
from engine.recent import Recent

logger = logging.getLogger(__name__)


class LinkLost(Exception):
    """The replica cannot be heard any more; what it was doing is to be done elsewhere. `alone`: one request."""

    def __init__(self, message: str, *, alone: bool = False) -> None:
        super().__init__(message)
        self.alone = alone


class LinkRules(msgspec.Struct, frozen=True, kw_only=True):
    open_s: float = 5.0  # for the first answer
    silence_s: float = 5.0  # without a sign of life: lost
    beat_s: float = 1.0  # our own


class Link:
    """Made by `open`, in an event loop; `lost` is set once."""

    def __init__(self, member: Member, socket: zmq.asyncio.Socket, rules: LinkRules) -> None:
        self.member = member
        self.lost = False
        self.reason = ""  # why it was lost
        self.info: ModelInfo | None = None
        self.report: Report | None = None
        self.pulse: Pulse | None = None  # since the last report
        self.reported = asyncio.Event()  # anew with each report
        self._socket = socket
        self._rules = rules
        self._heard = time.monotonic()
        self._inboxes: dict[str, asyncio.Queue[Output | Failure | LinkLost]] = {}
        self._plans = Recent()  # fingerprints of those sent
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(HostMessage)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, member: Member, keys: KeyPair, context: zmq.asyncio.Context, rules: LinkRules) -> Link:
        """Connects and waits for the first report. Raises LinkLost."""
        socket = context.socket(zmq.DEALER)
        for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
            socket.setsockopt(option, 0)
        socket.curve_serverkey = member.public_key.encode()
        socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
        link = cls(member, socket, rules)
        try:
            socket.connect(member.address)
            link._send(Hello())
            watched = (link._receive(), link._watch(), link._hear_the_end())
            link._tasks = [asyncio.create_task(task) for task in watched]
            async with asyncio.timeout(rules.open_s):
                await link.reported.wait()
        except BaseException as error:
            link.close("it was not opened")
            if isinstance(error, TimeoutError | zmq.ZMQError):
                raise LinkLost(f"{member.name} does not answer at {member.address}") from None
            raise
        if link.lost:
            raise LinkLost(f"{member.name} does not let us in at {member.address}")
        return link

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def takes_requests(self) -> bool:
        return not self.lost and self.report is not None and self.report.state is EngineState.READY

    @property
    def inside(self) -> int:
        """Our requests there."""
        return len(self._inboxes)

    async def stream(self, request: Generate, plan: Plan | None) -> AsyncGenerator[Output, None]:
        """Outputs as they come. Raises an EngineError subclass, or LinkLost. Closing it aborts the request."""
        name = request.request_id
        if self.lost:
            raise LinkLost(f"{self.name} is lost")
        inbox = self._inboxes[name] = asyncio.Queue()
        ended = resent = False
        try:
            self._submit(request, plan)
            while not ended:
                event = await inbox.get()
                if isinstance(event, Failure) and event.code is ErrorCode.UNKNOWN_GRAMMAR and plan and not resent:
                    resent = True  # it has let the plan go since it was sent
                    self._plans.discard(plan.fingerprint)
                    self._submit(request, plan)
                    continue
                ended = not isinstance(event, Output) or event.finish is not None
                if isinstance(event, LinkLost):
                    raise event
                if isinstance(event, Failure):
                    raise error_of(event.code, event.message)
                yield event
        finally:
            self._inboxes.pop(name, None)
            if not ended and not self.lost:
                self._send(Abort(name))

    def close(self, reason: str) -> None:
        """Every request on it ends with LinkLost."""
        if self.lost:
            return
        self.lost, self.reason = True, f"{self.name}: {reason}; {len(self._inboxes)} requests were there"
        for inbox in self._inboxes.values():
            inbox.put_nowait(LinkLost(self.reason, alone=len(self._inboxes) == 1))
        self.reported.set()
        for task in self._tasks:
            task.cancel()
        self._socket.close(0)

    def _submit(self, request: Generate, plan: Plan | None) -> None:
        if plan is not None and plan.fingerprint not in self._plans:
            self._plans.add(plan.fingerprint)
            self._send(LoadGrammar(plan))
        self._send(request)

    def _send(self, message: PeerMessage) -> None:
        with contextlib.suppress(zmq.ZMQError):  # whoever waits for an answer learns of a closed socket otherwise
            self._socket.send(self._encoder.encode(message))

    async def _receive(self) -> None:
        while True:
            frame = await self._socket.recv()
            try:
                message = self._decoder.decode(frame)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                logger.error("%s sends what is no message: %s", self.name, error)
                self.close("it sent what is no message")
                return
            self._heard = time.monotonic()
            self._take(message)

    def _take(self, message: HostMessage) -> None:
        match message:
            case Batch(events):
                for event in events:
                    if inbox := self._inboxes.get(event.request_id):
                        inbox.put_nowait(event)
            case Welcome(info, protocol):
                if protocol != PROTOCOL:
                    self.close(f"it speaks protocol {protocol}, this is {PROTOCOL}: install one version")
                self.info = info
            case Report():
                self.report, self.pulse = message, None
                self.reported.set()
            case Pulse():
                self.pulse = message
                self.reported.set()
            case Stranger():
                self.close("it does not know us any more")

    async def _hear_the_end(self) -> None:
        """A process that is killed closes its connections: heard at once; a machine that is gone is only missed."""
        monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        await monitor.recv_multipart()
        self.close("its connection has ended")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(self._rules.beat_s, self._rules.silence_s / 4))
            if time.monotonic() - self._heard > self._rules.silence_s:
                self.close(f"silent for {self._rules.silence_s:g} s")
                return
            self._send(Ping(0))
