"""Who gets what is lent, and that nothing is lost when somebody stops waiting."""

from __future__ import annotations

import asyncio
import random

import pytest

from service.turns import Turns

pytestmark = pytest.mark.anyio


async def test_tenants_take_turns_and_each_ones_own_come_in_order() -> None:
    turns: Turns[str] = Turns()
    got: list[str] = []

    async def want(tenant: str, name: str) -> None:
        await turns.take(tenant)
        got.append(name)
        turns.give("it")

    wanted = [asyncio.create_task(want(name[0], name)) for name in ("a1", "a2", "a3", "b1", "c1", "c2")]
    await asyncio.sleep(0)
    assert turns.waiting == 6
    turns.give("it")
    await asyncio.gather(*wanted)
    assert got == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert await turns.take("d") == "it"


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_leaves_whenever_nothing_is_lost(seed: int) -> None:
    """What is lent is always with somebody or idle, and everyone who stays gets it."""
    chance, turns = random.Random(seed), Turns[int]()
    out: set[int] = set()

    async def use(tenant: str) -> None:
        lent = await turns.take(tenant)
        assert lent not in out
        out.add(lent)
        try:
            await asyncio.sleep(chance.random() / 500)
        finally:
            out.remove(lent)
            turns.give(lent)

    for lent in range(3):
        turns.give(lent)
    tasks = [asyncio.create_task(use(chance.choice("abc"))) for _ in range(60)]
    stay = [task for task in tasks if chance.random() < 0.6]
    for task in set(tasks) - set(stay):
        await asyncio.sleep(chance.random() / 1000)
        task.cancel()
    async with asyncio.timeout(10):
        await asyncio.gather(*stay)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted([await turns.take("d") for _ in range(3)]) == [0, 1, 2]
    assert turns.waiting == 0
