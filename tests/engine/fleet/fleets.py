"""Replicas in this process: hosts with real sockets around engines that are told what to do.

What it is for: `Fleet` starts and ends hosts, and is the directory that lists them; `Resumable` is an engine whose
tokens are a function of seed and position alone, as the real one's are, so what a stream should have said is known.
What may not enter: weights, judgement beyond what `read` checks of every stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import zmq

from engine import Continuity, Engine, EngineError, EngineState
from engine.fleet.client import FleetClient, FleetRules
from engine.fleet.host import Host, HostRules
from engine.fleet.link import LinkRules
from engine.fleet.messages import KeyPair, Member
from engine.messages import Finish, FinishReason, Generate, ModelInfo, Output, Plan, Sampling, Stats, Token
from tests.engine.scripted import INFO

QUICK = FleetRules(
    start_s=10.0, look_s=0.02, wait_s=3.0, retry_s=0.02, link=LinkRules(open_s=2.0, silence_s=1.5, beat_s=0.05)
)
HOST = HostRules(beat_s=0.03, silence_s=1.2)


def token_at(seed: int, position: int) -> int:
    """What every engine here says."""
    return 1 + (seed * 31 + position * 7) % 200


def text_of(request: Generate) -> list[int]:
    return [token_at(request.sampling.seed, position) for position in range(request.sampling.max_tokens)]


def request(name: str, seed: int = 1, count: int = 40, **fields: object) -> Generate:
    sampling = Sampling(max_tokens=count, seed=seed)
    return Generate(request_id=name, prompt=[seed, 5, 6], sampling=sampling, **fields)  # type: ignore[arg-type]


@dataclass(eq=False)
class Resumable:
    """Implements `engine.Engine`: one token every `pace_s`, from where the request stands."""

    pace_s: float = 0.01
    info: ModelInfo = INFO
    refusal: EngineError | None = None
    state: EngineState = EngineState.READY
    continuity: Continuity = field(default_factory=Continuity)
    seen: list[Generate] = field(default_factory=list)
    plans: list[Plan | None] = field(default_factory=list)
    running: int = 0

    @property
    def stats(self) -> Stats:
        return Stats(running=self.running, pages_total=self.info.pages)

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        self.seen.append(request)
        self.plans.append(plan)
        if self.refusal is not None:
            raise self.refusal
        self.running += 1
        try:
            for position in range(len(request.emitted), request.sampling.max_tokens):
                await asyncio.sleep(self.pace_s)
                token = Token(token_at(request.sampling.seed, position), -0.5, -0.5, 1.0, forced=position % 4 == 0)
                yield Output(request_id=request.request_id, first=position, tokens=[token])
            finish = Finish(reason=FinishReason.LENGTH, forced_tokens=-1)
            yield Output(request_id=request.request_id, first=request.sampling.max_tokens, finish=finish)
        finally:
            self.running -= 1

    async def close(self, drain_s: float = 0.0) -> None:  # noqa: ARG002  (the protocol's)
        self.state = EngineState.CLOSED


def new_keys() -> KeyPair:
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


@dataclass(eq=False)
class Fleet:
    """Hosts by name; a directory of those listed."""

    keys: KeyPair = field(default_factory=new_keys)
    hosts: dict[str, Host] = field(default_factory=dict)
    listed: dict[str, Member] = field(default_factory=dict)
    closed: bool = False

    async def add(self, name: str, engine: Engine, rules: HostRules = HOST) -> Member:
        keys = new_keys()
        host = self.hosts[name] = Host(engine, keys, self.keys.public, rules)
        member = self.listed[name] = Member(name, await host.start("127.0.0.1"), keys.public)
        return member

    async def kill(self, name: str) -> None:
        """It is gone from one moment to the next; the directory does not know."""
        await self.hosts.pop(name).close()

    async def members(self) -> list[Member]:
        return list(self.listed.values())

    async def close(self) -> None:
        self.closed = True

    @asynccontextmanager
    async def client(self, rules: FleetRules = QUICK) -> AsyncIterator[FleetClient]:
        """A client of it, once every host that is listed can be used; the hosts end with it."""
        client = await FleetClient.start(self, self.keys, rules)
        try:
            async with asyncio.timeout(5):
                while any(state is not EngineState.READY for state in client.replicas.values()):
                    await asyncio.sleep(0.01)
            yield client
        finally:
            await client.close()
            for name in list(self.hosts):
                await self.kill(name)


async def read(engine: Engine, wanted: Generate, plan: Plan | None = None) -> list[int]:
    """The token ids of a request; every index must be the next."""
    tokens: list[int] = []
    async with aclosing(engine.generate(wanted, plan)) as outputs:
        async for output in outputs:
            assert output.first == len(tokens), (output.first, len(tokens))
            assert output.request_id == wanted.request_id
            tokens += [token.token_id for token in output.tokens]
    return tokens


class Cable:
    """A TCP connection that can be cut without either end being told, and mended."""

    def __init__(self) -> None:
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, address: str) -> str:
        """The address that leads to `address`."""
        self._host, port = address.removeprefix("tcp://").split(":")
        self._port = int(port)
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        return f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._tasks += [
            asyncio.create_task(self._carry(reader, back)),
            asyncio.create_task(self._carry(there, writer)),
        ]

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while content := await source.read(1 << 16):
                await self._whole.wait()
                sink.write(content)
                await sink.drain()
        sink.close()
