"""Requests are strict: what is unknown is named, nothing is coerced."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from schemas.base import Reply, Request
from schemas.chat import ChatRequest
from schemas.completions import CompletionRequest
from schemas.grammars import GrammarRequest
from schemas.tgi import GenerateRequest
from schemas.watermark import DetectRequest

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}


def nested(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [model, *(inner for sub in model.__subclasses__() for inner in nested(sub))]


@pytest.mark.parametrize("model", nested(Request) + nested(Reply))
def test_every_model_forbids_what_it_does_not_know(model: type[BaseModel]) -> None:
    assert model.model_config["extra"] == "forbid"


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (ChatRequest, HELLO),
        (CompletionRequest, {"prompt": "x"}),
        (GenerateRequest, {"inputs": "x"}),
        (DetectRequest, {"text": "x"}),
        (GrammarRequest, {"response_format": {"type": "json_object"}}),
    ],
)
def test_an_unknown_field_is_named(model: type[BaseModel], body: dict[str, Any]) -> None:
    model.model_validate(body)
    with pytest.raises(ValidationError, match="surprise"):
        model.model_validate({**body, "surprise": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "1"},
        {"n": 1.5},
        {"n": True},
        {"stream": "yes"},
        {"seed": 2**64},
        {"temperature": float("nan")},
        {"stop": [""]},
        {"stop": ["x"] * 17},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        {"modalities": ["audio"]},
        {"logit_bias": {"1": 101}},
    ],
)
def test_nothing_is_coerced_and_bounds_hold(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({**HELLO, **fields})


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "5", "tool_call_id": "c"},
        {"role": "developer", "content": [{"type": "text", "text": "x"}]},
    ],
)
def test_messages_come_back_as_they_were_told(message: dict[str, Any]) -> None:
    ChatRequest.model_validate({"messages": [message]})


def test_a_detection_has_one_source() -> None:
    for body in ({}, {"text": "x", "token_ids": [1]}):
        with pytest.raises(ValidationError, match="exactly one"):
            DetectRequest.model_validate(body)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [1] * 5000},
        {"messages": [{"role": "user", "content": [{}] * 5000}]},
        {"messages": [{"role": "user", "content": [1] * 30}] * 30},
        {"messages": [dict.fromkeys(map(str, range(5000)), 0)]},
        dict.fromkeys(map(str, range(5000)), 0),
        {**HELLO, "guided_choice": [1] * 5000},
        {**HELLO, "metadata": dict.fromkeys(map(str, range(5000)), 1)},
        {**HELLO, "logit_bias": dict.fromkeys(map(str, range(5000)), "x")},
        {**HELLO, "stop_token_ids": ["x"] * 60},
    ],
)
def test_the_first_of_many_mistakes_is_enough(body: dict[str, Any]) -> None:
    """Each that is told costs microseconds, and a body has room for a million."""
    with pytest.raises(ValidationError) as told:
        ChatRequest.model_validate(body)
    assert told.value.error_count() < 10


@pytest.mark.parametrize("model", nested(Request))
def test_no_list_of_a_request_goes_on_behind_its_first_mistake(model: type[BaseModel]) -> None:
    def lists(schema: Any) -> list[dict[str, Any]]:
        parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list | tuple) else ()
        own = [schema] if isinstance(schema, dict) and schema.get("type") in ("list", "tuple") else []
        return own + [found for part in parts for found in lists(part)]

    assert all(each.get("fail_fast") for each in lists(model.__pydantic_core_schema__))


def test_a_schema_may_have_as_many_members_as_it_likes() -> None:
    """It is the client's own, and bounded where it is compiled."""
    wide = {"properties": {f"p{index}": {} for index in range(5000)}, **{f"x-{index}": 0 for index in range(5000)}}
    ChatRequest.model_validate({**HELLO, "guided_json": wide})
