"""Streams survive their replica: dead, silent, cut off, going, full or slow, no token is lost, repeated or changed.

Rows 45 and 46 of the table of faults, at the level of sockets; `tests/service/cluster` does it with processes.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from engine import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineDied,
    EngineOverloaded,
    EngineState,
    EngineUnavailable,
)
from engine.errors import EngineKilled
from engine.fleet.client import FleetClient
from engine.messages import Finish, Generate, Plan
from tests.engine.fleet.fleets import HOST, QUICK, Cable, Fleet, Resumable, read, request, text_of
from tests.engine.scripted import INFO

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def of(engines: dict[str, Resumable]) -> Fleet:
    fleet = Fleet()
    for name, engine in engines.items():
        await fleet.add(name, engine)
    return fleet


def two() -> dict[str, Resumable]:
    return {"a": Resumable(), "b": Resumable()}


def where(engines: dict[str, Resumable]) -> str:
    """The replica on which something runs."""
    return next(name for name, engine in engines.items() if engine.running)


async def until_it_runs(engines: dict[str, Resumable], tokens: int = 5) -> str:
    while not any(engine.running for engine in engines.values()):
        await asyncio.sleep(0.005)
    await asyncio.sleep(tokens * 0.01)
    return where(engines)


async def test_many_streams_at_once_say_what_one_engine_says() -> None:
    engines = two()
    fleet = await of(engines)
    wanted = [request(f"r{seed}", seed) for seed in range(20)]
    async with fleet.client() as client:
        told = await asyncio.gather(*(read(client, each) for each in wanted))
    assert told == [text_of(each) for each in wanted]
    assert all(engine.seen for engine in engines.values())
    assert fleet.closed


async def test_a_replica_that_dies_is_a_pause() -> None:
    engines = two()
    fleet = await of(engines)
    wanted = [request(f"r{seed}", seed) for seed in range(12)]
    async with fleet.client() as client:
        streams = [asyncio.create_task(read(client, each)) for each in wanted]
        await fleet.kill(await until_it_runs(engines))
        told = await asyncio.gather(*streams)
        assert client.continuity.restarts == 1
        assert 0 < client.continuity.resumptions < 12
        assert client.continuity.lost == 0
    assert told == [text_of(each) for each in wanted]


async def test_what_a_resumed_request_is_told_at_its_end_is_of_the_whole() -> None:
    engines = two()
    fleet = await of(engines)
    wanted, finish = request("r"), list[Finish | None]()
    async with fleet.client() as client:

        async def ending() -> None:
            async with aclosing(client.generate(wanted)) as outputs:
                async for output in outputs:
                    finish.append(output.finish)

        stream = asyncio.create_task(ending())
        await fleet.kill(await until_it_runs(engines))
        await stream
    assert finish[-1] is not None
    assert finish[-1].forced_tokens == 10  # each fourth of forty


@pytest.mark.parametrize("drain_s", [0.0, 5.0])
async def test_a_replica_that_is_taken_down_loses_nothing(drain_s: float) -> None:
    """With time its streams end there; without, they are handed back and go on elsewhere."""
    engines = two()
    fleet = await of(engines)
    wanted = [request(f"r{seed}", seed) for seed in range(8)]
    async with fleet.client() as client:
        streams = [asyncio.create_task(read(client, each)) for each in wanted]
        name = await until_it_runs(engines)
        before = len(engines[name].seen)
        del fleet.listed[name]
        await fleet.hosts[name].drain(drain_s)
        late = await read(client, request("late", 99))
        told = await asyncio.gather(*streams)
        assert (client.continuity.resumptions == 0) is (drain_s > 0)
        assert client.continuity.restarts == 0
    assert told == [text_of(each) for each in wanted]
    assert late == text_of(request("late", 99))
    assert len(engines[name].seen) == before


async def test_45_every_replica_is_replaced_under_load() -> None:
    """A rolling restart: each is drained while a new one comes; every stream is whole, none fails."""
    engines = {"a": Resumable(), "b": Resumable(), "c": Resumable()}
    fleet, done = await of(engines), asyncio.Event()
    async with fleet.client() as client:

        async def load(worker: int) -> int:
            count = 0
            while not done.is_set():
                wanted = request(f"w{worker}-{count}", worker * 100 + count, 30)
                assert await read(client, wanted) == text_of(wanted)
                count += 1
            return count

        workers = [asyncio.create_task(load(worker)) for worker in range(6)]
        for name in engines:
            await fleet.add(f"new-{name}", Resumable())
            del fleet.listed[name]
            await fleet.hosts[name].drain(0.1)
            await fleet.kill(name)
            await asyncio.sleep(0.2)
        done.set()
        counts = await asyncio.gather(*workers)
        assert set(client.replicas) == {"new-a", "new-b", "new-c"}
    assert min(counts) >= 1


async def test_46_a_replica_that_is_cut_off_is_given_up_and_taken_back() -> None:
    """Neither end is told of the cut. What the lost side still says afterwards reaches nobody."""
    engines, cable = two(), Cable()
    fleet = await of(engines)
    member = fleet.listed["a"]
    fleet.listed["a"] = msgspec.structs.replace(member, address=await cable.start(member.address))
    wanted = [request(f"r{seed}", seed, 100) for seed in range(8)]
    async with fleet.client() as client:
        streams = [asyncio.create_task(read(client, each)) for each in wanted]
        await until_it_runs(engines)
        cable.cut()
        told = await asyncio.gather(*streams)
        assert told == [text_of(each) for each in wanted]
        assert client.continuity.restarts == 1
        cable.mend()
        async with asyncio.timeout(10):
            while client.replicas["a"] != EngineState.READY:
                await asyncio.sleep(0.02)
        assert engines["a"].running == 0  # the host gave the silent peer's requests up
        again = [request(f"s{seed}", seed) for seed in range(8)]
        assert await asyncio.gather(*(read(client, each) for each in again)) == [text_of(each) for each in again]
    await cable.close()


async def test_46_a_slow_replica_gets_little_until_it_recovers() -> None:
    engines = {"slow": Resumable(pace_s=0.25), "b": Resumable(), "c": Resumable()}
    fleet = await of(engines)
    async with fleet.client() as client:
        first = [request(f"r{seed}", seed, 12) for seed in range(9)]
        await asyncio.gather(*(read(client, each) for each in first))
        before = len(engines["slow"].seen)
        await asyncio.sleep(0.1)
        for seed in range(12):
            await read(client, request(f"s{seed}", 100 + seed, 2))
    assert before >= 1
    assert len(engines["slow"].seen) - before <= 1  # the probe


async def test_46_another_service_finds_the_replicas_where_they_are() -> None:
    """The place where requests arrive is restarted: its old requests end at the replicas, new ones are served."""
    engines = two()
    fleet = await of(engines)
    async with fleet.client() as client:
        first = await FleetClient.start(fleet, fleet.keys, QUICK)
        stream = asyncio.create_task(read(first, request("old", 1, 1000)))
        await until_it_runs(engines)
        await first.close()
        with pytest.raises(EngineUnavailable):
            await stream
        assert await read(client, request("new", 2)) == text_of(request("new", 2))
        async with asyncio.timeout(5):
            while any(engine.running for engine in engines.values()):
                await asyncio.sleep(0.02)


async def test_a_request_that_ends_its_replicas_is_given_up() -> None:
    fleet = await of({name: Resumable() for name in "abcd"})
    async with fleet.client() as client:

        async def poison() -> None:
            async with aclosing(client.generate(request("poison", count=1000))) as outputs:
                async for output in outputs:
                    if output.first in (5, 10, 15):
                        await fleet.kill(next(name for name, host in fleet.hosts.items() if host.inside))

        with pytest.raises(EngineDied, match="3 replicas"):
            await poison()
        assert client.continuity.lost == 1
        assert len(fleet.hosts) == 1
        assert await read(client, request("r")) == text_of(request("r"))


async def test_an_engine_that_a_request_has_killed_too_often_is_not_the_first_of_many() -> None:
    engines = two()
    for engine in engines.values():
        engine.refusal = EngineDied("it ended 3 times under the request")
    fleet = await of(engines)
    async with fleet.client() as client:
        with pytest.raises(EngineDied):
            await read(client, request("poison"))
    assert sum(len(engine.seen) for engine in engines.values()) == 1


async def test_what_killed_one_replicas_engine_is_kept_away_from_all() -> None:
    """Sent again it would go to the next one, for the first is being restarted."""
    engines = two()
    for engine in engines.values():
        engine.refusal = EngineKilled("it ended 3 times under the request, which was tried alone")
    fleet = await of(engines)
    async with fleet.client() as client:
        for attempt in range(3):
            with pytest.raises(EngineDied):
                await read(client, request(f"poison{attempt}", seed=3))
        assert sum(len(engine.seen) for engine in engines.values()) == 1
        assert client.continuity.quarantined == 2
        for engine in engines.values():
            engine.refusal = None
        assert await read(client, request("r", seed=4)) == text_of(request("r", seed=4))


async def test_what_took_whole_replicas_with_it_alone_is_kept_away_too() -> None:
    fleet = await of({name: Resumable() for name in "abcd"})
    wanted = request("poison", count=1000)
    async with fleet.client() as client:

        async def poison() -> None:
            async with aclosing(client.generate(wanted)) as outputs:
                async for output in outputs:
                    if output.first in (5, 10, 15):
                        await fleet.kill(next(name for name, host in fleet.hosts.items() if host.inside))

        for _ in range(2):
            with pytest.raises(EngineDied):
                await poison()
        assert len(fleet.hosts) == 1
        assert client.continuity.quarantined == 1


async def test_a_full_replica_is_no_refusal_while_another_has_room() -> None:
    engines = {name: Resumable() for name in "abcd"}
    for name in "ab":
        engines[name].refusal = EngineOverloaded("full")
    fleet = await of(engines)
    async with fleet.client() as client:
        wanted = [request(f"r{seed}", seed, 3) for seed in range(10)]
        assert await asyncio.gather(*(read(client, each) for each in wanted)) == [text_of(each) for each in wanted]
        for name in "cd":
            engines[name].refusal = EngineOverloaded("full")
        with pytest.raises(EngineOverloaded):
            await read(client, request("late"))


async def test_a_refused_request_is_refused_at_once() -> None:
    engines = two()
    for engine in engines.values():
        engine.refusal = ContextLengthExceeded("too long")
    fleet = await of(engines)
    async with fleet.client() as client:
        with pytest.raises(ContextLengthExceeded, match="too long"):
            await read(client, request("r"))
    assert sum(len(engine.seen) for engine in engines.values()) == 1


async def test_closing_a_stream_ends_its_request() -> None:
    engines = two()
    fleet = await of(engines)
    async with fleet.client() as client:
        outputs = client.generate(request("r", count=1000))
        await anext(outputs)
        await outputs.aclose()
        async with asyncio.timeout(5):
            while any(engine.running for engine in engines.values()):
                await asyncio.sleep(0.01)


async def test_a_plan_crosses_the_network_once_and_again_if_it_was_let_go() -> None:
    engine = Resumable()
    fleet = Fleet()
    await fleet.add("a", engine, msgspec.structs.replace(HOST, plan_bytes=10))
    plans = {name: Plan(name, name.encode() * 8) for name in ("x", "y")}

    def under(name: str, grammar: str) -> Generate:
        return request(name, count=2, grammar=grammar)

    async with fleet.client() as client:
        for index, grammar in enumerate(("x", "x", "y", "x")):
            assert len(await read(client, under(f"r{index}", grammar), plans[grammar])) == 2
    assert [plan.fingerprint for plan in engine.plans if plan] == ["x", "x", "y", "x"]


async def test_without_a_replica_a_request_waits_for_one() -> None:
    engines = {"a": Resumable()}
    fleet = await of(engines)
    async with fleet.client() as client:
        stream = asyncio.create_task(read(client, request("r")))
        await fleet.kill(await until_it_runs(engines))
        async with asyncio.timeout(5):
            while client.state is EngineState.READY:
                await asyncio.sleep(0.01)
        await fleet.add("b", Resumable())
        assert await stream == text_of(request("r"))


async def test_nobody_waits_for_ever() -> None:
    fleet = await of({"a": Resumable()})
    async with fleet.client(msgspec.structs.replace(QUICK, wait_s=0.3)) as client:
        await fleet.kill("a")
        with pytest.raises(EngineUnavailable, match="no replica"):
            await read(client, request("r"))
        with pytest.raises(DeadlineExceeded):
            await read(client, request("s", deadline_s=0.1))


async def test_a_fleet_that_never_comes_ends_the_start() -> None:
    with pytest.raises(EngineUnavailable, match=r"within 0\.2 s"):
        await FleetClient.start(Fleet(), Fleet().keys, msgspec.structs.replace(QUICK, start_s=0.2))


async def test_another_model_does_not_join() -> None:
    fleet = await of({"a": Resumable()})
    async with fleet.client() as client:
        other = Resumable(info=msgspec.structs.replace(INFO, vocab_size=999))
        await fleet.add("other", other)
        await asyncio.sleep(0.2)
        wanted = [request(f"r{seed}", seed, 2) for seed in range(6)]
        assert await asyncio.gather(*(read(client, each) for each in wanted)) == [text_of(each) for each in wanted]
    assert other.seen == []


async def test_the_smallest_cache_is_what_a_request_may_count_on() -> None:
    fleet = await of({"a": Resumable(), "b": Resumable(info=msgspec.structs.replace(INFO, pages=100))})
    async with fleet.client() as client:
        assert client.info.pages == 100
        assert client.stats.pages_total == 356


async def test_a_directory_that_fails_takes_no_replica_away() -> None:
    fleet = await of(two())

    async def fails() -> list[None]:
        raise OSError("it is being restarted")

    async with fleet.client() as client:
        fleet.members = fails  # type: ignore[method-assign,assignment]
        await asyncio.sleep(0.1)
        assert await read(client, request("r")) == text_of(request("r"))
