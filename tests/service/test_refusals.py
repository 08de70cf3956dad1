"""Refusals: the branch in the schema, and how each dialect tells one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from engine.messages import Finish, FinishReason
from grammar import UnsupportedConstraint
from schemas.chat import ChatChunk, ChatCompletion
from service import constraints
from service.errors import InvalidBody
from service.refusals import RefusalReader, with_refusal
from service.text import Piece
from tests.service.houses import saying, served
from tests.service.test_chat_route import content, events

PERSON: dict[str, Any] = {
    "x-refusal": True,
    "type": "object",
    "properties": {"name": {"$ref": "#/$defs/word"}},
    "required": ["name"],
    "$defs": {"word": {"type": "string"}},
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "response_format": FORMAT}
NO = '{"refusal": "I can\'t \\u00e9\\n"}'


@pytest.mark.parametrize("identity", [{}, {"$id": "https://example.com/p"}])
def test_the_schema_holds_or_a_refusal_does(identity: dict[str, str]) -> None:
    validator = Draft202012Validator(with_refusal({**PERSON, **identity}, "x"))
    assert validator.is_valid({"name": "a"})
    assert not validator.is_valid({"name": 5})
    assert validator.is_valid({"refusal": "no"})
    assert not validator.is_valid({"refusal": ""})
    assert not validator.is_valid({"refusal": "no", "name": 5})


def test_a_property_of_this_name_is_not_confused_with_it() -> None:
    with pytest.raises(InvalidBody, match="own property 'refusal'"):
        constraints.json_schema({"x-refusal": True, "properties": {"refusal": {}}}, None, "x")


@pytest.mark.parametrize("schema", [{"items": {"x-refusal": True}}, {"properties": {"q": {"x-refusal": True}}}])
def test_what_would_not_be_enforced_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConstraint) as caught:
        constraints.json_schema(schema, None, "response_format")
    assert caught.value.pointer in {"/items", "/properties/q"}
    assert caught.value.keyword == "x-refusal"


def test_a_property_may_be_named_like_a_keyword() -> None:
    data = {"const": {"x-source": "input"}}
    schema = {"properties": {"x-source": {"type": "string"}, "x-refusal": {"const": True}, "data": data}}
    assert constraints.json_schema(schema, None, "x").refusal is False


@given(st.text(max_size=8), st.lists(st.integers(1, 4), max_size=30), st.booleans(), st.booleans())
def test_an_answer_is_a_refusal_or_itself_whatever_its_pieces(
    value: str, cuts: list[int], refuses: bool, blanks: bool
) -> None:
    key = "refusal" if refuses else "refused"
    text = json.dumps({key: value}, separators=None if blanks else (",", ":"))
    reader, told, at = RefusalReader(), [], 0
    for size in [*cuts, len(text)]:
        told += reader.feed(Piece(0, text[at : at + size]))
        at += size
    told += reader.feed(Piece(0, "", finish=Finish(reason=FinishReason.EOS)))
    assert "".join(piece.text for piece in told) == ("" if refuses else text)
    assert "".join(piece.refusal or "" for piece in told) == (value if refuses else "")
    assert told[-1].finish is not None


@pytest.mark.anyio
async def test_chat_fills_the_refusal(tmp_path: Path) -> None:
    async with served(tmp_path, saying(NO)) as (client, engine):
        response = await client.post("/v1/chat/completions", json=ASK)
        *chunks, _ = events((await client.post("/v1/chat/completions", json={**ASK, "stream": True})).text)
    choice = ChatCompletion.model_validate_json(response.content).choices[0]
    assert (choice.message.refusal, choice.message.content, choice.finish_reason) == ("I can't é\n", None, "stop")
    assert choice.logprobs is not None
    assert choice.logprobs.content is None
    assert choice.logprobs.refusal
    for chunk in chunks:
        ChatChunk.model_validate(chunk)
    assert "".join(chunk["choices"][0]["delta"].get("refusal") or "" for chunk in chunks) == "I can't é\n"
    assert content(chunks) == ""
    assert engine.requests[0][1] is not None


@pytest.mark.anyio
async def test_an_answer_that_is_none_is_told_as_before(tmp_path: Path) -> None:
    async with served(tmp_path, saying('{"name": "a"}', size=1)) as (client, _):
        choice = (await client.post("/v1/chat/completions", json=ASK)).json()
    assert choice["choices"][0]["message"]["content"] == '{"name": "a"}'
    assert choice["choices"][0]["message"]["refusal"] is None
    assert choice["formwork"]["choices"][0]["fields"][0]["path"] == "/name"


@pytest.mark.anyio
async def test_other_dialects_tell_it_in_their_own_way(tmp_path: Path) -> None:
    async with served(tmp_path, saying(NO)) as (client, _):
        flat = {"format": {"type": "json_schema", "name": "p", "schema": PERSON}}
        openai = (await client.post("/v1/responses", json={"input": "x", "text": flat})).json()
        stream = (await client.post("/v1/responses", json={"input": "x", "text": flat, "stream": True})).text
        config = {"format": {"type": "json_schema", "schema": PERSON}}
        body = {"messages": ASK["messages"], "max_tokens": 90, "output_config": config}
        anthropic = (await client.post("/v1/messages", json=body)).json()
        ollama = (
            await client.post("/api/chat", json={"messages": ASK["messages"], "format": PERSON, "stream": False})
        ).json()
    assert openai["output"][0]["content"] == [{"type": "refusal", "refusal": "I can't é\n"}]
    assert "response.refusal.delta" in stream
    assert "response.refusal.done" in stream
    assert (anthropic["stop_reason"], anthropic["content"][0]["text"]) == ("refusal", "I can't é\n")
    assert ollama["message"]["content"] == "I can't é\n"


@pytest.mark.anyio
async def test_errors_point_into_the_schema_that_was_sent(tmp_path: Path) -> None:
    refused = {"type": "json_schema", "json_schema": {"name": "p", "schema": {**PERSON, "title": "refused"}}}
    async with served(tmp_path, []) as (client, _):
        response = await client.post("/v1/chat/completions", json={**ASK, "response_format": refused})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format.json_schema.schema"
