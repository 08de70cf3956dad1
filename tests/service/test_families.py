"""Calls and reasoning in the forms of the model families: what the engine is asked for, what the client is told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.messages import Finish, FinishReason
from service.families import CALL_FORMS, THOUGHT_FORMS, call_form, thought_form
from service.json_text import MemberText
from tests.engine.scripted import ScriptedEngine, Step
from tests.service.houses import BYTES, EOS, TEMPLATE, info, served
from tests.service.test_chat_route import content, events
from tests.service.test_tools import TIME, WEATHER, bytes_of

pytestmark = pytest.mark.anyio
URL = "/v1/chat/completions"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "tools": [WEATHER, TIME]}
FREE: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
OBJECT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "t", "schema": {"type": "object"}}}


class Parts(ScriptedEngine):
    """Answers the parts of a choice in turn: (text, stop) each; a stop of None is an end token, a number a token."""

    def __init__(self, *parts: tuple[str, str | int | None]) -> None:
        super().__init__(lambda _request, _plan: self.play(), info())
        self.parts = list(parts)

    def play(self) -> Iterable[Step]:
        text, stop = self.parts.pop(0)
        if stop is None:
            return [BYTES.tokens(text), [EOS], Finish(reason=FinishReason.EOS)]
        if stop == "length":
            return [BYTES.tokens(text), Finish(reason=FinishReason.LENGTH)]
        return [
            BYTES.tokens(text),
            Finish(reason=FinishReason.STOP, stop=stop if isinstance(stop, int) else stop.encode()),
        ]

    def prompts(self) -> list[bytes]:
        return [bytes_of(request.prompt) for request, _ in self.requests]


@pytest.mark.parametrize(
    ("template", "calls", "thought"),
    [
        ("{{ '<tool_call>' }}", "hermes", None),
        ("<tool_call> <think></think>", "hermes", "think"),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral", None),
        ("[TOOL_CALLS]name[ARGS] [THINK][/THINK]", "mistral_args", "mistral"),
        ("<｜tool▁calls▁begin｜> ```json", "deepseek_v3", None),
        ("<｜tool▁calls▁begin｜> </think>", "deepseek_v31", "think"),
        ("<|channel|>final", "openai", "openai"),
        ("<|python_tag|>", "llama3_json", None),
        ("<tool_call><function=name>", "json", None),
        ("plain", "json", None),
    ],
)
def test_a_template_shows_its_family(template: str, calls: str, thought: str | None) -> None:
    assert call_form("auto", template).name == calls
    found = thought_form("auto", template)
    assert (found.name if found else None) == thought


def test_a_flag_overrules_the_template() -> None:
    assert call_form("mistral", "<tool_call>") is CALL_FORMS["mistral"]
    assert thought_form("none", "<think></think>") is None
    assert thought_form("think", "plain") is THOUGHT_FORMS["think"]


ARGUMENTS = '{"city": "Köln"}'


@pytest.mark.parametrize(
    ("family", "parts", "before"),
    [
        ("llama3_json", [(f'{{"name": "weather", "parameters": {ARGUMENTS}}}', None)], ""),
        (
            "mistral",
            [(f'{{"name": "weather", "arguments": {ARGUMENTS}}}', None), ("]", None)],
            "[TOOL_CALLS][",
        ),
        (
            "mistral_args",
            [("weather", None), (ARGUMENTS, None), ("", None)],
            "[TOOL_CALLS]weather[ARGS]",
        ),
        (
            "deepseek_v3",
            [("weather", None), (ARGUMENTS, None), ("<｜tool▁calls▁end｜>", None)],
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n",
        ),
        (
            "deepseek_v31",
            [("weather", None), (ARGUMENTS, None), ("<｜tool▁calls▁end｜>", None)],
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>",
        ),
    ],
)
async def test_a_required_call_is_written_as_the_family_does(
    tmp_path: Path, family: Any, parts: Sequence[tuple[str, str | None]], before: str
) -> None:
    engine = Parts(*parts)
    async with served(tmp_path, engine, tool_call_parser=family) as (client, _):
        response = await client.post(URL, json={**ASK, "tool_choice": "required"})
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("weather", ARGUMENTS)
    where = next(place for place, (text, _) in enumerate(parts) if "{" in text)
    assert engine.prompts()[where].endswith(before.encode())
    assert all(plan is not None for _, plan in engine.requests)


async def test_a_second_call_follows_the_first(tmp_path: Path) -> None:
    parts = [("weather", None), (ARGUMENTS, None), ("[TOOL_CALLS]", None), ("time", None), ("{}", None), ("", None)]
    engine = Parts(*parts)
    async with served(tmp_path, engine, tool_call_parser="mistral_args") as (client, _):
        response = await client.post(URL, json={**ASK, "tool_choice": "required"})
    calls = response.json()["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "time"]
    assert engine.prompts()[4].endswith(b"[TOOL_CALLS]weather[ARGS]" + ARGUMENTS.encode() + b"[TOOL_CALLS]time[ARGS]")


async def test_gpt_oss_reasons_then_answers_or_calls(tmp_path: Path) -> None:
    speaking = Parts(("hm", 256), ("final", None), ("Hello.", None))
    template = TEMPLATE + "<|channel|>"
    async with served(tmp_path, speaking, template) as (client, _):
        said = (await client.post(URL, json=ASK)).json()["choices"][0]
    calling = Parts(("hm", 256), ("commentary to=functions.weather", None), (ARGUMENTS, None))
    async with served(tmp_path, calling, template) as (client, _):
        called = (await client.post(URL, json=ASK)).json()["choices"][0]
    assert said["message"]["reasoning_content"] == "hm"
    assert said["message"]["content"] == "Hello."
    assert said["finish_reason"] == "stop"
    assert called["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert called["message"]["content"] is None
    assert b"<|start|>assistant<|channel|>final<|message|>" in speaking.prompts()[2]
    assert calling.prompts()[2].endswith(b"commentary to=functions.weather <|constrain|>json<|message|>")


async def test_reasoning_is_told_apart_and_the_constraint_begins_after_it(tmp_path: Path) -> None:
    engine = Parts(("Let me see.\n", "</think>"), ('{"a": 1}', None))
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={**FREE, "response_format": OBJECT})
    answer = response.json()
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == "Let me see.\n"
    assert message["content"] == '{"a": 1}'
    assert [plan is not None for _, plan in engine.requests] == [False, True]
    assert engine.prompts()[0].endswith(b"<think>")
    assert engine.prompts()[1].endswith(b"<think>Let me see.\n</think>\n\n")
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == len("Let me see.\n")
    assert "reasoning_content" not in json.dumps(answer["formwork"])


async def test_reasoning_streams_as_deltas_of_its_own(tmp_path: Path) -> None:
    engine = Parts(("Hm.", "</think>"), ("Yes.", None))
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={**FREE, "stream": True})
    *chunks, _ = events(response.text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert content(chunks) == "Yes."


async def test_reasoning_leaves_room_for_the_answer(tmp_path: Path) -> None:
    engine = Parts(("a b c", "length"), ("{}", None))
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={**FREE, "response_format": OBJECT, "max_tokens": 60})
        small = await client.post(URL, json={**FREE, "response_format": OBJECT, "max_tokens": 12})
    choice = response.json()
    assert choice["choices"][0]["finish_reason"] == "stop"
    assert choice["formwork"]["choices"][0]["closed_by_budget"] is True
    marks = len("<think></think>\n\n")
    assert engine.requests[0][0].sampling.max_tokens == 60 - marks - 5  # the scripted compiler's least budget
    assert engine.requests[1][0].sampling.max_tokens >= 5
    assert small.json()["error"]["formwork"]["least_budget"] == marks + 5


async def test_free_text_may_end_in_its_reasoning(tmp_path: Path) -> None:
    engine = Parts(("a b c", "length"))
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={**FREE, "max_tokens": 10})
    choice = response.json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")


@pytest.mark.parametrize("change", [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}])
async def test_reasoning_can_be_declined(tmp_path: Path, change: dict[str, Any]) -> None:
    engine = Parts(("Yes.", None))
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={**FREE, **change})
    assert response.json()["choices"][0]["message"]["content"] == "Yes."
    assert b"<think>" not in engine.prompts()[0]


@pytest.mark.parametrize(("tail", "reasons"), [("{# </think> #}<think>\n", True), ("<think>\n\n</think>\n\n", False)])
async def test_a_template_may_have_opened_or_closed_the_reasoning(tmp_path: Path, tail: str, reasons: bool) -> None:
    engine = Parts(("Hm.", "</think>"), ("Yes.", None)) if reasons else Parts(("Yes.", None))
    async with served(tmp_path, engine, TEMPLATE + tail) as (client, _):
        response = await client.post(URL, json=FREE)
    message = response.json()["choices"][0]["message"]
    assert message.get("reasoning_content") == ("Hm." if reasons else None)
    assert engine.prompts()[0].count(b"<think>") == 1


NUMBER = {"type": "custom", "custom": {"name": "dial", "format": {"type": "grammar", "grammar": {"syntax": "regex"}}}}


def dial(definition: str = r"\+[0-9]{3,9}") -> dict[str, Any]:
    tool = json.loads(json.dumps(NUMBER))
    tool["custom"]["format"]["grammar"]["definition"] = definition
    return dict(tool)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_custom_tool_is_told_its_text(tmp_path: Path, stream: bool) -> None:
    call = r'{"name": "dial", "arguments": {"input": "\"+4\u00e9\ud83d\ude00\\9"}}'
    body = {**FREE, "tools": [dial(), WEATHER], "tool_choice": {"type": "custom", "custom": {"name": "dial"}}}
    async with served(tmp_path, Parts((call, None)), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**body, "stream": stream})
    if stream:
        *chunks, _ = events(response.text)
        parts = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
        assert [part["type"] for part in parts if "type" in part] == ["custom"]
        assert "".join(part["custom"]["input"] for part in parts) == '"+4é😀\\9'
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    else:
        (told,) = response.json()["choices"][0]["message"]["tool_calls"]
        assert told["custom"] == {"name": "dial", "input": '"+4é😀\\9'}


async def test_a_custom_tools_regex_is_enforced_and_its_lark_refused(tmp_path: Path) -> None:
    engine = Parts(('{"name": "dial", "arguments": {"input": "x"}}', None))
    asked = {**FREE, "tool_choice": "required"}
    lark = json.loads(json.dumps(dial()))
    lark["custom"]["format"]["grammar"]["syntax"] = "lark"
    async with served(tmp_path, engine) as (client, _):
        await client.post(URL, json={**asked, "tools": [dial()]})
        refused = await client.post(URL, json={**asked, "tools": [lark]})
    plan = engine.requests[0][1]
    assert plan is not None
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "unsupported_constraint"
    assert "tools.0.custom.format" in refused.json()["error"]["message"]


@given(st.text(max_size=12), st.lists(st.integers(1, 5), max_size=40), st.booleans())
def test_a_custom_tools_text_is_read_whatever_its_pieces(value: str, cuts: list[int], ascii_only: bool) -> None:
    text = json.dumps({"input": value}, ensure_ascii=ascii_only)
    reader, told, at = MemberText("input"), "", 0
    for size in [*cuts, len(text)]:
        told += reader.feed(text[at : at + size])
        at += size
    assert told == value


async def test_older_functions_are_answered_in_their_own_form(tmp_path: Path) -> None:
    call = '{"name": "weather", "arguments": {"city": "x"}}'
    body = {**FREE, "functions": [WEATHER["function"]], "function_call": {"name": "weather"}}
    async with served(tmp_path, Parts((call, None), (call, None))) as (client, _):
        whole = (await client.post(URL, json=body)).json()["choices"][0]
        *chunks, _ = events((await client.post(URL, json={**body, "stream": True})).text)
    assert whole["finish_reason"] == "function_call"
    assert whole["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "x"}'}
    deltas = [chunk["choices"][0]["delta"].get("function_call") for chunk in chunks]
    assert "".join(delta["arguments"] for delta in deltas if delta) == '{"city": "x"}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    "change",
    [{"function_call": "auto"}, {"functions": [WEATHER["function"]], "tools": [WEATHER]}],
)
async def test_older_and_newer_forms_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    async with served(tmp_path, Parts()) as (client, _):
        response = await client.post(URL, json={**FREE, **change})
    assert response.status_code == 400


BOTH: dict[str, Any] = {**ASK, "response_format": OBJECT, "max_tokens": 400}


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_and_a_schema_share_a_request(tmp_path: Path, stream: bool) -> None:
    call = f'{{"name": "weather", "arguments": {ARGUMENTS}}}'
    said, called = Parts(('{"a": 1}', None)), Parts(("<tool_call>", None), (call, None), ("", None))
    for engine, content_, name in ((said, '{"a": 1}', None), (called, "", "weather")):
        async with served(tmp_path, engine, tool_call_parser="hermes") as (client, _):
            response = await client.post(URL, json={**BOTH, "stream": stream})
        if stream:
            *chunks, _ = events(response.text)
            assert content(chunks) == content_
            names = [
                part["function"]["name"]
                for chunk in chunks
                for part in chunk["choices"][0]["delta"].get("tool_calls", [])
                if "name" in part["function"]
            ]
            assert names == ([name] if name else [])
        else:
            message = response.json()["choices"][0]["message"]
            assert (message["content"] or "") == content_
            assert [each["function"]["name"] for each in message.get("tool_calls", [])] == ([name] if name else [])
        assert engine.requests[0][1] is not None  # never free text
    assert called.prompts()[1].endswith(b"<tool_call>\n")
    assert b"<tool_call><tool_call>" not in called.prompts()[1]


async def test_gpt_oss_answers_under_the_schema_or_calls(tmp_path: Path) -> None:
    engine = Parts(("hm", 256), ("final", None), ('{"a": 1}', None))
    async with served(tmp_path, engine, TEMPLATE + "<|channel|>") as (client, _):
        choice = (await client.post(URL, json=BOTH)).json()["choices"][0]
    assert choice["message"]["content"] == '{"a": 1}'
    assert [plan is not None for _, plan in engine.requests] == [False, True, True]


async def test_a_required_call_needs_no_answer(tmp_path: Path) -> None:
    call = f'{{"name": "weather", "arguments": {ARGUMENTS}}}'
    async with served(tmp_path, Parts((call, None), ("", None)), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**BOTH, "tool_choice": "required"})
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_family_whose_calls_look_like_json_cannot_choose(tmp_path: Path) -> None:
    async with served(tmp_path, Parts(), tool_call_parser="llama3_json") as (client, _):
        response = await client.post(URL, json=BOTH)
    assert response.status_code == 400
    assert "told apart" in response.json()["error"]["message"]
