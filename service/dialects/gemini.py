"""Gemini: a request as a chat request, pieces as candidates.

What it is for: both directions of one dialect; `schemas.gemini` describes its words, `service.dialects.gemini_schemas`
translates its schemas. What may not enter: HTTP.

A call is told whole, with its arguments as a value; thoughts are told to those who ask for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Finish, FinishReason
from engine.tokenizer import Tokenizer
from schemas.chat import ChatRequest
from schemas.gemini import (
    FunctionCalling,
    GeminiContent,
    GeminiFunction,
    GeminiPart,
    GeminiRequest,
    GenerationConfig,
    ThinkingConfig,
)
from service.dialects.asking import translated
from service.dialects.facts import all_shown, finite, formwork_block, spelled
from service.dialects.gemini_schemas import json_schema_of
from service.dialects.openai import whole_calls
from service.errors import InvalidBody
from service.gathering import Told
from service.generation import Prepared, Summary, aborted
from service.text import Piece, Shown

_CONFIG = "generationConfig"
_ANY_JSON: dict[str, Any] = {"type": ["object", "array"]}
_FINISH = {FinishReason.EOS: "STOP", FinishReason.STOP: "STOP", FinishReason.LENGTH: "MAX_TOKENS"}
_MODES = {"ANY": "required", "NONE": "none"}


def chat_of(body: GeminiRequest, model: str) -> ChatRequest:
    """The request in chat's words."""
    config = body.generation_config or GenerationConfig()
    asked: dict[str, Any] = {
        "model": model,
        "messages": list(_messages(body)),
        "n": config.candidate_count,
        "max_tokens": config.max_output_tokens,
        "stop": config.stop_sequences or None,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": int(config.top_k) if config.top_k is not None else None,
        "presence_penalty": config.presence_penalty,
        "frequency_penalty": config.frequency_penalty,
        "seed": config.seed,
        "logprobs": True,
        "top_logprobs": _top_logprobs(config),
        **_format(config),
        **_thinking(config.thinking_config),
        **_tools(body),
    }
    return translated(asked, body.formwork, ChatRequest)


def names_of(body: GeminiRequest) -> Mapping[str, str]:
    """How errors name fields: chat's words → those of this request."""
    config = body.generation_config
    schema = "responseJsonSchema" if config and config.response_json_schema is not None else "responseSchema"
    places = _places(body)
    return {
        "response_format.json_schema.schema": f"{_CONFIG}.{schema}",
        "response_format": f"{_CONFIG}.responseMimeType",
        "structured_outputs.choice": f"{_CONFIG}.{schema}.enum",
        "messages": "contents",
        "max_tokens": f"{_CONFIG}.maxOutputTokens",
        "stop": f"{_CONFIG}.stopSequences",
        "top_logprobs": f"{_CONFIG}.logprobs",
        "n": f"{_CONFIG}.candidateCount",
        **{f"tools.{index}.function.parameters": f"{place}.parameters" for index, (place, _) in enumerate(places)},
        "tool_choice": "toolConfig.functionCallingConfig",
    }


def _top_logprobs(config: GenerationConfig) -> int | None:
    if config.logprobs is not None and not config.response_logprobs:
        raise InvalidBody("logprobs needs responseLogprobs: true", param=f"{_CONFIG}.logprobs")
    return config.logprobs


def _format(config: GenerationConfig) -> dict[str, Any]:
    """What `responseMimeType` and the two schemas ask of the output."""
    schema = _schema(config)
    if config.response_mime_type == "text/x.enum":
        if schema is None or not isinstance(schema, dict) or not isinstance(schema.get("enum"), list):
            raise InvalidBody("text/x.enum needs a schema with an enum", param=f"{_CONFIG}.responseSchema")
        return {"structured_outputs": {"choice": [each for each in schema["enum"] if each is not None]}}
    if config.response_mime_type == "application/json":
        wanted = _ANY_JSON if schema is None else schema
        return {"response_format": {"type": "json_schema", "json_schema": {"schema": wanted}}}
    if schema is not None:
        raise InvalidBody("a schema needs responseMimeType: application/json", param=f"{_CONFIG}.responseMimeType")
    return {}


def _schema(config: GenerationConfig) -> Any:
    if config.response_json_schema is None:
        given = config.response_schema
        return json_schema_of(given, f"{_CONFIG}.responseSchema") if given is not None else None
    if config.response_schema is not None:
        raise InvalidBody("send responseSchema or responseJsonSchema", param=f"{_CONFIG}.responseJsonSchema")
    return config.response_json_schema


def _thinking(config: ThinkingConfig | None) -> dict[str, Any]:
    if config is None:
        return {}
    budget, level = config.thinking_budget, config.thinking_level
    if budget == 0:
        return {"reasoning_effort": "none"}
    limit = {"thinking_token_budget": budget} if budget is not None and budget > 0 else {}
    return {**limit, **({"reasoning_effort": level.lower()} if level else {})}


def _places(body: GeminiRequest) -> list[tuple[str, GeminiFunction]]:
    """All functions that are declared, and where."""
    return [
        (f"tools.{i}.functionDeclarations.{j}", function)
        for i, tool in enumerate(body.tools or ())
        for j, function in enumerate(tool.function_declarations)
    ]


def _tools(body: GeminiRequest) -> dict[str, Any]:
    tools = [_tool(place, function) for place, function in _places(body)]
    calling = body.tool_config.function_calling_config if body.tool_config else None
    return {"tools": tools or None, "tool_choice": _choice(calling)}


def _tool(place: str, function: GeminiFunction) -> dict[str, Any]:
    told: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        told["description"] = function.description
    if function.parameters is not None and function.parameters_json_schema is not None:
        raise InvalidBody("send parameters or parametersJsonSchema", param=f"{place}.parametersJsonSchema")
    if function.parameters is not None:
        told["parameters"] = json_schema_of(function.parameters, f"{place}.parameters")
    elif function.parameters_json_schema is not None:
        told["parameters"] = function.parameters_json_schema
    return {"type": "function", "function": told}


def _choice(calling: FunctionCalling | None) -> Any:
    if calling is None:
        return None
    mode = _MODES.get(calling.mode or "", "auto")
    if not calling.allowed_function_names:
        return mode if calling.mode is not None else None
    if mode == "none":
        raise InvalidBody("mode NONE allows no function", param="toolConfig.functionCallingConfig.allowedFunctionNames")
    tools = [{"type": "function", "function": {"name": name}} for name in calling.allowed_function_names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def _messages(body: GeminiRequest) -> Iterator[dict[str, Any]]:
    if body.system_instruction is not None:
        yield {"role": "system", "content": _plain(body.system_instruction.parts, "systemInstruction")}
    calls: list[tuple[str, str]] = []  # name and id of those without a result yet
    for place, content in enumerate(body.contents):
        yield from _turns(content, f"contents.{place}", calls)


def _turns(content: GeminiContent, place: str, calls: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """A content as chat's messages: each result of a call is a message of its own, before the text beside it."""
    for part in content.parts:
        if part.function_response is not None:
            result = part.function_response
            found = next((each for each in calls if result.id in (None, each[1]) and each[0] == result.name), None)
            if found is not None:
                calls.remove(found)
            told = json.dumps(result.response, ensure_ascii=False)
            call_id = result.id or (found[1] if found else result.name)
            yield {"role": "tool", "name": result.name, "tool_call_id": call_id, "content": told}
    parts = [part for part in content.parts if part.function_response is None]
    if not parts:
        return
    if content.role != "model":
        yield {"role": "system" if content.role == "system" else "user", "content": _plain(parts, place)}
        return
    message: dict[str, Any] = {"role": "assistant", "content": _text(parts, place) or None}
    if thoughts := "".join(part.text or "" for part in parts if part.thought):
        message["reasoning_content"] = thoughts
    if called := [_called(part, calls) for part in parts if part.function_call is not None]:
        message["tool_calls"] = called
    yield message


def _called(part: GeminiPart, calls: list[tuple[str, str]]) -> dict[str, Any]:
    call = part.function_call
    assert call is not None
    calls.append((call.name, call.id or f"call_{len(calls)}"))
    arguments = json.dumps(call.args or {}, ensure_ascii=False)
    return {"id": calls[-1][1], "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _plain(parts: Sequence[GeminiPart], place: str) -> str:
    """The text of parts that are nothing else; raises InvalidBody for what only a model says."""
    for index, part in enumerate(parts):
        if part.function_call is not None or part.function_response is not None or part.thought:
            raise InvalidBody("calls and thoughts are the model's: role: model", param=f"{place}.parts.{index}")
    return _text(parts, place)


def _text(parts: Sequence[GeminiPart], place: str) -> str:
    """The parts' text, joined as it stands; raises InvalidBody for a part that is nothing."""
    for index, part in enumerate(parts):
        if part.text is None and part.function_call is None and not part.thought and part.thought_signature is None:
            raise InvalidBody("a part has text, functionCall or functionResponse", param=f"{place}.parts.{index}")
    return "".join(part.text for part in parts if part.text is not None and not part.thought)


@dataclass(slots=True)
class GeminiVoice:
    """How one request is answered."""

    prepared: Prepared
    tokenizer: Tokenizer
    model: str
    logprobs: bool
    thoughts: bool
    _calls: dict[int, list[Piece]] = field(default_factory=dict)
    _refusals: dict[int, str] = field(default_factory=dict)

    def event(self, piece: Piece, summary: Summary) -> dict[str, Any] | None:
        """One event of a stream; None if the piece shows nothing."""
        if piece.call is not None:
            self._calls.setdefault(piece.index, []).append(piece)
        if piece.refusal is not None:
            self._refusals[piece.index] = self._refusals.get(piece.index, "") + piece.refusal
        parts = self._said([piece])
        if piece.finish is None:
            return self._reply([self._candidate(piece.index, parts, piece.shown)], summary) if parts else None
        parts += self._called(self._calls.get(piece.index, ()))
        candidate = self._candidate(piece.index, parts, piece.shown)
        told = self._reply([candidate | self._end(piece.index, piece.finish)], summary)
        return told | ({"formwork": formwork_block(self.prepared, summary)} if self._ended(summary) else {})

    def reply(self, told: Sequence[Told], summary: Summary) -> dict[str, Any]:
        """The whole answer."""
        candidates = []
        for index, each in enumerate(told):
            self._refusals[index] = "".join(piece.refusal or "" for piece in each.pieces)
            parts = [*self._said(each.pieces), *self._called(each.pieces)]
            candidate = self._candidate(index, parts, all_shown(each.pieces))
            candidates.append(candidate | self._end(index, each.finish) | {"avgLogprobs": finite(each.score)})
        return self._reply(candidates, summary) | {"formwork": formwork_block(self.prepared, summary)}

    def _reply(self, candidates: list[dict[str, Any]], summary: Summary) -> dict[str, Any]:
        return {
            "candidates": candidates,
            "usageMetadata": {
                "promptTokenCount": summary.prompt_tokens,
                "candidatesTokenCount": summary.completion_tokens - summary.reasoning_tokens,
                "thoughtsTokenCount": summary.reasoning_tokens,
                "cachedContentTokenCount": summary.cached_tokens,
                "totalTokenCount": summary.prompt_tokens + summary.completion_tokens,
            },
            "modelVersion": self.model,
            "responseId": self.prepared.id,
        }

    def _candidate(self, index: int, parts: list[dict[str, Any]], shown: Sequence[Shown]) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts or [{"text": ""}]}, "index": index}
        if self.logprobs:
            candidate["logprobsResult"] = self._logprobs([each for each in shown if each.data])
        return candidate

    def _said(self, pieces: Iterable[Piece]) -> list[dict[str, Any]]:
        """The text, and before it the thoughts of those who want them."""
        told = list(pieces)
        thought = "".join(piece.reasoning or "" for piece in told) if self.thoughts else ""
        text = "".join(piece.text for piece in told)
        return [*([{"text": thought, "thought": True}] if thought else []), *([{"text": text}] if text else [])]

    def _called(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        return [
            {"functionCall": {"id": call.id, "name": call.name, "args": json.loads(call.text)}}
            for call in whole_calls(pieces)
        ]

    def _end(self, index: int, finish: Finish) -> dict[str, Any]:
        if finish.reason is FinishReason.ABORTED:
            raise aborted()
        if refusal := self._refusals.get(index):
            return {"finishReason": "SAFETY", "finishMessage": refusal}
        return {"finishReason": _FINISH[finish.reason]}

    def _ended(self, summary: Summary) -> bool:
        return len(summary.finishes) == self.prepared.wish.n

    def _logprobs(self, shown: Sequence[Shown]) -> dict[str, Any]:
        tops = [[self._entry(each.token_id, each.logprob) for each in one.token.alternatives] for one in shown]
        return {
            "chosenCandidates": [self._entry(each.token.token_id, each.token.logprob) for each in shown],
            "topCandidates": [{"candidates": top} for top in tops] if any(tops) else [],
        }

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        token = spelled(self.tokenizer.token_bytes(token_id)) or self.tokenizer.token_text(token_id)
        return {"token": token, "tokenId": token_id, "logProbability": finite(logprob)}
