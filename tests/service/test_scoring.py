"""`/v1/choices/score`: spellings by brute force, sums by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import EngineOverloaded
from engine.messages import Finish, FinishReason, Generate, Output, Plan, PromptToken
from engine.tokenizer import Tokenizer
from schemas.scoring import ScoreReply
from service.scoring import spellings
from tests.engine.scripted import ScriptedEngine
from tests.service.houses import BYTES, info, served

pytestmark = pytest.mark.anyio
URL = "/v1/choices/score"


class Measured(ScriptedEngine):
    """Gives each prompt token the log-prob that `of` says."""

    def __init__(self, of: dict[int, float]) -> None:
        super().__init__(lambda _request, _plan: [], info())
        self.of = of

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        self.requests.append((request, plan))
        assert request.sampling.prompt_logprobs == 0
        told = [PromptToken(token, self.of.get(token, -1.0) if at else None) for at, token in enumerate(request.prompt)]
        yield Output(request_id=request.request_id, first=0, prompt=told, finish=Finish(reason=FinishReason.LENGTH))


async def test_options_are_measured_and_compared(tmp_path: Path) -> None:
    y, n, end = BYTES.tokens("y")[0].token_id, BYTES.tokens("n")[0].token_id, 256
    async with served(tmp_path, Measured({y: -0.25, n: -2.0, end: -0.5})) as (client, engine):
        response = await client.post(URL, json={"prompt": "q ", "choices": ["y", "n"]})
        bare = (await client.post(URL, json={"prompt": "q ", "choices": ["y", "ny"], "ends": False})).json()
    answer = ScoreReply.model_validate_json(response.content)
    assert [each.logprob for each in answer.choices] == [-0.75, -2.5]
    assert answer.best == "y"
    assert math.isclose(answer.mass, math.exp(-0.75) + math.exp(-2.5))
    assert math.isclose(answer.choices[0].share, math.exp(-0.75) / answer.mass)
    assert [each["logprob"] for each in bare["choices"]] == [-0.25, -2.25]
    assert answer.prompt_tokens == 2
    assert len(engine.requests) == 4


async def test_a_regular_expression_is_all_its_texts(tmp_path: Path) -> None:
    """At most 256, none of them empty."""
    async with served(tmp_path, Measured({})) as (client, engine):
        answer = (await client.post(URL, json={"prompt": "q", "regex": "[ab]c?"})).json()
        endless = await client.post(URL, json={"prompt": "q", "regex": "a+"})
        large = await client.post(URL, json={"prompt": "q", "regex": "[0-9]{3}"})
        empty = await client.post(URL, json={"prompt": "q", "regex": "a?"})
        both = await client.post(URL, json={"prompt": "q", "regex": "a", "choices": ["a"]})
    assert [each["choice"] for each in answer["choices"]] == ["a", "ac", "b", "bc"]
    assert len(engine.requests) == 4
    for refused, says in ((endless, "without end"), (large, "1000 texts"), (empty, "empty"), (both, "exactly one")):
        assert refused.status_code == 400
        assert says in refused.json()["error"]["message"]
    assert endless.json()["error"]["param"] == "regex"


async def test_a_conversation_is_scored_after_its_prompt(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "choices": ["a"]}
    async with served(tmp_path, Measured({})) as (client, engine):
        response = await client.post(URL, json=body)
    assert response.json()["prompt_tokens"] == len("user: x") + 2
    assert len(engine.requests[0][0].prompt) == len("user: x") + 2 + 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x", "choices": []}, "choices"),
        ({"messages": [], "choices": ["a"]}, "messages"),
        ({"prompt": "x", "choices": ["a", "a"]}, "choices"),
        ({"prompt": "x", "choices": [""]}, "choices"),
        ({"prompt": "x", "choices": ["a"] * 1 + [str(i) for i in range(9)], "tokenizations": 64}, "tokenizations"),
        ({"prompt": "", "choices": ["a"]}, "prompt"),
        ({"prompt": "x" * 5000, "choices": ["a"]}, "prompt"),
    ],
)
async def test_what_cannot_be_scored_is_named(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    async with served(tmp_path, Measured({})) as (client, _):
        response = await client.post(URL, json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)


async def test_the_engines_refusal_is_the_requests(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda _request, _plan: [EngineOverloaded("full")], info())
    async with served(tmp_path, engine) as (client, _):
        response = await client.post(URL, json={"prompt": "x", "choices": ["a", "b"]})
    assert response.status_code == 503


class Vocabulary:
    """A tokenizer of a few tokens; its own spelling is greedy."""

    def __init__(self, *tokens: str) -> None:
        self.vocabulary_bytes = [token.encode() for token in tokens]

    def encode(self, text: str, *, special: bool) -> list[int]:
        assert not special
        found, at = [], 0
        while at < len(text):
            token = max((t for t in self.vocabulary_bytes if text[at:].encode().startswith(t)), key=len)
            found.append(self.vocabulary_bytes.index(token))
            at += len(token)
        return found


def brute(tokens: list[bytes], text: bytes) -> set[tuple[int, ...]]:
    """Every sequence of tokens that spells the text, by trying all."""
    return {
        some
        for size in range(1, len(text) + 1)
        for some in itertools.product(range(len(tokens)), repeat=size)
        if b"".join(tokens[token] for token in some) == text
    }


@given(st.text("ab", min_size=1, max_size=4), st.integers(2, 20))
def test_all_spellings_are_found_and_the_shortest_first(text: str, limit: int) -> None:
    vocabulary: Any = Vocabulary("a", "b", "ab", "aa", "ba", "bab")
    tokenizer: Tokenizer = vocabulary
    found = spellings(tokenizer, text, limit)
    expected = brute(vocabulary.vocabulary_bytes, text.encode())
    assert found.tokens[0] == vocabulary.encode(text, special=False)
    assert len({tuple(each) for each in found.tokens}) == len(found.tokens) == min(limit, len(expected))
    assert {tuple(each) for each in found.tokens} <= expected
    assert found.complete == (len(expected) <= limit)
    rest = [len(each) for each in found.tokens[1:]]
    assert rest == sorted(rest)
