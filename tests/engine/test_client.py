"""A real engine process behind the client: streams survive its death, and nothing outlives the client.

One process for the module, on a tiny random Llama: starting it is what costs time.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import grammar
from engine.client import EngineClient
from engine.config import EngineConfig
from engine.errors import EngineUnavailable, InvalidRequest, UnknownGrammar
from engine.interface import Engine, EngineState
from engine.messages import Generate, Plan, Sampling, Token
from engine.tokenizer import Tokenizer
from tests.engine.test_tokenizer import byte_level  # noqa: F401 - a fixture

WIDTH = 400


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with a tiny random Llama and a byte-level tokenizer, and the model itself."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=WIDTH,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.2,
    )
    llama: Any = LlamaForCausalLM(config)
    llama.train(False)
    llama.save_pretrained(folder)
    return folder, llama


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(
    model: tuple[Path, Any],
    byte_level: Tokenizer,  # noqa: F811
    loop: asyncio.AbstractEventLoop,
) -> Iterator[EngineClient]:
    byte_level._backend.save(str(model[0] / "tokenizer.json"))
    config = EngineConfig(model=str(model[0]), cache_bytes=1 << 20, threads=1, max_sequences=8)
    started = loop.run_until_complete(EngineClient.start(config))
    yield started
    loop.run_until_complete(started.close(1.0))


def request(name: str, seed: int = 0, **sampling: Any) -> Generate:
    settings = Sampling(**{"max_tokens": 24, "seed": seed, "ignore_eos": True, **sampling})
    return Generate(request_id=name, prompt=[5, 6, 7, seed + 1], sampling=settings)


async def collected(
    engine: Engine, wanted: Generate, plan: Plan | None = None, kill_at: int | None = None
) -> list[Token]:
    """All tokens of a request; kills the engine process when so many have come."""
    tokens: list[Token] = []
    async with aclosing(engine.generate(wanted, plan)) as outputs:
        async for output in outputs:
            assert output.first == len(tokens)
            tokens += output.tokens
            if kill_at is not None and len(tokens) == kill_at:
                assert isinstance(engine, EngineClient)
                assert engine.pid is not None
                os.kill(engine.pid, signal.SIGKILL)
    return tokens


def test_greedy_output_is_that_of_transformers(
    client: EngineClient, model: tuple[Path, Any], loop: asyncio.AbstractEventLoop
) -> None:
    async def all_at_once() -> list[list[Token]]:
        return await asyncio.gather(*(collected(client, request(f"g{i}", i, temperature=0.0)) for i in range(4)))

    for seed, tokens in enumerate(loop.run_until_complete(all_at_once())):
        prompt = torch.tensor([request("", seed).prompt])
        expected = model[1].generate(
            prompt, max_new_tokens=24, do_sample=False, attention_mask=torch.ones_like(prompt), eos_token_id=None
        )
        assert [token.token_id for token in tokens] == expected[0, prompt.shape[1] :].tolist()


def test_streams_survive_the_death_of_the_engine(client: EngineClient, loop: asyncio.AbstractEventLoop) -> None:
    """kill -9 in mid-stream: the same tokens as undisturbed, none lost, none repeated."""
    wanted = [request(f"k{seed}", seed) for seed in range(4)]

    async def undisturbed() -> list[list[Token]]:
        return await asyncio.gather(*(collected(client, one) for one in wanted))

    async def disturbed() -> list[list[Token]]:
        return await asyncio.gather(
            *(collected(client, one, kill_at=9 if one is wanted[2] else None) for one in wanted)
        )

    quiet, shaken = loop.run_until_complete(undisturbed()), loop.run_until_complete(disturbed())
    assert [[token.token_id for token in tokens] for tokens in shaken] == [
        [token.token_id for token in tokens] for tokens in quiet
    ]
    assert client.continuity.restarts == 1
    assert client.continuity.resumptions >= 1
    assert client.state is EngineState.READY


def test_a_grammar_travels_with_its_first_request(
    client: EngineClient,
    byte_level: Tokenizer,  # noqa: F811
    loop: asyncio.AbstractEventLoop,
) -> None:
    vocabulary = grammar.Vocabulary(
        byte_level.padded_bytes(client.info.vocab_size), client.info.eos_token_ids, byte_level.special_tokens
    )
    made = grammar.compile_choice(["yes", "no"], vocabulary)
    plan = Plan(made.fingerprint, made.to_bytes())
    wanted = Generate(request_id="c", prompt=[9], sampling=Sampling(max_tokens=8, seed=1), grammar=made.fingerprint)
    tokens = loop.run_until_complete(collected(client, wanted, plan))
    assert byte_level.decode(token.token_id for token in tokens) in ("yes", "no")


def test_errors_are_raised_by_type(client: EngineClient, loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(InvalidRequest):
        loop.run_until_complete(collected(client, request("bad", top_p=0.0)))
    with pytest.raises(UnknownGrammar):
        loop.run_until_complete(
            collected(
                client, Generate(request_id="u", prompt=[1], sampling=Sampling(max_tokens=1, seed=0), grammar="x")
            )
        )


def test_closing_a_stream_frees_its_pages(client: EngineClient, loop: asyncio.AbstractEventLoop) -> None:
    async def leave_early() -> None:
        outputs = client.generate(request("left", max_tokens=400))
        await anext(outputs)
        await outputs.aclose()
        for _ in range(200):
            await asyncio.sleep(0.05)
            if client.stats.running == 0 and client.stats.pages_used == 0:
                return
        raise AssertionError("the engine still holds pages")

    loop.run_until_complete(leave_early())


def test_a_model_that_is_not_there_is_told(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineUnavailable, match=r"tokenizer\.json"):
        loop.run_until_complete(EngineClient.start(EngineConfig(model=str(tmp_path))))
