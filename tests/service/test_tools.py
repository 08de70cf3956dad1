"""Tool calls: which may be made, what the engine is asked for, and what the client is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.chat import ChatChunk, ChatCompletion, ToolCall
from tests.service.houses import TEMPLATE, Says, served
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
ARGUMENTS = '{"city": "Köln"}'
CALL = f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>'


async def test_auto_speaks_then_calls(tmp_path: Path) -> None:
    async with served(tmp_path, Says(f"Let me look.{CALL}"), HERMES) as (client, engine):
        response = await client.post(URL, json=ASK)
    answer = ChatCompletion.model_validate_json(response.content)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.tool_calls is not None
    call = choice.message.tool_calls[0]
    assert isinstance(call, ToolCall)
    assert (call.function.name, call.function.arguments) == ("weather", ARGUMENTS)
    assert len(engine.requests) == 1
    assert engine.requests[0][1] is not None


async def test_a_calls_tokens_and_fields_are_told_with_it(tmp_path: Path) -> None:
    """Log-probs of the call from its opening to its arguments' end; of each argument how sure the model was."""
    async with served(tmp_path, Says(f"{CALL}\n{NOW}"), HERMES) as (client, _):
        answer = ChatCompletion.model_validate_json((await client.post(URL, json=ASK)).content)
    calls = answer.formwork.choices[0].calls
    assert calls is not None
    assert [call.index for call in calls] == [0, 1]
    tokens = calls[0].tokens
    assert "".join(each["token"] for each in tokens if "bytes:" not in each["token"]) == CALL[:-14].replace("ö", "")
    assert all(each["logprob"] == -0.5 and each["legal_mass"] == 0.75 for each in tokens)
    (field,) = calls[0].fields
    assert (field.path, field.value, field.tokens) == ("/city", "Köln", len('"Köln"'.encode()))
    assert field.logprob == pytest.approx(-0.5 * field.tokens)
    assert [(each.path, each.value) for each in calls[1].fields] == [("", {})]


async def test_auto_may_only_speak(tmp_path: Path) -> None:
    async with served(tmp_path, Says("No need."), HERMES) as (client, _):
        choice = (await client.post(URL, json=ASK)).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "No need."
    assert "tool_calls" not in choice["message"]


async def test_free_text_beside_tools_is_cut_by_its_budget(tmp_path: Path) -> None:
    """Though a grammar holds it: text of no constraint of its own ends as any text does."""
    async with served(tmp_path, Says("A long story", cut=6), HERMES) as (client, _):
        choice = (await client.post(URL, json={**ASK, "max_tokens": 6})).json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "A long")


async def test_required_calls_at_once_and_may_call_again(tmp_path: Path) -> None:
    async with served(tmp_path, Says(f"{CALL}\n{CALL}"), HERMES) as (client, _):
        choice = (await client.post(URL, json={**ASK, "tool_choice": "required"})).json()["choices"][0]
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert len(calls) == 2
    assert len({call["id"] for call in calls}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tool_choice": "required"}, "Hi"),
        ({"parallel_tool_calls": False}, f"{CALL}\n{CALL}"),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, NOW),
        ({"tool_choice": "weather"}, f"{CALL}\n{CALL}"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}}},
            CALL,
        ),
        ({}, CALL.replace('"city"', '"city": 1, "city"')),
        ({}, CALL.replace("weather", "sun")),
    ],
)
async def test_the_model_cannot_say_what_the_choice_excludes(tmp_path: Path, changes: Any, message: str) -> None:
    """The engine of these tests asserts that what it says is legal: here it is not."""
    async with served(tmp_path, Says(message), HERMES) as (client, engine):
        response = await client.post(URL, json={**ASK, **changes})
    assert response.status_code == 500
    assert len(engine.requests) == 1


@pytest.mark.parametrize("choice", [{"type": "function", "function": {"name": "weather"}}, "weather"])
async def test_a_named_tool_is_called(tmp_path: Path, choice: Any) -> None:
    async with served(tmp_path, Says(CALL), HERMES) as (client, _):
        response = await client.post(URL, json={**ASK, "tool_choice": choice})
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_of_the_allowed_tools_any_is_called(tmp_path: Path, mode: str) -> None:
    """Named twice is named once."""
    allowed = {"mode": mode, "tools": [TIME, {"type": "function", "function": {"name": "weather"}}, TIME]}
    async with served(tmp_path, Says(f"{CALL}\n{NOW}"), HERMES) as (client, _):
        response = await client.post(
            URL, json={**ASK, "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}
        )
    calls = response.json()["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "time"]


@pytest.mark.parametrize("size", [1, 2, 7, 300])
async def test_streamed_arguments_join_to_the_exact_text(tmp_path: Path, size: int) -> None:
    async with served(tmp_path, Says(f"Hm {CALL}\n{CALL}", size=size), HERMES) as (client, _):
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
    assert all(call["arguments"] == ARGUMENTS for call in joined.values())
    assert all(call["id"].count("call_") == 1 for call in joined.values())
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "Hm "
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    fields = [call["fields"] for call in chunks[-1]["formwork"]["calls"]]
    assert [[field["path"] for field in each] for each in fields] == [["/city"], ["/city"]]


async def test_none_hides_the_tools(tmp_path: Path) -> None:
    async with served(tmp_path, Says("Hi"), HERMES) as (client, engine):
        await client.post(URL, json={**ASK, "tool_choice": "none"})
    assert isinstance(engine, Says)
    assert b"weather" not in engine.prompts()[0]
    assert engine.requests[0][1] is None


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "needs tools"),
        (
            {"tools": [], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TIME]}}},
            "tool_choice",
            "needs tools",
        ),
        ({"tools": [TIME, TIME]}, "tools", "two tools"),
        ({"tool_choice": "nothing"}, "tool_choice", "weather, time"),
        ({"response_format": {"type": "regex", "value": "(a"}}, "response_format.value", ""),
        ({"tool_choice": "required", "max_tokens": 3}, "max_tokens", "least budget"),
        (
            {"tools": [{"type": "function", "function": {"name": "t", "parameters": {"type": "refused"}}}]},
            "tools.0.function.parameters",
            "tool 't'",
        ),
    ],
)
async def test_what_cannot_be_called_is_named(tmp_path: Path, changes: Any, param: str, says: str) -> None:
    async with served(tmp_path, Says(), HERMES) as (client, _):
        response = await client.post(URL, json={**ASK, **changes})
    assert response.status_code in {400, 422}
    assert response.json()["error"]["param"] == param
    assert says in response.json()["error"]["message"]


async def test_a_template_without_calls_cannot_choose(tmp_path: Path) -> None:
    async with served(tmp_path, Says(f'{{"name": "weather", "arguments": {ARGUMENTS}}}')) as (client, _):
        auto = await client.post(URL, json=ASK)
        required = await client.post(URL, json={**ASK, "tool_choice": "required"})
    assert auto.status_code == 400
    assert required.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_tgis_tool_prompt_stands_before_the_tools(tmp_path: Path) -> None:
    async with served(tmp_path, Says("Hi"), HERMES) as (client, engine):
        await client.post(URL, json={**ASK, "tool_prompt": "You may call:"})
    assert isinstance(engine, Says)
    assert engine.prompts()[0].startswith(b"system: You may call:")


@pytest.mark.parametrize("depth", [300, 900, 5000])
async def test_a_deep_schema_is_the_clients_fault(tmp_path: Path, depth: int) -> None:
    deep = '{"not": ' * depth + "{}" + "}" * depth
    tool = f'{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}'
    body = f'{{"messages": [{{"role": "user", "content": "x"}}], "tool_choice": "required", "tools": [{tool}]}}'
    async with served(tmp_path, Says('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'), HERMES) as (
        client,
        _,
    ):
        response = await client.post(URL, content=body, headers={"content-type": "application/json"})
    assert response.status_code in {200, 400}, response.text


async def test_a_stop_string_cuts_free_text_and_lets_a_call_end(tmp_path: Path) -> None:
    """Before a call it ends the answer; inside a call's arguments it does not cut."""
    async with served(tmp_path, Says(f"Hm. {CALL}", CALL), HERMES) as (client, _):
        spoken = (await client.post(URL, json={**ASK, "stop": "m. "})).json()["choices"][0]
        called = (await client.post(URL, json={**ASK, "stop": "öln"})).json()["choices"][0]
    assert (spoken["message"]["content"], spoken["finish_reason"]) == ("H", "stop")
    assert called["message"]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS
