"""A replica's side of the network: lets others use the engine beside it, over TCP.

What it is for: `Host` serves any `engine.Engine` to several peers at once. What may not enter: who started the replica,
which peer should use it, HTTP.

The idea: a peer is a connection, not a machine. Its requests end with it: when it has been silent for too long they are
aborted, and if it comes back it is a stranger that begins anew. All that the engine emits in one step for one peer
leaves in one frame. The socket speaks CURVE (Curve25519, libsodium's construction): only who holds the fleet's key
gets through the handshake, and nobody between the machines reads or changes a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from engine.errors import EngineError, EngineUnavailable, InternalError, UnknownGrammar
from engine.fleet.messages import PROTOCOL, Hello, HostMessage, KeyPair, PeerMessage, Pulse, Report, Stranger, Welcome
from engine.fleet.plans import PlanShelf
from engine.fleet.routing import RoutingRules, wanted_of
from engine.interface import Engine, EngineState
from engine.messages import Abort, Batch, Failure, Generate, LoadGrammar, Output, Ping

logger = logging.getLogger(__name__)

_MOST_BLOCKS = 4096  # in one report
_MOST_BYTES = 256 << 20  # of one frame


class HostRules(msgspec.Struct, frozen=True, kw_only=True):
    beat_s: float = 0.25  # between two reports
    pulse_s: float = 0.02  # from a change of load until other peers are told of it
    silence_s: float = 10.0  # a peer without a sign of life is given up
    plan_bytes: int = 256 << 20


@dataclass(slots=True, eq=False)
class _Peer:
    identity: bytes
    heard: float
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)  # prompt tokens of those from which nothing has come
    outbox: list[Output | Failure] = field(default_factory=list)


class Host:
    """Made in the event loop in which it serves; `start`, then `drain` and `close`."""

    def __init__(self, engine: Engine, keys: KeyPair, client_key: str, rules: HostRules | None = None) -> None:
        self._engine = engine
        self._keys = keys
        self._client_key = client_key.encode()
        self._rules = rules or HostRules()
        self._plans = PlanShelf(self._rules.plan_bytes)
        self._peers: dict[bytes, _Peer] = {}
        self._draining = False
        self._routing = RoutingRules()
        self._pulsing = False  # one is on its way
        self._blocks: dict[int, None] = {}  # met since the last report, in order
        self._grammars: dict[str, None] = {}
        self._decoder = msgspec.msgpack.Decoder(PeerMessage)
        self._encoder = msgspec.msgpack.Encoder()
        self._context = zmq.asyncio.Context()
        self._authenticator: AsyncioAuthenticator | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def inside(self) -> int:
        """Requests that have not ended."""
        return sum(len(peer.running) for peer in self._peers.values())

    @property
    def is_serving(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def start(self, interface: str, port: int = 0) -> str:
        """Listens there; the address for others. `port` 0 takes a free one."""
        self._authenticator = AsyncioAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=self)
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in ((zmq.LINGER, 500), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.MAXMSGSIZE, _MOST_BYTES)):
            self._socket.setsockopt(option, value)
        self._socket.curve_server = True
        self._socket.curve_publickey, self._socket.curve_secretkey = (
            self._keys.public.encode(),
            self._keys.secret.encode(),
        )
        if port:
            self._socket.bind(f"tcp://{interface}:{port}")
        else:
            port = self._socket.bind_to_random_port(f"tcp://{interface}")
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._tell())]
        return f"tcp://{interface}:{port}"

    def callback(self, _domain: str, key: bytes) -> bool:
        """Of ZeroMQ's authenticator: whether who holds this key may speak with us. `key` is in Z85."""
        return bool(key == self._client_key)

    async def drain(self, drain_s: float) -> None:
        """Takes nothing new; lets what runs finish for so long, then hands it back to be taken elsewhere."""
        self._draining = True
        self._report()
        end = time.monotonic() + drain_s
        while self.inside and time.monotonic() < end:
            await asyncio.sleep(self._rules.beat_s / 5)
        for peer in self._peers.values():
            for name in list(peer.running):
                await _cancelled(peer.running[name])
                self._post(peer, _failure(name, EngineUnavailable("the replica is going; go on elsewhere")))
        await asyncio.sleep(0)  # for what was posted to leave

    async def close(self) -> None:
        """Ends every request here and the socket; the engine is its owner's."""
        for task in [*self._tasks, *(task for peer in self._peers.values() for task in peer.running.values())]:
            await _cancelled(task)
        self._tasks, self._peers = [], {}
        if self._authenticator is not None:
            self._authenticator.stop()
            self._socket.close()
        self._context.destroy()

    # What comes

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            if len(frames) != 2:
                logger.warning("dropped %d frames where two were expected", len(frames))
                continue
            try:
                message = self._decoder.decode(frames[1])
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                logger.warning("dropped a malformed message: %s", error)
                continue
            self._obey(frames[0], message)

    def _obey(self, identity: bytes, message: PeerMessage) -> None:
        if isinstance(message, Hello):
            self._greet(identity, message)
            return
        peer = self._peers.get(identity)
        if peer is None:
            self._send(identity, Stranger())
            return
        peer.heard = time.monotonic()
        match message:
            case Generate():
                self._begin(peer, message)
            case LoadGrammar(plan):
                self._plans.put(plan)
            case Abort(request_id):
                if request_id in peer.running:
                    peer.running[request_id].cancel()
            case Ping():
                pass  # it was heard

    def _greet(self, identity: bytes, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            logger.error("a peer speaks protocol %d, this is %d: install one version", hello.protocol, PROTOCOL)
        self._peers[identity] = _Peer(identity, time.monotonic())
        self._send(identity, Welcome(self._engine.info))
        self._send(identity, self._told())

    def _begin(self, peer: _Peer, request: Generate) -> None:
        name = request.request_id
        if self._draining:
            self._post(peer, _failure(name, EngineUnavailable("the replica is going; go on elsewhere")))
            return
        plan = None if request.grammar is None else self._plans.get(request.grammar)
        if request.grammar is not None and plan is None:
            self._post(peer, _failure(name, UnknownGrammar(f"no plan was given for grammar {request.grammar}")))
            return
        if name in peer.running:
            self._post(peer, _failure(name, InternalError(f"request id {name!r} is in use")))
            return
        self._note(request)
        peer.queued[name] = len(request.prompt) + len(request.emitted)
        self._pulse()
        peer.running[name] = asyncio.create_task(self._run(peer, request, plan))

    def _note(self, request: Generate) -> None:
        """For other peers, whose routers do not know what this one sends."""
        met = wanted_of(request, self._routing)
        self._blocks.update(dict.fromkeys(met.blocks))
        if met.grammar is not None:
            self._grammars[met.grammar] = None

    async def _run(self, peer: _Peer, request: Generate, plan: Any) -> None:
        name = request.request_id
        try:
            async with aclosing(self._engine.generate(request, plan)) as outputs:
                async for output in outputs:
                    if peer.queued.pop(name, None) is not None:
                        self._pulse()
                    self._post(peer, output)
        except EngineError as error:
            self._post(peer, _failure(name, error))
        except Exception as error:
            logger.exception("a request failed in a way that nobody expected")
            self._post(peer, _failure(name, InternalError(f"{type(error).__name__} in the replica")))
        finally:
            peer.running.pop(name, None)
            peer.queued.pop(name, None)
            self._pulse()

    # What goes

    def _post(self, peer: _Peer, event: Output | Failure) -> None:
        """Leaves with all else that this turn of the event loop brings: one frame a step, not one a request."""
        if not peer.outbox:
            asyncio.get_running_loop().call_soon(self._flush, peer)
        peer.outbox.append(event)

    def _flush(self, peer: _Peer) -> None:
        events, peer.outbox = peer.outbox, []
        if self._peers.get(peer.identity) is peer:
            self._send(peer.identity, Batch(events))

    def _send(self, identity: bytes, message: HostMessage) -> None:
        # A ROUTER never waits, and drops what is for nobody; the future is done when this returns.
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([identity, self._encoder.encode(message)])

    def _pulse(self) -> None:
        """Soon, and for all that changes until then; a peer that is alone knows it all."""
        if len(self._peers) > 1 and not self._pulsing:
            self._pulsing = True
            asyncio.get_running_loop().call_later(self._rules.pulse_s, self._tell_load)

    def _tell_load(self) -> None:
        self._pulsing = False
        pulse = Pulse(self.inside, sum(sum(peer.queued.values()) for peer in self._peers.values()))
        for identity in self._peers:
            self._send(identity, pulse)

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self._rules.beat_s)
            self._give_up_the_silent()
            self._report()

    def _report(self) -> None:
        if self._peers:
            blocks, grammars = list(self._blocks)[-_MOST_BLOCKS:], list(self._grammars)
            told = msgspec.structs.replace(self._told(), blocks=blocks, grammars=grammars)
            self._blocks.clear()
            self._grammars.clear()
            for identity in self._peers:
                self._send(identity, told)

    def _told(self) -> Report:
        state = EngineState.DRAINING if self._draining else self._engine.state
        return Report(state, self._engine.stats, self._engine.continuity)

    def _give_up_the_silent(self) -> None:
        now: Callable[[], float] = time.monotonic
        for peer in [each for each in self._peers.values() if now() - each.heard > self._rules.silence_s]:
            if peer.running:
                logger.warning("a peer has gone silent; its %d requests end", len(peer.running))
            del self._peers[peer.identity]
            for task in peer.running.values():
                task.cancel()


def _failure(name: str, error: EngineError) -> Failure:
    return Failure(name, error.code, error.message)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
