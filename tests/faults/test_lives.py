"""Rows 27, 28 (one rank), 29 and 31: the engine process dies, hangs, or cannot live; what becomes of its streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import grammar
from engine.client import EngineClient, Supervision
from engine.config import EngineConfig
from engine.errors import EngineDied, EngineUnavailable
from engine.interface import EngineState
from engine.messages import Generate, Plan, Sampling
from engine.tokenizer import Tokenizer
from tests.engine.test_client import collected, model, request  # noqa: F401 - one is a fixture
from tests.engine.test_tokenizer import byte_level  # noqa: F401 - a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# One death a life, each between two steps of a token's commit; then a failing forward pass, and a hang.
DEATHS = (
    "step:kill:nth=12", "draw:kill:nth=30", "drawn:kill:nth=30", "advanced:kill:nth=9", "counted:kill:nth=30",
    "send:kill:nth=12", "sent:kill:nth=12", "step:raise:nth=12", "step:hang:nth=12",
)  # fmt: skip
POISON = 13


@pytest.fixture(scope="module")
def folder(model: tuple[Path, Any], byte_level: Tokenizer) -> Path:  # noqa: F811
    byte_level._backend.save(str(model[0] / "tokenizer.json"))
    return model[0]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def configured(folder: Path, faults: str) -> EngineConfig:
    return EngineConfig(model=str(folder), cache_bytes=1 << 20, threads=1, max_sequences=8, faults=faults)


def constrained(client: EngineClient, tokenizer: Tokenizer) -> tuple[Generate, Plan]:
    """A request whose matcher must be rebuilt: nested, so that its place is more than a count."""
    vocabulary = grammar.Vocabulary(
        tokenizer.padded_bytes(client.info.vocab_size), client.info.eos_token_ids, tokenizer.special_tokens
    )
    made = grammar.compile_regex("(\\(([a-z]{3}\\[[0-9]{2}\\]){4}\\)){9}", vocabulary)
    sampling = Sampling(max_tokens=400, seed=3, temperature=1.2)
    plan = Plan(made.fingerprint, made.to_bytes())
    return Generate(request_id="g", prompt=[9], sampling=sampling, grammar=made.fingerprint), plan


def test_27_29_31_streams_survive_a_death_between_any_two_steps(
    folder: Path,
    byte_level: Tokenizer,  # noqa: F811
    loop: asyncio.AbstractEventLoop,
) -> None:
    """No token is lost, repeated or changed: greedy, drawn, penalised, and under a grammar."""
    faults = "; ".join(f"{death},life={life}" for life, death in enumerate(DEATHS, 1))
    patience = Supervision(silence_s=6.0, most_resumptions=len(DEATHS), crashes=100)
    wanted = [
        request("greedy", 1, max_tokens=260, temperature=0.0),
        request("drawn", 2, max_tokens=260, temperature=1.1, top_p=0.95),
        request("penalised", 3, max_tokens=260, frequency_penalty=0.4, repetition_penalty=1.1),
    ]

    async def run() -> None:
        client = await EngineClient.start(configured(folder, faults), patience)
        try:
            under, plan = constrained(client, byte_level)

            async def all_of_them() -> list[list[int]]:
                outputs = await asyncio.gather(
                    *(collected(client, one) for one in wanted), collected(client, under, plan)
                )
                return [[token.token_id for token in tokens] for tokens in outputs]

            shaken = await all_of_them()
            assert client.continuity.restarts == len(DEATHS)
            assert client.continuity.lost == 0
            quiet = await all_of_them()  # in the last life nothing is due
            assert client.continuity.restarts == len(DEATHS)
            assert shaken == quiet
        finally:
            await client.close()

    loop.run_until_complete(run())


def test_27_a_request_that_kills_its_engine_is_given_up_and_the_breaker_opens(
    folder: Path, loop: asyncio.AbstractEventLoop
) -> None:
    """Two resumptions, then a typed error; three deaths in a row open the breaker, which closes by itself."""
    patience = Supervision(crashes=3, window_s=600.0, cool_s=2.0)

    async def run() -> None:
        client = await EngineClient.start(configured(folder, f"draw:kill:seed={POISON}"), patience)
        try:
            with pytest.raises(EngineDied, match="3 times"):
                await collected(client, request("poison", POISON))
            assert client.continuity.restarts == 3
            assert client.continuity.resumptions == 2
            assert client.continuity.lost == 1
            assert client.state is EngineState.BROKEN
            assert (client.stats.running, client.stats.waiting, client.stats.pages_used) == (0, 0, 0)
            with pytest.raises(EngineUnavailable, match="broken"):
                await collected(client, request("early", 1))
            async with asyncio.timeout(120):
                while client.state != EngineState.READY:  # type: ignore[comparison-overlap]  # it changes by itself
                    await asyncio.sleep(0.1)
            assert len(await collected(client, request("late", 1))) == 24
        finally:
            await client.close()

    loop.run_until_complete(run())


def test_27_a_request_that_kills_its_engine_takes_nobody_along_and_is_kept_out(
    folder: Path,
    byte_level: Tokenizer,  # noqa: F811
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Those beside it go on, byte for byte; what it asked for is refused at once from then on."""
    patience = Supervision(crashes=100, quarantine_s=3600.0)
    beside = [request(f"b{seed}", seed, max_tokens=200) for seed in (1, 2, 3)]
    poison = request("poison", POISON, max_tokens=200)

    async def run() -> None:
        client = await EngineClient.start(configured(folder, f"draw:kill:seed={POISON},nth=20"), patience)
        try:
            quiet = await asyncio.gather(*(collected(client, one) for one in beside))
            shaken = await asyncio.gather(
                collected(client, beside[0]),
                collected(client, poison),
                *(collected(client, one) for one in beside[1:]),
                return_exceptions=True,
            )
            died = shaken.pop(1)
            assert isinstance(died, EngineDied)
            assert shaken == quiet
            assert (client.continuity.restarts, client.continuity.lost) == (3, 1)
            with pytest.raises(EngineDied, match="refused"):
                await collected(client, msgspec.structs.replace(poison, request_id="again"))
            assert client.continuity.restarts == 3
            assert client.continuity.quarantined == 1
            assert len(await collected(client, request("other", POISON + 1))) == 24
        finally:
            await client.close()

    loop.run_until_complete(run())


def test_27_a_life_that_dies_while_it_loads_counts_for_the_breaker_only(
    folder: Path, loop: asyncio.AbstractEventLoop
) -> None:
    """A request is not blamed for the death of a process that never had it."""
    deaths = "drawn:kill:nth=5,life=1; load:kill:life=2; load:kill:life=3; load:kill:life=4"

    async def run() -> None:
        client = await EngineClient.start(configured(folder, deaths), Supervision(crashes=100))
        try:
            assert len(await collected(client, request("patient", 1))) == 24
            assert client.continuity.restarts == 4
            assert client.continuity.resumptions == 1
            assert client.continuity.lost == 0
        finally:
            await client.close()

    loop.run_until_complete(run())
