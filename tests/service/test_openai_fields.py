"""Every request field of OpenAI's own client is honoured, or refused by its name.

The fields are read from the client's types, so a new release's new field fails here until it is decided upon.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from openai.types import chat as openai_chat
from openai.types import responses as openai_responses
from openai.types.chat import chat_completion_custom_tool_param
from openai.types.chat import completion_create_params as chat
from openai.types.completion_create_params import CompletionCreateParamsBase
from openai.types.responses import response_create_params as responses
from openai.types.responses import response_input_item_param
from openai.types.responses.input_item_list_params import InputItemListParams
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_retrieve_params import ResponseRetrieveParamsStreaming
from openai.types.shared import ReasoningEffort
from openai.types.shared_params import FunctionDefinition, Reasoning, response_format_json_schema
from pydantic import BaseModel

from schemas import chat as ours
from schemas import responses as flat
from tests.service.houses import TEMPLATE, bytes_of, saying, served

pytestmark = pytest.mark.anyio
USER = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FLAT = {"type": "function", "name": "f", "parameters": {"type": "object"}}
SAMPLING: dict[str, Any] = {"temperature": 0.5, "top_p": 0.5, "seed": 1, "user": "u", "n": 2, "stop": ["q"]}
PENALTIES: dict[str, Any] = {"frequency_penalty": 0.5, "presence_penalty": 0.5, "logit_bias": {"5": 1}}
ACCOUNT: dict[str, Any] = {"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "safety_identifier": "s"}
CACHE: dict[str, Any] = {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "prompt_cache_options": {}}

CHAT: dict[str, Any] = {
    **SAMPLING,
    **PENALTIES,
    **ACCOUNT,
    **CACHE,
    "messages": USER,
    "model": "default",
    "max_tokens": 9,
    "max_completion_tokens": 9,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "text"},
    "tools": [TOOL],
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "functions": [{"name": "f"}],
    "function_call": "none",
    "reasoning_effort": "low",
    "verbosity": "low",
    "modalities": ["text"],
    "stream": True,
    "stream_options": {"include_usage": True},
}
COMPLETION: dict[str, Any] = {
    **{name: value for name, value in SAMPLING.items()},
    **PENALTIES,
    "prompt": "x",
    "model": "default",
    "max_tokens": 9,
    "best_of": 2,
    "echo": True,
    "logprobs": 1,
    "stream": True,
    "stream_options": {"include_usage": True},
}
RESPONSES: dict[str, Any] = {
    **{name: SAMPLING[name] for name in ("temperature", "top_p", "user")},
    **ACCOUNT,
    **CACHE,
    "input": "x",
    "model": "default",
    "instructions": "i",
    "max_output_tokens": 9,
    "max_tool_calls": 3,
    "top_logprobs": 2,
    "include": ["message.output_text.logprobs"],
    "parallel_tool_calls": True,
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "text"}},
    "tools": [FLAT],
    "tool_choice": "none",
    "truncation": "disabled",
    "stream": True,
    "stream_options": {"include_obfuscation": False},
}
REFUSED: dict[str, dict[str, Any]] = {
    "chat": {
        "audio": {"voice": "alloy", "format": "wav"},
        "moderation": {"model": "omni"},
        "prediction": {"type": "content", "content": "x"},
        "web_search_options": {},
    },
    "completions": {"suffix": "x"},
    "responses": {
        "access_programs": ["x"],
        "background": True,
        "background_options": {},
        "context_management": [],
        "conversation": "c",
        "image": {},
        "moderation": {},
        "previous_response_id": "r",
        "prompt": {"id": "p"},
    },
}
NEEDS: dict[str, dict[str, Any]] = {  # fields that mean nothing without another
    "top_logprobs": {"logprobs": True},
    "stream_options": {"stream": True},
    "tool_choice": {"tools": [TOOL]},
    "function_call": {"functions": [{"name": "f"}]},
}
LEAST: dict[str, dict[str, Any]] = {
    "chat": {"messages": USER},
    "completions": {"prompt": "x"},
    "responses": {"input": "x"},
}
ACCEPTED = {"chat": CHAT, "completions": COMPLETION, "responses": RESPONSES}
URLS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "responses": "/v1/responses"}


def known(route: str) -> set[str]:
    """What the client's types say that the route takes."""
    if route == "completions":
        return {*CompletionCreateParamsBase.__annotations__, "stream"}
    base: Any = chat.CompletionCreateParamsBase if route == "chat" else responses.ResponseCreateParamsBase
    return {*base.__annotations__, "stream"}


@pytest.mark.parametrize("route", list(URLS))
def test_every_field_of_the_client_is_decided_upon(route: str) -> None:
    assert known(route) <= {*ACCEPTED[route], *REFUSED[route]}


@pytest.mark.parametrize(("route", "name"), [(route, name) for route in URLS for name in ACCEPTED[route]])
async def test_an_accepted_field_is_accepted(tmp_path: Path, route: str, name: str) -> None:
    needed: dict[str, Any] = {} if route == "responses" else NEEDS.get(name, {})
    if (route, name) in {("responses", "stream_options"), ("responses", "tool_choice")}:
        needed = {"stream": True, "tools": [FLAT]}
    body = {**LEAST[route], **needed, name: ACCEPTED[route][name]}
    async with served(tmp_path, saying("Hi"), TEMPLATE + "{# <tool_call> #}") as (client, _):
        response = await client.post(URLS[route], json=body)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("route", "name"), [(route, name) for route in URLS for name in REFUSED[route]])
async def test_a_refused_field_is_named(tmp_path: Path, route: str, name: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post(URLS[route], json={**LEAST[route], name: REFUSED[route][name]})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(name)
    assert not engine.requests


def names_of(*models: type[BaseModel]) -> set[str]:
    """The fields of our models, as clients spell them."""
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


INNER: list[tuple[Any, type[BaseModel], set[str]]] = [  # the client's type, our model, what is refused
    *(
        (getattr(openai_chat, f"ChatCompletion{role}MessageParam"), ours.Message, set[str]())
        for role in ("System", "Developer", "User", "Assistant", "Tool", "Function")
    ),
    (openai_chat.ChatCompletionContentPartTextParam, ours.TextPart, set()),
    (openai_chat.ChatCompletionFunctionToolParam, ours.FunctionTool, set()),
    (FunctionDefinition, ours.FunctionDefinition, set()),
    (chat_completion_custom_tool_param.Custom, ours.CustomDefinition, set()),
    (response_format_json_schema.JSONSchema, ours.JsonSchemaFormat, set()),
    (openai_chat.ChatCompletionStreamOptionsParam, ours.StreamOptions, set()),
    (openai_responses.FunctionToolParam, flat.FlatFunction, set()),
    (openai_responses.CustomToolParam, flat.FlatCustom, set()),
    (openai_responses.EasyInputMessageParam, flat.MessageItem, set()),
    (openai_responses.ResponseOutputMessageParam, flat.MessageItem, set()),
    (openai_responses.ResponseInputTextParam, flat.InputText, set()),
    (openai_responses.ResponseOutputTextParam, flat.InputText, set()),
    (openai_responses.ResponseFunctionToolCallParam, flat.CallItem, {"namespace"}),
    (openai_responses.ResponseCustomToolCallParam, flat.CustomCallItem, {"namespace"}),
    (response_input_item_param.FunctionCallOutput, flat.CallOutputItem, {"name", "namespace"}),
    (openai_responses.ResponseCustomToolCallOutputParam, flat.CallOutputItem, set()),
    (openai_responses.ResponseReasoningItemParam, flat.ReasoningItem, set()),
    (openai_responses.ResponseTextConfigParam, flat.TextConfig, set()),
    (openai_responses.ResponseFormatTextJSONSchemaConfigParam, flat.FlatSchemaFormat, set()),
    (Reasoning, flat.ReasoningConfig, set()),
    (InputTokenCountParams, flat.TokensRequest, {"personality"}),
    (InputItemListParams, flat.InputItemsQuery, set()),
    (ResponseRetrieveParamsStreaming, flat.RetrieveQuery, {"starting_after"}),
]


@pytest.mark.parametrize(("theirs", "model", "refused"), INNER)
def test_every_inner_field_is_known_or_refused(theirs: Any, model: type[BaseModel], refused: set[str]) -> None:
    """Our models forbid what they do not know, so what is missing there is refused by its name."""
    known = names_of(model)
    assert {*theirs.__annotations__} - known == refused
    assert model.model_config["extra"] == "forbid"


@pytest.mark.parametrize("effort", get_args(get_args(ReasoningEffort)[0]))
async def test_every_reasoning_effort_goes_to_the_template(tmp_path: Path, effort: str) -> None:
    async with served(tmp_path, saying("Hi"), TEMPLATE + "{{ reasoning_effort }}") as (client, engine):
        chat_ = await client.post(URLS["chat"], json={**LEAST["chat"], "reasoning_effort": effort})
        response = await client.post(URLS["responses"], json={"input": "x", "reasoning": {"effort": effort}})
    assert (chat_.status_code, response.status_code) == (200, 200), chat_.text + response.text
    prompts = [bytes_of(request.prompt).decode() for request, _ in engine.requests]
    assert [prompt.endswith(effort) for prompt in prompts] == [True, True]
