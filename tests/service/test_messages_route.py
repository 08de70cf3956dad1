"""`/v1/messages` against a scripted engine: Anthropic's shapes, streams, ends and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import GrammarDeadEnd
from engine.messages import Finish, FinishReason
from schemas.messages import AnthropicError, MessageEvent, MessageReply
from tests.engine.scripted import Step
from tests.service.houses import BYTES, Says, bytes_of, saying, served
from tests.service.test_families import Limited
from tests.service.test_tools import CALL

pytestmark = pytest.mark.anyio
URL = "/v1/messages"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 64}
WEATHER = {"name": "weather", "input_schema": {"type": "object"}}
FORMAT = {"type": "json_schema", "schema": {"type": "object"}}


def events(text: str) -> list[Any]:
    found = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
        MessageEvent.model_validate(found[-1])
    return found


async def test_a_message_has_anthropics_shape(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Grüß dich")) as (client, engine):
        response = await client.post(URL, json={**ASK, "system": [{"type": "text", "text": "Be kind."}]})
    assert response.status_code == 200, response.text
    answer = MessageReply.model_validate_json(response.content)
    assert [block.model_dump() for block in answer.content] == [{"type": "text", "text": "Grüß dich"}]
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == len("Grüß dich".encode()) + 1
    assert bytes_of(engine.requests[0][0].prompt) == b"system: Be kind.user: x"
    assert engine.requests[0][0].sampling.max_tokens == 64


async def test_a_stream_of_text_and_calls(tmp_path: Path) -> None:
    engine = Says(f"Let me look.{CALL}")
    async with served(tmp_path, engine, tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**ASK, "max_tokens": 400, "tools": [WEATHER], "stream": True})
    told = events(response.text)
    kinds = [each["type"] for each in told]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    starts = [each["content_block"] for each in told if each["type"] == "content_block_start"]
    assert [block["type"] for block in starts] == ["text", "tool_use"]
    assert starts[1]["input"] == {}
    assert kinds.count("content_block_stop") == 2
    texts = [each["delta"].get("text", "") for each in told if each["type"] == "content_block_delta"]
    parts = [each["delta"].get("partial_json", "") for each in told if each["type"] == "content_block_delta"]
    assert "".join(texts) == "Let me look."
    assert json.loads("".join(parts)) == {"city": "Köln"}
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


async def test_a_whole_message_with_a_call_has_its_input_as_a_value(tmp_path: Path) -> None:
    async with served(tmp_path, Says(CALL), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**ASK, "tools": [WEATHER], "tool_choice": {"type": "any"}})
    answer = MessageReply.model_validate_json(response.content)
    assert answer.stop_reason == "tool_use"
    assert answer.content[0].model_dump()["input"] == {"city": "Köln"}


async def test_a_conversation_of_blocks_is_one_of_turns(tmp_path: Path) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "x"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}, use]},
        {"role": "user", "content": [result, {"type": "text", "text": "c", "cache_control": {"type": "ephemeral"}}]},
    ]
    template = (
        "{% for m in messages %}[{{ m.role }} {{ m.content }}"
        "{% for c in m.tool_calls %} {{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}]{% endfor %}"
    )
    async with served(tmp_path, saying("Fine."), template) as (client, engine):
        response = await client.post(URL, json={**ASK, "messages": turns})
        counted = await client.post(f"{URL}/count_tokens", json={"messages": turns})
    assert response.status_code == 200, response.text
    assert bytes_of(engine.requests[0][0].prompt).decode() == (
        '[user a][assistant b weather{"city": "x"}][tool sunny][user c]'
    )
    assert counted.json() == {"input_tokens": len(engine.requests[0][0].prompt)}


@pytest.mark.parametrize("word", ["output_config", "output_format"])
async def test_an_output_format_is_a_constraint(tmp_path: Path, word: str) -> None:
    wish = {"output_config": {"format": FORMAT}} if word == "output_config" else {"output_format": FORMAT}
    async with served(tmp_path, saying("{}")) as (client, engine):
        response = await client.post(URL, json={**ASK, **wish})
    assert response.json()["content"][0]["text"] == "{}"
    assert engine.requests[0][1] is not None


async def test_a_count_is_that_of_the_whole_prompt(tmp_path: Path) -> None:
    """The template tells the schema."""
    wish = {"output_config": {"format": FORMAT}, "messages": ASK["messages"]}
    async with served(tmp_path, saying("{}")) as (client, engine):
        counted = await client.post(f"{URL}/count_tokens", json=wish)
        await client.post(URL, json={**ASK, **wish})
    assert counted.json() == {"input_tokens": len(engine.requests[0][0].prompt)}


async def test_a_failed_tools_result_says_so(tmp_path: Path) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no such city", "is_error": True}
    async with served(tmp_path, saying("Hm.")) as (client, engine):
        await client.post(URL, json={**ASK, "messages": [{"role": "user", "content": [result]}]})
    assert bytes_of(engine.requests[0][0].prompt) == b"tool: error: no such city"


async def test_thinking_may_be_omitted(tmp_path: Path) -> None:
    wish = {"thinking": {"type": "adaptive", "display": "omitted"}}
    thought = "<think>Hm.</think>Yes."
    async with served(tmp_path, Says(thought, thought), reasoning_parser="think") as (client, _):
        whole = (await client.post(URL, json={**ASK, **wish})).json()["content"]
        told = events((await client.post(URL, json={**ASK, **wish, "stream": True})).text)
    assert [(each["type"], each.get("thinking")) for each in whole] == [("thinking", ""), ("text", None)]
    assert "thinking_delta" not in {each["delta"]["type"] for each in told if each["type"] == "content_block_delta"}


async def test_thinking_is_a_block_of_its_own(tmp_path: Path) -> None:
    async with served(tmp_path, Limited("Hm.</think>", "Yes."), reasoning_parser="think") as (
        client,
        engine,
    ):
        wish = {"thinking": {"type": "enabled", "budget_tokens": 20}}
        response = await client.post(URL, json={**ASK, **wish})
    first, second = response.json()["content"]
    assert (first["type"], first["thinking"], second["text"]) == ("thinking", "Hm.", "Yes.")
    assert engine.requests[0][0].sampling.max_tokens == 20


@pytest.mark.parametrize(
    ("finish", "word", "sequence"),
    [
        (Finish(reason=FinishReason.LENGTH), "max_tokens", None),
        (Finish(reason=FinishReason.STOP, stop=b"END"), "stop_sequence", "END"),
    ],
)
async def test_ends_have_anthropics_words(tmp_path: Path, finish: Finish, word: str, sequence: str | None) -> None:
    steps: list[Step] = [BYTES.tokens("ab"), finish]
    async with served(tmp_path, steps) as (client, _):
        answer = (await client.post(URL, json=ASK)).json()
    assert (answer["stop_reason"], answer["stop_sequence"]) == (word, sequence)


async def test_errors_have_anthropics_shape(tmp_path: Path) -> None:
    async with served(tmp_path, [BYTES.tokens("ab"), GrammarDeadEnd("stuck")], api_keys="k") as (client, _):
        stranger = await client.post(URL, json=ASK)
        known = {"x-api-key": "k"}
        bad = await client.post(URL, json={**ASK, "max_tokens": 0}, headers=known)
        image = {"type": "image", "source": {}}
        picture = await client.post(
            URL, json={**ASK, "messages": [{"role": "user", "content": [image]}]}, headers=known
        )
        late = events((await client.post(URL, json={**ASK, "stream": True}, headers=known)).text)
    for response, status, kind in (
        (stranger, 401, "authentication_error"),
        (bad, 400, "invalid_request_error"),
        (picture, 400, "invalid_request_error"),
    ):
        told = AnthropicError.model_validate_json(response.content)
        assert (response.status_code, told.error.type) == (status, kind)
    assert "messages.0" in picture.json()["error"]["message"]
    assert (late[-1]["type"], late[-1]["error"]["type"]) == ("error", "api_error")


async def test_a_conversation_held_here_is_refused_so_that_the_client_sends_it_whole(tmp_path: Path) -> None:
    """Its tool runner begins with one, and goes on without when it reads this code."""
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await client.post(URL, json={**ASK, "thread": {"type": "create"}})
    told = AnthropicError.model_validate_json(response.content).error
    assert (response.status_code, told.type) == (400, "invalid_request_error")
    assert told.message.startswith("thread: ")
    assert told.details == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


async def test_a_schema_is_refused_in_this_dialects_words(tmp_path: Path) -> None:
    wish = {"output_config": {"format": {"type": "json_schema", "schema": {"title": "refused"}}}}
    async with served(tmp_path, []) as (client, _):
        response = await client.post(URL, json={**ASK, **wish})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("output_config.format.schema: ")
