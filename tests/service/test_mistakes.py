"""A body's mistake is told as the field that the client wrote, and in JSON's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from schemas.chat import ChatRequest
from schemas.completions import CompletionRequest
from schemas.gemini import GeminiRequest
from schemas.messages import MessagesRequest
from schemas.ollama import OllamaChatRequest
from schemas.responses import ResponsesRequest
from schemas.tgi import GenerateRequest
from service.body import parse
from service.errors import Family, InvalidBody, problem
from tests.service.houses import saying, served
from tests.service.test_tools import HERMES

MESSAGES = [{"role": "user", "content": "x"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}
SCHEMA = {"type": "object"}


def mistake(model: type[BaseModel], **body: Any) -> InvalidBody:
    with pytest.raises(InvalidBody) as refused:
        parse(body, model)
    return refused.value


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, ".json_schema.schema", "required"),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, ".schema", "'schema' is not a known field"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}, "schema": {}}},
            ".schema",
            "'schema' is not a known field",
        ),
        ({"response_format": {"type": "json_schem"}}, ".type", "one of 'text', 'json_object',"),
        ({"response_format": {}}, ".type", "Field required"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, ".0.function.name", 'got "a b"'),
        ({"tools": [{"type": "function", "name": "f"}]}, ".0.name", "'name' is not a known field"),
        ({"stop": ["x"] * 20}, "", "at most 16 items, not 20"),
        ({"stop": 5}, "", "should be a string or a list; got 5"),
        ({"stop": ["x", 5]}, ".1", "should be a string; got 5"),
        ({"logit_bias": {"5": 500}}, ".5", "less than or equal to 100; got 500"),
        ({"stream": "yes"}, "", 'true or false; got "yes"'),
        ({"max_tokens": "10"}, "", 'an integer; got "10"'),
        ({"modalities": ["text", "audio"]}, ".1", "should be 'text'"),
    ],
)
def test_a_field_is_named_where_the_body_has_it(body: dict[str, Any], param: str, says: str) -> None:
    told = mistake(ChatRequest, messages=MESSAGES, **body)
    assert told.param == f"{next(iter(body))}{param}"
    assert says in told.message


@pytest.mark.parametrize(
    ("content", "param", "says"),
    [
        (5, "", "should be a string or a list; got 5"),
        ([IMAGE], ".0.type", "one of 'text', 'refusal'; got \"image_url\""),
        ([{"text": "x"}], ".0.type", "Field required"),
        ([{"type": "text"}], ".0.text", "Field required"),
        ([{"type": "text", "text": 5}], ".0.text", "should be a string; got 5"),
        (["x"], ".0", "should be an object"),
    ],
)
def test_a_part_of_a_message_is_named_where_it_stands(content: Any, param: str, says: str) -> None:
    told = mistake(ChatRequest, messages=[*MESSAGES, {"role": "user", "content": content}])
    assert told.param == f"messages.1.content{param}"
    assert says in told.message


def test_a_misspelt_field_is_told_what_was_meant() -> None:
    assert mistake(ChatRequest, messages=MESSAGES, max_token=5).message.endswith("did you mean 'max_tokens'?")
    assert "accepted: " in mistake(ChatRequest, messages=MESSAGES, banana=5).message


@pytest.mark.parametrize(
    ("model", "body", "param", "says"),
    [
        (CompletionRequest, {"prompt": []}, "prompt", "at least 1 item, not 0"),
        (CompletionRequest, {"prompt": "x", "suffix": "y"}, "suffix", "not supported"),
        (ResponsesRequest, {"input": [{"role": "x", "content": "y"}]}, "input.0.role", "'user'"),
        (ResponsesRequest, {"input": "x", "background": True}, "background", "should be false; got true"),
        (
            ResponsesRequest,
            {"input": "x", "text": {"format": {"type": "json_schema"}}},
            "text.format.schema",
            "equired",
        ),
        (MessagesRequest, {"messages": MESSAGES, "max_tokens": 5, "system": 4}, "system", "a string or a list"),
        (OllamaChatRequest, {"messages": [{**MESSAGES[0], "images": ["x"]}]}, "messages.0.images", "not supported"),
        (GeminiRequest, {"contents": "x"}, "contents", "should be a list"),
        (
            GenerateRequest,
            {"inputs": "x", "parameters": {"grammar": {"type": "jsn"}}},
            "parameters.grammar.type",
            "jsn",
        ),
    ],
)
def test_every_dialects_bodies_are_read_so(model: type[BaseModel], body: dict[str, Any], param: str, says: str) -> None:
    told = mistake(model, **body)
    assert told.param == param
    assert says in told.message


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"temperature": 0}, "`temperature` must be strictly positive"),
        ({"temperature": 1000}, "parameters.temperature: Input should be less than or equal to 100; got 1000"),
        ({"top_n_tokens": 50}, "`top_n_tokens` must be >= 0 and <= 20"),
        ({"stop": ["x"] * 30}, "`stop` supports up to 16 stop sequences"),
    ],
)
def test_tgis_sentences_are_about_the_end_of_a_range_that_was_passed(parameters: dict[str, Any], sentence: str) -> None:
    error = mistake(GenerateRequest, inputs="x", parameters=parameters)
    assert problem(error, Family.TGI).body["error"] == f"Input validation error: {sentence}"


@pytest.mark.anyio
@pytest.mark.parametrize("role", ["user", "system", "developer", "tool", "function"])
async def test_a_turn_without_content_is_the_assistants_alone(role: str, tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        body = {"messages": [*MESSAGES, {"role": role, "content": None}]}
        refused = await client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages.1.content")
        body = {"messages": [*MESSAGES, {"role": "assistant"}]}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


BROKEN = {"type": "object", "properties": {"a": {"type": "strng"}}}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("route", "body", "where"),
    [
        (
            "/v1/chat/completions",
            {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "f", "parameters": BROKEN}}]},
            "tools.0.function.parameters: ",
        ),
        (
            "/v1/responses",
            {"input": "x", "tools": [{"type": "function", "name": "f", "parameters": BROKEN}]},
            "tools.0.parameters: ",
        ),
        (
            "/v1/responses",
            {
                "input": "x",
                "tools": [{"type": "custom", "name": "f", "format": {"type": "grammar", "syntax": "lark"}}],
            },
            "tools.0.format",
        ),
        (
            "/v1/messages",
            {"messages": MESSAGES, "max_tokens": 50, "tools": [{"name": "f", "input_schema": BROKEN}]},
            "tools.0.input_schema: ",
        ),
        (
            "/v1beta/models/default:generateContent",
            {
                "contents": [{"parts": [{"text": "x"}]}],
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": BROKEN}]}],
            },
            "tools.0.functionDeclarations.0.parameters",
        ),
    ],
)
async def test_a_tools_broken_schema_is_named_in_the_dialects_words(
    route: str, body: dict[str, Any], where: str, tmp_path: Path
) -> None:
    async with served(tmp_path, saying("Hi"), HERMES) as (client, _):
        refused = await client.post(route, json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith(where)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["array", ["string", "null"]])
async def test_arguments_that_could_not_be_an_object_are_refused(kind: Any, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": kind}}}
    async with served(tmp_path, saying("Hi")) as (client, _):
        refused = await client.post("/v1/chat/completions", json={"messages": MESSAGES, "tools": [tool]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools.0.function.parameters")
