"""Text completions, token routes and names, against a scripted engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from engine import NumericError
from engine.messages import Alternative, Finish, FinishReason, Generate, Output, Plan, PromptToken, Token
from schemas.chat import ChatCompletion
from schemas.completions import Completion
from service.wishes import MOST_TOKENS
from tests.engine.scripted import ScriptedEngine, Step
from tests.service.houses import BYTES, EOS, info, saying, served

pytestmark = pytest.mark.anyio
URL = "/v1/completions"


def events_of(text: str) -> list[str]:
    """The data of a stream's events, `[DONE]` left out."""
    *events, done = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert done == "[DONE]"
    return events


async def test_several_prompts_give_choices_prompt_by_prompt(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post(URL, json={"prompt": ["a", "b"], "n": 2, "echo": True})
    answer = Completion.model_validate_json(response.content)
    assert [choice.text for choice in answer.choices] == ["aHi", "aHi", "bHi", "bHi"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert engine.requests[0][0].sampling.max_tokens == 16


async def test_a_prompt_may_be_token_ids(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        for prompt in ([5, 6], [[5, 6]]):
            await client.post(URL, json={"prompt": prompt})
    assert [request.prompt for request, _ in engine.requests] == [[5, 6], [5, 6]]


async def test_logprobs_have_the_legacy_shape(tmp_path: Path) -> None:
    first, second = (BYTES.tokens(text)[0] for text in "ab")
    rich = Token(first.token_id, -0.5, -0.5, 1.0, alternatives=[Alternative(second.token_id, -0.7)])
    async with served(tmp_path, [[rich], [EOS]]) as (client, _):
        answer = (await client.post(URL, json={"prompt": "x", "logprobs": 1})).json()
    assert answer["choices"][0]["logprobs"]["tokens"][0] == "a"
    assert answer["choices"][0]["logprobs"]["top_logprobs"][0] == {"b": -0.7}
    assert answer["choices"][0]["logprobs"]["text_offset"][0] == 0


X, Y = (BYTES.tokens(text)[0].token_id for text in "xy")


class Measured(ScriptedEngine):
    """Tells of a prompt of two tokens how likely they were."""

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        self.requests.append((request, plan))
        count = request.sampling.prompt_logprobs
        assert count is not None
        told = [PromptToken(X, None), PromptToken(Y, -0.75, [Alternative(X, -0.25), Alternative(Y, -0.75)][:count])]
        yield Output(request_id=request.request_id, first=0, prompt=told, tokens=BYTES.tokens("Hi"))
        yield Output(request_id=request.request_id, first=2, finish=Finish(reason=FinishReason.EOS))


@pytest.mark.parametrize(("count", "likelier"), [(0, False), (1, True), (2, True)])
async def test_a_prompts_logprobs_are_told_as_vllm_does(tmp_path: Path, count: int, likelier: bool) -> None:
    chat = {"messages": [{"role": "user", "content": "x"}], "prompt_logprobs": count}
    async with served(tmp_path, Measured(lambda _request, _plan: [], info())) as (client, _):
        text = (await client.post(URL, json={"prompt": "xy", "prompt_logprobs": count, "echo": True})).json()
        both = {"prompt": "xy", "prompt_logprobs": count, "echo": True, "logprobs": 1}
        echoed = (await client.post(URL, json=both)).json()
        spoken = ChatCompletion.model_validate_json((await client.post("/v1/chat/completions", json=chat)).content)
    rank = 2 if count == 2 else None
    second = {str(Y): {"logprob": -0.75, "rank": rank, "decoded_token": "y"}}
    if likelier:
        second[str(X)] = {"logprob": -0.25, "rank": 1, "decoded_token": "x"}
    for choice in (text["choices"][0], echoed["choices"][0], spoken.model_dump()):
        assert choice["prompt_logprobs"] == [None, second]
    assert echoed["choices"][0]["logprobs"]["top_logprobs"][1] == {"x": -0.25}


async def test_an_echoed_prompt_has_its_logprobs(tmp_path: Path) -> None:
    async with served(tmp_path, Measured(lambda _request, _plan: [], info())) as (client, _):
        body = {"prompt": "xy", "echo": True, "logprobs": 1}
        answer = Completion.model_validate_json((await client.post(URL, json=body)).content)
        stream = await client.post(URL, json={**body, "stream": True})
    choice = answer.choices[0]
    assert choice.text == "xyHi"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["x", "y", "H", "i"]
    assert choice.logprobs.token_logprobs == [None, -0.75, -0.5, -0.5]
    assert choice.logprobs.top_logprobs is not None
    assert choice.logprobs.top_logprobs[:2] == [None, {"x": -0.25}]
    assert choice.logprobs.text_offset == [0, 1, 2, 3]
    told = [Completion.model_validate_json(data) for data in events_of(stream.text)]
    assert [each.choices[0].text for each in told] == ["xyHi", ""]
    assert told[0].choices[0].logprobs == choice.logprobs


async def test_several_prompts_stream_side_by_side(tmp_path: Path) -> None:
    """Each choice by its index, as in the answer that is not streamed; the usage is that of all."""
    body = {"prompt": ["a", "b"], "n": 2, "echo": True, "stream": True, "stream_options": {"include_usage": True}}
    async with served(tmp_path, saying("Hi there")) as (client, _):
        response = await client.post(URL, json=body)
    told = [Completion.model_validate_json(data) for data in events_of(response.text)]
    texts, ends = [""] * 4, []
    for each in told[:-1]:
        (choice,) = each.choices
        texts[choice.index] += choice.text
        ends += [choice.index] if choice.finish_reason == "stop" else []
    assert texts == ["aHi there", "aHi there", "bHi there", "bHi there"]
    assert sorted(ends) == [0, 1, 2, 3]
    assert (told[-1].choices, told[-1].usage and told[-1].usage.completion_tokens) == ([], 4 * 9)


async def test_a_prompt_that_fails_ends_the_stream_and_the_others(tmp_path: Path) -> None:
    odd, even = 1, 2

    class Half(ScriptedEngine):
        async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
            if request.prompt == [even]:
                await asyncio.Event().wait()
            async with aclosing(super().generate(request, plan)) as outputs:
                async for output in outputs:
                    yield output

    engine = Half(lambda _request, _plan: [BYTES.tokens("Hi"), NumericError("NaN")], info())
    async with served(tmp_path, engine) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        response = await client.post(URL, json={"prompt": [[odd], [even]], "stream": True})
        assert house.gate.inside == 0
    assert "numeric_error" in response.text
    assert "[DONE]" not in response.text


async def test_the_stop_string_can_stay(tmp_path: Path) -> None:
    steps: list[Step] = [BYTES.tokens("a END"), Finish(reason=FinishReason.STOP, stop=b"END")]
    async with served(tmp_path, steps) as (client, _):
        for keep, text in ((True, "a END"), (False, "a ")):
            body = {"prompt": "x", "stop": "END", "include_stop_str_in_output": keep}
            assert (await client.post(URL, json=body)).json()["choices"][0]["text"] == text


async def test_a_completion_stream_concatenates_to_the_text(tmp_path: Path) -> None:
    async with served(tmp_path, saying("über €")) as (client, _):
        response = await client.post(URL, json={"prompt": "x", "stream": True, "echo": True})
    parsed = [Completion.model_validate_json(each) for each in events_of(response.text)]
    assert "".join(each.choices[0].text for each in parsed) == "xüber €"
    assert parsed[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": "x", "stream": True, "stream_options": {"continuous_usage_stats": True}}, "stream_options"),
        ({"prompt": "x", "stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"prompt": "x", "best_of": 1, "n": 2}, "best_of"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"prompt": ["x"] * 20}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [999]}, "prompt"),
        ({"prompt": [2**70]}, "prompt"),
        ({"prompt": "x", "stop_token_ids": [2**70]}, "stop_token_ids"),
        ({"prompt": "x", "min_tokens": 2**70}, "min_tokens"),
    ],
)
async def test_a_bad_completion_request_is_named(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await client.post(URL, json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)


async def test_tokens_there_and_back(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        tokens = (await client.post("/tokenize", json={"prompt": "über"})).json()
        text = (await client.post("/detokenize", json={"tokens": tokens["tokens"]})).json()
        tgi = (await client.post("/tokenize", json={"inputs": "ü"})).json()
        chat = (await client.post("/tokenize", json={"messages": [{"role": "user", "content": "x"}]})).json()
        none = await client.post("/tokenize", json={})
    assert tokens["count"] == 5
    assert text == {"prompt": "über"}
    assert [(each["start"], each["stop"]) for each in tgi] == [(0, 0), (0, 1)]
    assert chat["count"] == len("user: x") + 2
    assert none.status_code == 400


async def test_the_tokens_of_a_long_text_are_told_in_time_that_grows_with_it(tmp_path: Path) -> None:
    """And no more of them than can be sent back: their places in the text were once counted anew for each."""
    text = "ü日🙂x" * 4000
    async with served(tmp_path, []) as (client, _):
        told = (await client.post("/tokenize", json={"inputs": text})).json()
        refused = await client.post("/tokenize", json={"inputs": "x" * (MOST_TOKENS + 1)})
    whole = [each for each in told if each["start"] < each["stop"]]  # a character's bytes count with the last of them
    assert [each["start"] for each in whole] == list(range(len(text)))
    assert told[-1]["stop"] == len(text)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "inputs")


@pytest.mark.parametrize(
    ("setting", "body", "says"),
    [
        ({"max_stop_sequences": 1}, {"stop": ["a", "b"]}, "up to 1 stop sequences. Given: 2"),
        ({"max_top_n_tokens": 2}, {"logprobs": 3}, "at most 2 alternatives"),
        ({"max_input_tokens": 3}, {"prompt": "abcd"}, "less than 4 tokens. Given: 4"),
        ({"max_n": 1}, {"n": 2}, "at most 1"),
    ],
)
async def test_limits_of_the_operator_are_kept(
    tmp_path: Path, setting: dict[str, Any], body: dict[str, Any], says: str
) -> None:
    async with served(tmp_path, saying("Hi"), **setting) as (client, _):
        response = await client.post(URL, json={"prompt": "x", **body})
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


async def test_an_unknown_name_of_a_constraint_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        body = {"messages": [{"role": "user", "content": "x"}], "formwork": {"grammar": "mine"}}
        response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "formwork.grammar"
    assert json.loads(response.content)["error"]["code"] == "invalid_value"
