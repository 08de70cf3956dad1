"""Tool calls: what the engine is asked for, and what the client is told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from engine.messages import Finish, FinishReason, Generate, Plan
from schemas.chat import ChatChunk, ChatCompletion, FunctionTool, ToolCall
from service.calling import CallText
from service.tools import call_schema, callables
from tests.engine.scripted import ScriptedEngine, Step
from tests.service.houses import BYTES, EOS, TEMPLATE, info, served
from tests.service.test_chat_route import events

pytestmark = pytest.mark.anyio
URL = "/v1/chat/completions"
HERMES = TEMPLATE + "{% for tool in tools or [] %}<tool_call>{{ tool.function.name }}{% endfor %}"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
TIME = {"type": "function", "function": {"name": "time"}}
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "tools": [WEATHER, TIME]}
CALL = '{"name": "weather", "arguments": {"city": "Köln"}}'


class Caller(ScriptedEngine):
    """Answers free text, a call, and the question for another call, in turn."""

    def __init__(self, text: str, calls: int = 1) -> None:
        super().__init__(self.play, info())
        self.text = text
        self.calls = calls

    def play(self, request: Generate, plan: Plan | None) -> Iterable[Step]:
        if plan is None:
            hit = "<tool_call>" in self.text
            end = Finish(reason=FinishReason.STOP, stop=b"<tool_call>") if hit else Finish(reason=FinishReason.EOS)
            return [BYTES.tokens(self.text), end]
        before = bytes_of(request.prompt)
        if before.endswith(b"</tool_call>"):
            self.calls -= 1
            more = BYTES.tokens("\n<tool_call>\n") if self.calls > 0 else [EOS]
            return [more, Finish(reason=FinishReason.EOS)]
        return [*([token] for token in BYTES.tokens(CALL)), Finish(reason=FinishReason.EOS)]


def bytes_of(prompt: list[int]) -> bytes:
    spelled = {BYTES.tokens(bytes([byte]))[0].token_id: bytes([byte]) for byte in range(256)}
    return b"".join(spelled.get(token, b"") for token in prompt)


async def test_auto_speaks_then_calls(tmp_path: Path) -> None:
    engine = Caller("Let me look.<tool_call>\n{")
    async with served(tmp_path, engine, HERMES) as (client, _):
        response = await client.post(URL, json=ASK)
    answer = ChatCompletion.model_validate_json(response.content)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.tool_calls is not None
    call = choice.message.tool_calls[0]
    assert isinstance(call, ToolCall)
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Köln"}
    assert answer.formwork.choices[0].calls is not None
    told = answer.formwork.choices[0].calls[0].tokens
    assert "".join(each["token"] for each in told if "bytes:" not in each["token"]) == CALL.replace("ö", "")
    assert all(each["logprob"] == -0.5 and each["legal_mass"] == 0.75 for each in told)
    assert bytes_of(engine.requests[1][0].prompt).endswith(b"Let me look.<tool_call>\n")


async def test_auto_may_only_speak(tmp_path: Path) -> None:
    async with served(tmp_path, Caller("No need."), HERMES) as (client, engine):
        choice = (await client.post(URL, json=ASK)).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "No need."
    assert "tool_calls" not in choice["message"]
    assert len(engine.requests) == 1


async def test_required_calls_at_once_and_may_call_again(tmp_path: Path) -> None:
    engine = Caller("", calls=2)
    async with served(tmp_path, engine, HERMES) as (client, _):
        choice = (await client.post(URL, json={**ASK, "tool_choice": "required"})).json()["choices"][0]
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert len(calls) == 2
    assert len({call["id"] for call in calls}) == 2
    assert all(plan is not None for _, plan in engine.requests)
    assert bytes_of(engine.requests[0][0].prompt).endswith(b"<tool_call>\n")


async def test_parallel_calls_can_be_declined(tmp_path: Path) -> None:
    body = {**ASK, "tool_choice": "required", "parallel_tool_calls": False}
    async with served(tmp_path, Caller("", calls=3), HERMES) as (client, _):
        choice = (await client.post(URL, json=body)).json()["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1


@pytest.mark.parametrize("choice", [{"type": "function", "function": {"name": "weather"}}, "weather"])
async def test_a_named_tool_is_the_only_one(tmp_path: Path, choice: Any) -> None:
    async with served(tmp_path, Caller(""), HERMES) as (client, engine):
        response = await client.post(URL, json={**ASK, "tool_choice": choice})
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"
    assert len(engine.requests) == 1


async def test_streamed_arguments_join_to_the_exact_text(tmp_path: Path) -> None:
    async with served(tmp_path, Caller("Hm <tool_call>", calls=2), HERMES) as (client, _):
        response = await client.post(URL, json={**ASK, "stream": True})
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    joined: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        ChatChunk.model_validate(chunk)
        for call in chunk["choices"][0]["delta"].get("tool_calls", []):
            known = joined.setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
            known["id"] += call.get("id", "")
            known["name"] += call["function"].get("name", "")
            known["arguments"] += call["function"]["arguments"]
    assert [call["name"] for call in joined.values()] == ["weather", "weather"]
    assert all(json.loads(call["arguments"]) == {"city": "Köln"} for call in joined.values())
    assert all(call["id"].count("call_") == 1 for call in joined.values())
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_none_hides_the_tools(tmp_path: Path) -> None:
    async with served(tmp_path, Caller("Hi"), HERMES) as (client, engine):
        await client.post(URL, json={**ASK, "tool_choice": "none"})
    assert b"<tool_call>" not in bytes_of(engine.requests[0][0].prompt)


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tools": [TIME, TIME]}, "tools", "two tools"),
        ({"tool_choice": "nothing"}, "tool_choice", "weather, time"),
        ({"response_format": {"type": "regex", "value": "a+"}}, "response_format.value", "told apart"),
        ({"tool_choice": "required", "max_tokens": 3}, "max_tokens", "least budget"),
        (
            {"tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "refused"}}}]},
            "tools.0.function.parameters",
            "tool 't'",
        ),
    ],
)
async def test_what_cannot_be_called_is_named(tmp_path: Path, changes: Any, param: str, says: str) -> None:
    async with served(tmp_path, Caller(""), HERMES) as (client, _):
        response = await client.post(URL, json={**ASK, **changes})
    assert response.status_code in {400, 422}
    assert response.json()["error"]["param"] == param
    assert says in response.json()["error"]["message"]


async def test_a_template_without_calls_cannot_choose(tmp_path: Path) -> None:
    async with served(tmp_path, Caller("")) as (client, _):
        auto = await client.post(URL, json=ASK)
        required = await client.post(URL, json={**ASK, "tool_choice": "required"})
    assert auto.status_code == 400
    assert required.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_tgis_tool_prompt_stands_before_the_tools(tmp_path: Path) -> None:
    async with served(tmp_path, Caller("Hi"), HERMES) as (client, engine):
        await client.post(URL, json={**ASK, "tool_prompt": "You may call:"})
    assert bytes_of(engine.requests[0][0].prompt).startswith(b"system: You may call:")


@pytest.mark.parametrize("depth", [300, 480, 900, 5000])
async def test_a_deep_schema_is_the_clients_fault(tmp_path: Path, depth: int) -> None:
    deep = '{"not": ' * depth + "{}" + "}" * depth
    tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}'
    body = f'{{"messages": [{{"role": "user", "content": "x"}}], "tool_choice": "required", "tools": [{tool}]}}'
    async with served(tmp_path, Caller(""), HERMES) as (client, _):
        response = await client.post(URL, content=body, headers={"content-type": "application/json"})
    assert response.status_code in {200, 400}, response.text


def test_a_tools_own_references_point_into_it() -> None:
    parameters = {"$defs": {"c": {"type": "integer"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/c"}}}
    tool = FunctionTool.model_validate({"type": "function", "function": {"name": "f", "parameters": parameters}})
    other = FunctionTool.model_validate(TIME)
    for tools in ([tool], [other, tool]):
        schema: Any = call_schema(callables(tools))
        validator = Draft202012Validator(schema)
        assert validator.is_valid({"name": "f", "arguments": {"n": 5}})
        assert not validator.is_valid({"name": "f", "arguments": {"n": "5"}})
        assert not validator.is_valid({"name": "g", "arguments": {}})


@given(st.lists(st.integers(1, 7), max_size=40))
def test_a_call_is_read_whatever_its_pieces(cuts: list[int]) -> None:
    parser, told, rest = CallText(0), [], CALL
    for cut in cuts:
        told += parser.feed(rest[:cut])
        rest = rest[cut:]
    told += parser.feed(rest)
    assert [piece.name for piece in told][:1] == ["weather"]
    assert "".join(piece.arguments for piece in told) == '{"city": "Köln"}'
    assert all(piece.name is None for piece in told[1:])
