"""The pool of compile workers, with scripted workers: cache, single flight, deaths."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engine.messages import Plan
from grammar.errors import GrammarTooLarge, UnsupportedConstraint
from service.compile_protocol import Answer, Compile, Compiled, Job, Refused, Replay, Replayed, Setup
from service.compiling import ByteCache, CompiledConstraint, CompileLimits, Compiler, WorkerDied
from service.constraints import Constraint, regex
from service.errors import CompilerUnavailable, InvalidBody

pytestmark = pytest.mark.anyio
Play = Callable[[Job], Awaitable[Answer]]


def compiled(name: str = "a", size: int = 10) -> Compiled:
    return Compiled(
        fingerprint=name, data=b"x" * size, least_budget=3, nbytes=size, compile_s=0.5, explanation={"name": name}
    )


class Scripted:
    """A worker that plays; `made` holds all of them."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.jobs: list[Job] = []
        self.closed = False

    async def ask(self, job: Job) -> Answer:
        self.jobs.append(job)
        return await self.play(job)

    async def close(self) -> None:
        self.closed = True


class Pool(Compiler):
    """A compiler whose workers are scripted."""

    def __init__(self, play: Play, *, cache_bytes: int = 10_000, timeout_s: float = 5.0) -> None:
        limits = CompileLimits(
            workers=1, timeout_s=timeout_s, memory_bytes=1 << 30, cache_bytes=cache_bytes, source_bytes=100
        )
        super().__init__([b"a"], [], limits)
        self.made: list[Scripted] = []
        self._play = play

    async def _start_worker(self, setup: Setup) -> Scripted:  # noqa: ARG002  (the pool's signature)
        self.made.append(Scripted(self._play))
        return self.made[-1]


def pattern(text: str) -> Constraint:
    return regex(text, "guided_regex")


async def test_what_was_compiled_once_is_not_compiled_again() -> None:
    async def play(job: Job) -> Answer:
        await asyncio.sleep(0.01)
        return compiled()

    pool = Pool(play)
    await pool.start()
    together = await asyncio.gather(*(pool.compile(pattern("a")) for _ in range(5)))
    after = await pool.compile(pattern("a"))
    assert len(pool.made[0].jobs) == 1
    assert [each.cached for each in together] == [False] * 5
    assert after.cached
    assert after.least_budget == 3
    await pool.close()


async def test_a_refusal_is_remembered_and_names_its_place() -> None:
    async def play(job: Job) -> Answer:
        return Refused(error="UnsupportedConstraint", message="no", pointer="/a", keyword="not")

    pool = Pool(play)
    await pool.start()
    for _ in range(3):
        with pytest.raises(UnsupportedConstraint) as caught:
            await pool.compile(pattern("a"))
        assert (caught.value.pointer, caught.value.keyword) == ("/a", "not")
        assert caught.value.__dict__["param"] == "guided_regex"
    assert len(pool.made[0].jobs) == 1
    await pool.close()


async def test_a_job_that_takes_too_long_costs_a_worker_and_is_refused() -> None:
    async def play(job: Job) -> Answer:
        if isinstance(job, Compile) and "slow" in job.source:
            await asyncio.sleep(60)
        return compiled()

    pool = Pool(play, timeout_s=0.05)
    await pool.start()
    with pytest.raises(GrammarTooLarge, match="longer than"):
        await pool.compile(pattern("slow"))
    assert pool.made[0].closed
    assert (await pool.compile(pattern("quick"))).plan.fingerprint == "a"
    assert len(pool.made) == 2
    with pytest.raises(GrammarTooLarge):  # not tried again
        await pool.compile(pattern("slow"))
    assert len(pool.made) == 2
    await pool.close()


async def test_a_worker_that_dies_is_replaced() -> None:
    async def play(job: Job) -> Answer:
        if isinstance(job, Compile) and "bomb" in job.source:
            raise WorkerDied("killed")
        return compiled()

    pool = Pool(play)
    await pool.start()
    with pytest.raises(GrammarTooLarge, match="limit"):
        await pool.compile(pattern("bomb"))
    assert (await pool.compile(pattern("fine"))).least_budget == 3
    assert pool.counters.worker_deaths == 2
    with pytest.raises(GrammarTooLarge):  # remembered: it costs no third worker
        await pool.compile(pattern("bomb"))
    assert pool.counters.worker_deaths == 2
    await pool.close()


async def test_a_constraint_is_not_blamed_for_one_death() -> None:
    """The worker may have been the choice of the kernel, or of an operator."""
    deaths = iter([WorkerDied("killed")])

    async def play(job: Job) -> Answer:
        if (death := next(deaths, None)) is not None:
            raise death
        return compiled()

    pool = Pool(play)
    await pool.start()
    assert (await pool.compile(pattern("a"))).least_budget == 3
    await pool.close()


async def test_a_constraint_that_used_up_its_time_gets_no_second_worker() -> None:
    async def play(job: Job) -> Answer:
        raise WorkerDied("killed by its limit", spent=True)

    pool = Pool(play)
    await pool.start()
    with pytest.raises(GrammarTooLarge):
        await pool.compile(pattern("a"))
    assert pool.counters.worker_deaths == 1
    await pool.close()


async def test_a_waiter_that_goes_away_does_not_stop_the_others() -> None:
    go = asyncio.Event()

    async def play(job: Job) -> Answer:
        await go.wait()
        return compiled()

    pool = Pool(play)
    await pool.start()
    first, second = (asyncio.create_task(pool.compile(pattern("a"))) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    go.set()
    assert (await second).least_budget == 3
    await pool.close()


async def test_a_defect_in_the_worker_is_told_as_ours() -> None:
    async def play(job: Job) -> Answer:
        return Refused(error="internal", message="ZeroDivisionError")

    pool = Pool(play)
    await pool.start()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        await pool.compile(pattern("a"))
    await pool.close()


async def test_a_replay_returns_choices() -> None:
    async def play(job: Job) -> Answer:
        assert isinstance(job, Replay)
        return Replayed(readings={}, illegal=2)

    pool = Pool(play)
    await pool.start()
    assert (await pool.replay(None, [1, 2, 3], 4)).illegal == 2
    await pool.close()


@pytest.mark.parametrize("dies", [False, True])
async def test_a_text_that_takes_too_long_to_read_is_refused_with_a_reason(*, dies: bool) -> None:
    """Not told as a defect of ours; and the worker is replaced."""

    async def play(job: Job) -> Answer:
        if isinstance(job, Replay) and len(job.tokens) > 2:
            await asyncio.sleep(0 if dies else 60)
            raise WorkerDied("killed", spent=True)
        return Replayed(readings={}, illegal=None)

    pool = Pool(play, timeout_s=0.05)
    await pool.start()
    with pytest.raises(InvalidBody, match="these 3 tokens"):
        await pool.replay(None, [1, 2, 3], 4)
    assert (await pool.replay(None, [1, 2], 4)).illegal is None
    await pool.close()


async def test_limits_hold_before_any_work() -> None:
    async def play(job: Job) -> Answer:
        return compiled()

    pool = Pool(play)
    with pytest.raises(CompilerUnavailable):
        await pool.compile(pattern("a"))
    await pool.start()
    with pytest.raises(InvalidBody, match="100"):
        await pool.compile(pattern("a" * 200))
    assert pool.made[0].jobs == []
    await pool.close()


def test_the_cache_forgets_the_least_recently_used() -> None:
    cache = ByteCache(limit=25)

    def entry(name: str) -> CompiledConstraint:
        return CompiledConstraint(pattern(name), Plan(name, b""), 1, 0.0, None)

    for name in "ab":
        cache.put(name, entry(name), 10)
    assert cache.get("a") is not None
    cache.put("c", entry("c"), 10)
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]
    assert cache.nbytes == 20
    cache.put("d", entry("d"), 100)
    assert cache.get("d") is None
    assert cache.nbytes == 20


class Gated:
    """A worker's play that answers when it is let; notes what it was asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()

    async def __call__(self, job: Job) -> Answer:
        assert isinstance(job, Compile)
        self.asked.append(job.source.strip('"'))
        await self.open.wait()
        return compiled(job.source.strip('"'))


async def test_a_tenant_with_many_constraints_holds_up_nobody_else() -> None:
    play = Gated()
    pool = Pool(play)
    await pool.start()
    flood = [asyncio.create_task(pool.compile(pattern(f"a{index}"), "a")) for index in range(5)]
    await asyncio.sleep(0)
    other = [asyncio.create_task(pool.compile(pattern(f"b{index}"), "b")) for index in range(2)]
    await asyncio.sleep(0.01)
    play.open.set()
    await asyncio.gather(*flood, *other)
    assert play.asked == ["a0", "a1", "b0", "a2", "b1", "a3", "a4"]
    await pool.close()


async def test_what_nobody_waits_for_any_more_is_not_compiled() -> None:
    """A client that leaves takes its constraint with it, unless a worker has it already or another waits for it."""
    play = Gated()
    pool = Pool(play)
    await pool.start()
    begun = asyncio.create_task(pool.compile(pattern("begun")))
    await asyncio.sleep(0.01)
    left = [asyncio.create_task(pool.compile(pattern(f"left{index}"))) for index in range(50)]
    shared = [asyncio.create_task(pool.compile(pattern("shared"))) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in (begun, *left, shared[0]):
        task.cancel()
    await asyncio.gather(begun, *left, shared[0], return_exceptions=True)
    again = asyncio.create_task(pool.compile(pattern("left7")))
    await asyncio.sleep(0.01)
    play.open.set()
    assert (await shared[1]).plan.fingerprint == "shared"
    assert (await again).plan.fingerprint == "left7"
    assert play.asked == ["begun", "shared", "left7"]
    assert (await pool.compile(pattern("begun"))).cached
    await pool.close()


async def test_no_constraint_waits_for_ever() -> None:
    """Each slow one ahead of it takes its whole time: whoever waits for six times that is told to come again."""

    async def play(job: Job) -> Answer:
        await asyncio.sleep(60)
        return compiled()

    pool = Pool(play, timeout_s=0.05)
    await pool.start()
    ends = await asyncio.gather(*(pool.compile(pattern(f"{index}")) for index in range(12)), return_exceptions=True)
    assert {type(each) for each in ends} == {GrammarTooLarge, CompilerUnavailable}
    await pool.close()
