"""An engine of two ranks behind the client: the same tokens as one, and a rank's end is no stream's end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import grammar
from engine.client import EngineClient
from engine.config import EngineConfig
from engine.messages import Generate, Mark, Plan, Sampling, Token
from engine.tokenizer import Tokenizer
from tests.engine.test_client import collected, loop, model, request  # noqa: F401 - two are fixtures
from tests.engine.test_tokenizer import byte_level  # noqa: F401 - a fixture
from watermark import SCHEMES

pytestmark = pytest.mark.slow

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


@pytest.fixture(scope="module")
def folder(model: tuple[Path, Any], byte_level: Tokenizer) -> Path:  # noqa: F811
    byte_level._backend.save(str(model[0] / "tokenizer.json"))
    return model[0]


@contextmanager
def served(
    folder: Path,
    ranks: int,
    loop: asyncio.AbstractEventLoop,  # noqa: F811
    guesses: int = 16,
) -> Iterator[EngineClient]:
    """A client whose engine has so many ranks, and a key."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": {"test": "5a" * 32}}), encoding="ascii")
    config = EngineConfig(
        model=str(folder),
        cache_bytes=1 << 20,
        threads=1,
        max_sequences=8,
        tensor_parallel_size=ranks,
        speculate=guesses,
        rank_timeout_s=4.0,
        watermark_key_file=str(keys),
    )
    client = loop.run_until_complete(EngineClient.start(config))
    try:
        yield client
    finally:
        loop.run_until_complete(client.close(1.0))


def second_rank(client: EngineClient) -> int:
    """The process id of rank 1: the engine process's only child."""
    (pid,) = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text(encoding="ascii").split()
    return int(pid)


def constrained(client: EngineClient, tokenizer: Tokenizer) -> tuple[list[Generate], Plan]:
    """Requests under a schema, sampled and greedy."""
    vocabulary = grammar.Vocabulary(
        tokenizer.padded_bytes(client.info.vocab_size), client.info.eos_token_ids, tokenizer.special_tokens
    )
    made = grammar.compile_json_schema(SCHEMA, vocabulary)
    wanted = [
        Generate(
            request_id=f"c{seed}",
            prompt=[3, seed],
            sampling=Sampling(max_tokens=60, seed=seed, temperature=temperature),
            grammar=made.fingerprint,
        )
        for seed, temperature in enumerate((1.0, 0.0, 0.7))
    ]
    return wanted, Plan(made.fingerprint, made.to_bytes())


def marked(schemes: Iterable[str]) -> list[Generate]:
    """One request under each scheme, greedy where that can be marked."""
    return [
        msgspec.structs.replace(
            request(f"m-{name}", seed, temperature=0.0 if SCHEMES[name].marks_greedy else 0.9),
            mark=Mark(scheme=name, key_id="test", tenant="t"),
        )
        for seed, name in enumerate(schemes)
    ]


async def gathered(client: EngineClient, wanted: list[Generate], plan: Plan | None) -> list[list[Token]]:
    """All requests at once."""
    return await asyncio.gather(*(collected(client, one, plan) for one in wanted))


@pytest.mark.parametrize("several", [2, 4])
def test_several_ranks_give_the_tokens_of_one(
    several: int,
    folder: Path,
    byte_level: Tokenizer,  # noqa: F811
    loop: asyncio.AbstractEventLoop,  # noqa: F811
) -> None:
    """Some that guess and one that does not; free, constrained and marked, greedy and sampled, together; log-probs to
    1e-4. The mark is the key's and not a rank's: eligible positions too are the same.
    """
    told = []
    for ranks, guesses in ((1, 0), (several, 16)):
        with served(folder, ranks, loop, guesses) as client:
            wanted, plan = constrained(client, byte_level)
            free = [request(f"f{seed}", seed, temperature=seed / 2) for seed in range(3)]
            told.append(loop.run_until_complete(gathered(client, [*wanted, *free, *marked(SCHEMES)], plan)))
    alone, shared = told
    for one, other in zip(alone, shared, strict=True):
        assert [(token.token_id, token.eligible) for token in one] == [
            (token.token_id, token.eligible) for token in other
        ]
        for a, b in zip(one, other, strict=True):
            assert b.logprob == pytest.approx(a.logprob, abs=1e-4)
            assert b.constrained_logprob == pytest.approx(a.constrained_logprob, abs=1e-4)
    assert all(any(token.eligible for token in one) for one in shared[-len(SCHEMES) :])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_costs_no_token(
    folder: Path,
    loop: asyncio.AbstractEventLoop,  # noqa: F811
    number: signal.Signals,
) -> None:
    """The group starts again and every stream goes on with the tokens of an undisturbed run."""

    async def disturbed(client: EngineClient) -> list[list[Token]]:
        streams = asyncio.gather(*(collected(client, one) for one in wanted))
        while client.stats.running == 0:
            await asyncio.sleep(0.01)
        os.kill(second_rank(client), number)
        return await streams

    wanted = [request(f"k{seed}", seed, max_tokens=400) for seed in range(4)]
    with served(folder, 2, loop) as client:
        quiet = loop.run_until_complete(gathered(client, wanted, None))
        shaken = loop.run_until_complete(disturbed(client))
        assert client.continuity.restarts == 1
    assert [[t.token_id for t in tokens] for tokens in shaken] == [[t.token_id for t in tokens] for tokens in quiet]


def test_a_rank_that_dies_while_nothing_runs_is_noticed(
    folder: Path,
    loop: asyncio.AbstractEventLoop,  # noqa: F811
) -> None:
    """The next request finds an engine."""

    async def after_a_while(client: EngineClient) -> list[Token]:
        os.kill(second_rank(client), signal.SIGKILL)
        while client.continuity.restarts == 0:
            await asyncio.sleep(0.05)
        return await collected(client, request("next", 1))

    with served(folder, 2, loop) as client:
        assert len(loop.run_until_complete(asyncio.wait_for(after_a_while(client), 240.0))) == 24
