"""`/v1/responses` against a scripted engine; OpenAI's own client types judge the shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from engine import GrammarDeadEnd
from engine.messages import Finish, FinishReason
from schemas.responses import ResponseEvent, ResponseObject
from tests.engine.scripted import ScriptedEngine, Step
from tests.service.houses import BYTES, Says, bytes_of, info, saying, served
from tests.service.test_families import dial, dialled
from tests.service.test_tools import CALL

pytestmark = pytest.mark.anyio
URL = "/v1/responses"
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
SCHEMA = {"type": "json_schema", "name": "t", "schema": {"type": "object"}, "strict": True}


def events(text: str) -> list[Any]:
    """The events of a stream: each has a line with its type, and its data says the same."""
    found = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            kind, data = block.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert kind == f"event: {found[-1]['type']}"
            EVENTS.validate_python(found[-1])
            ResponseEvent.model_validate(found[-1])
    return found


async def test_a_response_has_openais_shape(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Grüß dich")) as (client, engine):
        body = {"input": "Hello", "instructions": "Be kind.", "metadata": {"a": "b"}, "max_output_tokens": 40}
        response = await client.post(URL, json=body)
    assert response.status_code == 200, response.text
    answer = Response.model_validate(ResponseObject.model_validate_json(response.content).model_dump())
    assert answer.output_text == "Grüß dich"
    assert answer.status == "completed"
    assert answer.metadata == {"a": "b"}
    assert answer.usage is not None
    assert answer.usage.output_tokens == len("Grüß dich".encode()) + 1
    assert engine.requests[0][0].sampling.max_tokens == 40
    assert bytes_of(engine.requests[0][0].prompt) == b"system: Be kind.user: Hello"
    entries = response.json()["output"][0]["content"][0]["logprobs"]
    assert b"".join(bytes(each["bytes"]) for each in entries).decode() == "Grüß dich"


async def test_a_server_may_tell_log_probs_to_those_who_ask(tmp_path: Path) -> None:
    """`logprobs = false` in its settings; `include` asks."""
    async with served(tmp_path, saying("Hi"), logprobs=False) as (client, _):
        for asked, count in (({}, 0), ({"include": ["message.output_text.logprobs"]}, 2)):
            answer = (await client.post(URL, json={"input": "Hello", **asked})).json()
            assert len(answer["output"][0]["content"][0]["logprobs"]) == count


async def test_a_conversation_of_items_is_one_of_turns(tmp_path: Path) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    template = (
        "{% for m in messages %}[{{ m.role }} {{ m.reasoning_content }} {{ m.content }}"
        "{% for c in m.tool_calls %} {{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
        " {{ m.tool_call_id }}]{% endfor %}"
    )
    async with served(tmp_path, saying("Fine."), template) as (client, engine):
        response = await client.post(URL, json={"input": items})
    assert response.status_code == 200, response.text
    turns = bytes_of(engine.requests[0][0].prompt).decode()
    assert turns == "[user  x ][assistant Hm. Let me see. weather{} ][tool  sunny call_1]"


async def test_a_stream_tells_the_response_as_it_grows(tmp_path: Path) -> None:
    async with served(tmp_path, saying('{"a": "€"}', size=1)) as (client, _):
        response = await client.post(URL, json={"input": "x", "stream": True, "text": {"format": SCHEMA}})
    told = events(response.text)
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    kinds = [each["type"].removeprefix("response.") for each in told]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert "".join(each["delta"] for each in told[4:-4]) == '{"a": "€"}'
    final = ResponseObject.model_validate(told[-1]["response"])
    assert final.output[0].content[0].text == '{"a": "€"}'  # type: ignore[union-attr]
    assert told[2]["item"]["content"] == []
    assert told[3]["part"]["text"] == ""
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_are_items(tmp_path: Path, stream: bool) -> None:
    body = {"input": "x", "tools": [WEATHER], "tool_choice": "required", "stream": stream}
    async with served(tmp_path, Says(CALL), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json=body)
    if stream:
        told = events(response.text)
        deltas = [each["delta"] for each in told if each["type"] == "response.function_call_arguments.delta"]
        assert "".join(deltas) == '{"city": "Köln"}'
        (item,) = told[-1]["response"]["output"]
    else:
        (item,) = response.json()["output"]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "weather", '{"city": "Köln"}')
    assert item["id"].startswith("fc_")
    assert item["call_id"].startswith("call_")


async def test_a_custom_tools_input_is_text(tmp_path: Path) -> None:
    custom = dial()["custom"]
    tool = {"type": "custom", "name": "dial", "format": {"type": "grammar", **custom["format"]["grammar"]}}
    body = {"input": "x", "tools": [tool], "tool_choice": {"type": "custom", "name": "dial"}, "stream": True}
    async with served(tmp_path, Says(dialled("+491")), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json=body)
    told = events(response.text)
    done = next(each for each in told if each["type"] == "response.custom_tool_call_input.done")
    assert done["input"] == "+491"
    assert told[-1]["response"]["output"][0]["type"] == "custom_tool_call"


async def test_reasoning_is_an_item_before_the_answer(tmp_path: Path) -> None:
    engine = Says("<think>Hm.</think>Yes.")
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={"input": "x", "stream": True})
    told = events(response.text)
    first, second = told[-1]["response"]["output"]
    assert (first["type"], first["content"][0]["text"], first["status"]) == ("reasoning", "Hm.", "completed")
    assert (second["type"], second["content"][0]["text"]) == ("message", "Yes.")
    assert told[-1]["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] == len("<think>Hm.</think>")


async def test_a_cut_answer_is_incomplete(tmp_path: Path) -> None:
    steps: list[Step] = [BYTES.tokens("ab"), Finish(reason=FinishReason.LENGTH)]
    async with served(tmp_path, steps) as (client, _):
        whole = (await client.post(URL, json={"input": "x"})).json()
        told = events((await client.post(URL, json={"input": "x", "stream": True})).text)
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert told[-1]["type"] == "response.incomplete"
    assert told[-2]["item"]["status"] == "incomplete"


async def test_an_empty_answer_is_a_message(tmp_path: Path) -> None:
    async with served(tmp_path, saying("")) as (client, _):
        answer = (await client.post(URL, json={"input": "x"})).json()
    assert answer["output"][0]["content"][0]["text"] == ""


async def test_an_error_in_mid_stream_is_the_last_event(tmp_path: Path) -> None:
    async with served(tmp_path, [BYTES.tokens("ab"), GrammarDeadEnd("stuck")]) as (client, _):
        told = events((await client.post(URL, json={"input": "x", "stream": True})).text)
    assert (told[-1]["type"], told[-1]["code"]) == ("error", "grammar_dead_end")
    assert told[-1]["sequence_number"] == told[-2]["sequence_number"] + 1


async def test_an_error_before_the_first_event_has_its_status(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda _request, _plan: [GrammarDeadEnd("stuck")], info())
    async with served(tmp_path, engine) as (client, _):
        response = await client.post(URL, json={"input": "x", "stream": True})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "grammar_dead_end")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.0"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"text": {"format": {**SCHEMA, "schema": {"title": "refused"}}}}, "text.format.schema"),
        ({"text": {"format": SCHEMA}, "max_output_tokens": 2}, "max_output_tokens"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasnoning": {}}, "reasnoning"),
    ],
)
async def test_what_is_wrong_is_named_in_this_dialects_words(
    tmp_path: Path, change: dict[str, Any], param: str
) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await client.post(URL, json={"input": "x", **change})
    assert response.status_code in {400, 422}, response.text
    assert response.json()["error"]["param"].startswith(param)
