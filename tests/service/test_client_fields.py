"""Every request field of other people's clients is honoured, or refused by its name.

Like `test_openai_fields`, which is about OpenAI's. The fields are read from the clients' own types, so that a new
release's new field fails here until it is decided upon. huggingface_hub is always there; the others are in the extra
`clients`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from tests.service.houses import TEMPLATE, saying, served

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
USER = [{"role": "user", "content": "x"}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@dataclass(frozen=True)
class Route:
    """A route, the client's type for its body (or for `inside` of that), and what becomes of each field."""

    url: str
    module: str
    type: str
    least: dict[str, Any]
    accepted: dict[str, Any]
    refused: dict[str, Any] = dataclasses.field(default_factory=dict)
    idle: frozenset[str] = frozenset()  # goes into headers, or stays in the client
    inside: str | None = None
    needs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    camel: bool = False

    @property
    def fields(self) -> set[str]:
        """What the client knows; skips where there is no such client."""
        parts = self.module.split(".")
        pytest.importorskip(".".join(parts[:2]) if parts[0] == "google" else parts[0])
        kind = getattr(importlib.import_module(self.module), self.type)
        names: Iterable[str]
        if dataclasses.is_dataclass(kind):
            names = (each.name for each in dataclasses.fields(kind))
        elif issubclass(kind, BaseModel):
            names = kind.model_fields
        else:
            names = kind.__annotations__
        return {to_camel(name) for name in names} if self.camel else set(names)

    def body(self, name: str, value: Any) -> dict[str, Any]:
        """A body with this field."""
        inner = {**self.needs.get(name, {}), name: value}
        if self.inside is None:
            return {**self.least, **inner}
        beside = {each: inner.pop(each) for each in list(inner) if each in self.least}
        return {**self.least, **beside, self.inside: inner}


ROUTES = {
    "tgi": Route(
        url="/generate",
        module="huggingface_hub.inference._generated.types",
        type="TextGenerationInputGenerateParameters",
        least={"inputs": "x"},
        inside="parameters",
        accepted={
            "best_of": 2,
            "decoder_input_details": True,
            "details": True,
            "do_sample": True,
            "frequency_penalty": 0.5,
            "grammar": {"type": "json", "value": {"type": "object"}},
            "max_new_tokens": 9,
            "repetition_penalty": 1.1,
            "return_full_text": True,
            "seed": 1,
            "stop": ["q"],
            "temperature": 0.5,
            "top_k": 5,
            "top_n_tokens": 2,
            "top_p": 0.5,
            "truncate": 1,
            "typical_p": 0.5,
            "watermark": True,
        },
        refused={"adapter_id": "unknown"},
        needs={"best_of": {"do_sample": True}},
    ),
    "tgi-chat": Route(
        url="/v1/chat/completions",
        module="huggingface_hub.inference._generated.types",
        type="ChatCompletionInput",
        least={"messages": USER},
        accepted={
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
            "frequency_penalty": 0.5,
            "logit_bias": {"5": 1.0},
            "logprobs": True,
            "max_tokens": 9,
            "model": "tgi",
            "n": 2,
            "presence_penalty": 0.5,
            "response_format": {"type": "json", "value": {"type": "object"}},
            "seed": 1,
            "stop": ["q"],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "tool_choice": {"function": {"name": "f"}},
            "tool_prompt": "Call:",
            "tools": [FUNCTION],
            "top_logprobs": 2,
            "top_p": 0.5,
        },
        needs={
            "stream_options": {"stream": True},
            "tool_choice": {"tools": [FUNCTION]},
            "tool_prompt": {"tools": [FUNCTION]},
            "top_logprobs": {"logprobs": True},
        },
    ),
    "anthropic": Route(
        url="/v1/messages",
        module="anthropic.types.beta.message_create_params",
        type="MessageCreateParamsBase",
        least={"messages": USER, "max_tokens": 9},
        accepted={
            "max_tokens": 9,
            "messages": USER,
            "model": "default",
            "cache_control": {"type": "ephemeral"},
            "metadata": {"user_id": "u"},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            "service_tier": "auto",
            "speed": "standard",
            "stop_sequences": ["q"],
            "system": "Be kind.",
            "thinking": {"type": "disabled"},
            "tool_choice": {"type": "auto"},
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "user_profile_id": "u",
        },
        refused={
            "billing_policy": {},
            "compaction": {},
            "container": "c",
            "context_management": {},
            "diagnostics": {},
            "fallback_credit_token": "t",
            "fallbacks": [],
            "inference_geo": "eu",
            "mcp_servers": [],
            "thread": {},
        },
        idle=frozenset({"betas", "workspace_id"}),
        needs={"tool_choice": {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}},
    ),
    "anthropic-count": Route(
        url="/v1/messages/count_tokens",
        module="anthropic.types.message_count_tokens_params",
        type="MessageCountTokensParams",
        least={"messages": USER},
        accepted={
            "messages": USER,
            "model": "default",
            "cache_control": {"type": "ephemeral"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            "speed": "standard",
            "system": "Be kind.",
            "thinking": {"type": "disabled"},
            "tool_choice": {"type": "none"},
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "user_profile_id": "u",
        },
        idle=frozenset({"workspace_id"}),
    ),
    "ollama": Route(
        url="/api/chat",
        module="ollama._types",
        type="ChatRequest",
        least={"messages": USER},
        accepted={
            "model": "default",
            "stream": False,
            "options": {"num_predict": 9},
            "format": {"type": "object"},
            "keep_alive": "5m",
            "messages": USER,
            "tools": [FUNCTION],
            "think": False,
            "logprobs": True,
            "top_logprobs": 2,
        },
    ),
    "ollama-generate": Route(
        url="/api/generate",
        module="ollama._types",
        type="GenerateRequest",
        least={"prompt": "x"},
        accepted={
            "model": "default",
            "stream": False,
            "options": {"num_predict": 9},
            "format": "json",
            "keep_alive": 5,
            "prompt": "x",
            "system": "Be kind.",
            "raw": True,
            "think": False,
            "logprobs": True,
            "top_logprobs": 2,
        },
        refused={
            "suffix": "s",
            "template": "t",
            "context": [1],
            "images": ["i"],
            "width": 9,
            "height": 9,
            "steps": 9,
        },
    ),
    "ollama-options": Route(
        url="/api/chat",
        module="ollama._types",
        type="Options",
        least={"messages": USER},
        inside="options",
        accepted={
            **dict.fromkeys(("numa", "low_vram", "f16_kv", "use_mmap", "use_mlock"), True),
            **dict.fromkeys(("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep"), 1),
            "seed": 1,
            "num_predict": 9,
            "top_k": 5,
            "top_p": 0.5,
            "tfs_z": 1,
            "typical_p": 0.5,
            "repeat_last_n": -1,
            "temperature": 0.5,
            "repeat_penalty": 1.1,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.5,
            "mirostat": 0,
            "penalize_newline": True,
            "stop": ["q"],
        },
        refused={
            "logits_all": True,
            "vocab_only": True,
            "embedding_only": True,
            "mirostat_tau": 0.5,
            "mirostat_eta": 0.5,
        },
    ),
    "gemini": Route(
        url="/v1beta/models/default:generateContent",
        module="google.genai.types",
        type="GenerationConfig",
        least={"contents": [{"parts": [{"text": "x"}]}]},
        inside="generationConfig",
        accepted={
            "candidateCount": 2,
            "frequencyPenalty": 0.5,
            "logprobs": 2,
            "maxOutputTokens": 9,
            "presencePenalty": 0.5,
            "responseJsonSchema": {"type": "object"},
            "responseLogprobs": True,
            "responseMimeType": "application/json",
            "responseModalities": ["TEXT"],
            "responseSchema": {"type": "OBJECT"},
            "seed": 1,
            "stopSequences": ["q"],
            "temperature": 0.5,
            "thinkingConfig": {"thinkingBudget": 0},
            "topK": 5,
            "topP": 0.5,
        },
        refused={
            "audioTimestamp": True,
            "audioTranscriptionConfig": {},
            "enableAffectiveDialog": True,
            "enableEnhancedCivicAnswers": True,
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "modelSelectionConfig": {},
            "responseFormat": {},
            "routingConfig": {},
            "speechConfig": {},
            "translationConfig": {},
        },
        needs={
            "logprobs": {"responseLogprobs": True},
            "responseSchema": {"responseMimeType": "application/json"},
            "responseJsonSchema": {"responseMimeType": "application/json"},
        },
        camel=True,
    ),
}


def cases(what: str) -> list[Any]:
    """A route and a field of it each."""
    return [
        pytest.param(route, name, id=f"{label}-{name}")
        for label, route in ROUTES.items()
        for name in getattr(route, what)
    ]


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_every_field_of_the_client_is_decided_upon(route: Route) -> None:
    assert route.fields <= {*route.accepted, *route.refused, *route.idle}


@pytest.mark.parametrize(("route", "name"), cases("accepted"))
async def test_an_accepted_field_is_accepted(tmp_path: Path, route: Route, name: str) -> None:
    async with served(tmp_path, saying("{}"), TEMPLATE + "{# <tool_call> #}") as (client, _):
        response = await client.post(route.url, json=route.body(name, route.accepted[name]))
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(("route", "name"), cases("refused"))
async def test_a_refused_field_is_named(tmp_path: Path, route: Route, name: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post(route.url, json=route.body(name, route.refused[name]))
    assert response.status_code in {400, 422}
    assert name in response.text
    assert not engine.requests
