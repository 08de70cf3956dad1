"""The whole engine on a GPU beside the whole engine on the CPU: the same requests, the same answers."""

from __future__ import annotations

import warnings
from pathlib import Path

import msgspec
import pytest
import torch

import grammar
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.messages import Failure, Generate, Output, Plan, Sampling, Token
from engine.process import build
from engine.tokenizer import Tokenizer

pytestmark = pytest.mark.gpu

MODEL = Path(__file__).parents[2] / "models" / "formwork-mini"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
TEXT = "Extract the person: Maria Silva is 34 years old and lives in Porto. Then write of the sea, and of ships."


class Clock:
    """Time that stands still."""

    def __call__(self) -> float:
        return 0.0


def answers(loop: EngineLoop, requests: list[Generate]) -> dict[str, list[Token]]:
    """Every request's tokens, all of them under way together."""
    found: dict[str, list[Token]] = {request.request_id: [] for request in requests}
    for request in requests:
        loop.generate(request)
    while not loop.is_idle:
        for event in loop.step():
            assert not isinstance(event, Failure), event.message
            assert isinstance(event, Output)
            found[event.request_id] += event.tokens
    return found


def loop_of(device: str, **options: object) -> tuple[EngineLoop, str]:
    """A loop that knows the schema, and the schema's name."""
    given = {"model": str(MODEL), "device": device, "dtype": "float32", "cache_tokens": 8192, "threads": 1}
    rooms = build(EngineConfig(**{**given, **options}))  # type: ignore[arg-type]
    tokenizer = Tokenizer.load(MODEL)
    spelled = tokenizer.padded_bytes(rooms.info.vocab_size)
    vocabulary = grammar.Vocabulary(spelled, rooms.info.eos_token_ids, tokenizer.special_tokens)
    made = grammar.compile_json_schema(SCHEMA, vocabulary, property_order="schema", whitespace="spaced")
    loop = EngineLoop(rooms, Clock())
    loop.load_grammar(Plan(made.fingerprint, made.to_bytes()))
    return loop, made.fingerprint


def requests_of(fingerprint: str) -> list[Generate]:
    """Greedy and sampled, truncated, penalised and biased, free and under the schema, with alternatives."""
    prompt = Tokenizer.load(MODEL).encode(TEXT)
    plain = Sampling(max_tokens=24, seed=1, temperature=1.0)
    kinds: list[tuple[Sampling, str | None]] = [
        (msgspec.structs.replace(plain, **changed), constraint)
        for constraint in (None, fingerprint)
        for changed in (
            {"temperature": 0.0, "max_tokens": 48},
            {"seed": 2, "max_tokens": 48},
            {"seed": 3, "max_tokens": 48, "top_k": 12, "top_p": 0.8},
            {"seed": 4, "max_tokens": 48, "repetition_penalty": 1.2, "frequency_penalty": 0.3},
            {"seed": 5, "max_tokens": 48, "logit_bias": {70: 2.0}, "min_p": 0.05},
            {"seed": 6, "max_tokens": 48, "typical_p": 0.7},
            {"seed": 7, "max_tokens": 48, "top_logprobs": 3},
        )
    ]
    return [
        Generate(request_id=str(index), prompt=prompt[: len(prompt) - index], sampling=sampling, grammar=constraint)
        for index, (sampling, constraint) in enumerate(kinds)
    ]


@pytest.fixture(scope="module")
def on_cpu() -> dict[str, list[Token]]:
    loop, fingerprint = loop_of("cpu")
    return answers(loop, requests_of(fingerprint))


@pytest.mark.parametrize(
    "options",
    [{}, {"speculate": 0}, {"cuda_graphs": False}, {"max_batch_tokens": 40, "max_sequences": 5}],
    ids=["as served", "no guesses", "no graphs", "small steps"],
)
def test_the_gpu_gives_the_cpus_answers(options: dict[str, object], on_cpu: dict[str, list[Token]]) -> None:
    """Token for token in float32, log-probs to 1e-3: sampling, masks, penalties and guesses all on the device."""
    loop, fingerprint = loop_of("cuda", **options)
    found = answers(loop, requests_of(fingerprint))
    for name, want in on_cpu.items():
        assert [token.token_id for token in found[name]] == [token.token_id for token in want], name
        for ours, theirs in zip(found[name], want, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-3)
            assert ours.constrained_logprob == pytest.approx(theirs.constrained_logprob, abs=1e-3)
            assert ours.legal_mass == pytest.approx(theirs.legal_mass, abs=1e-3)


def test_no_more_than_tokens_comes_back() -> None:
    """A warm step waits for the device once: for what it drew."""
    loop, fingerprint = loop_of("cuda", speculate=0)
    answers(loop, requests_of(fingerprint)[:2])
    for request in (requests_of(fingerprint)[0], requests_of(fingerprint)[7]):
        loop.generate(request)
    for _ in range(4):
        loop.step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            loop.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(each.message) for each in caught if "called a synchronizing" in str(each.message)]
    assert len(waits) == 1, [(each.filename, each.lineno) for each in caught]


def test_sixteen_bits_still_conform() -> None:
    """bfloat16 weights and cache, an fp8 cache: other tokens perhaps, valid ones always."""
    for options in ({"dtype": "bfloat16"}, {"dtype": "bfloat16", "cache_dtype": "fp8"}):
        loop, fingerprint = loop_of("cuda", **options)
        tokenizer = Tokenizer.load(MODEL)
        for tokens in answers(loop, requests_of(fingerprint)[7:]).values():
            text = tokenizer.decode([token.token_id for token in tokens])
            msgspec.json.decode(text, type=dict[str, str | int])
