"""Ollama: a request as a chat or completion request, pieces as lines.

What it is for: both directions of one dialect; `schemas.ollama` describes its words. What may not enter: HTTP.

Its streams are lines of JSON, and a tool call is told whole, with its arguments as a value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engine.tokenizer import Tokenizer
from schemas.chat import ChatRequest
from schemas.completions import CompletionRequest
from schemas.ollama import OllamaChatRequest, OllamaGenerateRequest, OllamaMessage, OllamaRequest, Options
from service.dialects.asking import translated
from service.dialects.facts import formwork_block, logprob_entry
from service.dialects.openai import finish_word, whole_calls
from service.generation import Prepared, Summary
from service.text import Piece, Shown

# How errors name fields: chat's words → this dialect's.
NAMES = {
    "response_format.json_schema.schema": "format",
    "response_format": "format",
    "json_schema": "format",
    "max_tokens": "options.num_predict",
}
_NANO = 1_000_000_000


def chat_of(body: OllamaChatRequest | OllamaGenerateRequest) -> ChatRequest:
    """The request in chat's words."""
    think = body.think
    asked = {
        **_sampling(body),
        "response_format": _format(body),
        "logprobs": True,
        "top_logprobs": body.top_logprobs,
        "reasoning_effort": "none" if think is False else _effort(think),
    }
    if isinstance(body, OllamaChatRequest):
        asked["messages"] = [_message(message) for message in body.messages]
        asked["tools"] = [tool.model_dump(exclude_unset=True) for tool in body.tools] if body.tools else None
    else:
        system = [{"role": "system", "content": body.system}] if body.system else []
        asked["messages"] = [*system, {"role": "user", "content": body.prompt}]
    return translated(asked, body.formwork, ChatRequest)


def completion_of(body: OllamaGenerateRequest) -> CompletionRequest:
    """A raw prompt in the words of text completions."""
    asked = {
        **_sampling(body),
        "prompt": body.prompt,
        "logprobs": body.top_logprobs,
        "response_format": _format(body),
    }
    return translated(asked, body.formwork, CompletionRequest, nulls={"max_tokens"})


def _sampling(body: OllamaRequest) -> dict[str, Any]:
    options = body.options or Options()
    budget = options.num_predict if options.num_predict and options.num_predict > 0 else None
    return {
        "model": body.model,
        "max_tokens": budget,
        "temperature": 0.8 if options.temperature is None else options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "typical_p": options.typical_p,
        "seed": options.seed,
        "stop": options.stop or None,
        "repetition_penalty": options.repeat_penalty,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
    }


def _format(body: OllamaRequest) -> dict[str, Any] | None:
    if body.format is None or body.format == "":
        return None
    if body.format == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"schema": body.format}}


def _effort(think: bool | str | None) -> str | None:
    if isinstance(think, str):
        return "xhigh" if think == "max" else think
    return None


def _message(message: OllamaMessage) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    name = message.tool_name or message.name
    if name is not None:
        plain["name"] = name
    if message.thinking is not None:
        plain["reasoning_content"] = message.thinking
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id or f"call_{index}",
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": json.dumps(call.function.arguments, ensure_ascii=False),
                },
            }
            for index, call in enumerate(message.tool_calls)
        ]
    return plain


@dataclass(slots=True)
class OllamaVoice:
    """How one request is answered; `chat` says in which of the two shapes."""

    prepared: Prepared
    tokenizer: Tokenizer
    model: str
    chat: bool
    logprobs: bool
    _calls: list[Piece] = field(default_factory=list)

    def lines(self, piece: Piece, summary: Summary) -> list[dict[str, Any]]:
        """The lines that this piece completes."""
        told = []
        if piece.call is not None:
            self._calls.append(piece)
        if (text := piece.text or piece.refusal or "") or piece.reasoning:
            told.append(self._line(text, piece.reasoning or "", [], piece.shown))
        if piece.finish is not None:
            if self._calls:
                told.append(self._line("", "", self._calls, ()))
            told.append({**self._line("", "", [], ()), **self._end(piece, summary)})
        return told

    def reply(self, pieces: Sequence[Piece], summary: Summary) -> dict[str, Any]:
        """The whole answer: its lines as one."""
        text = "".join(piece.text or piece.refusal or "" for piece in pieces)
        reasoning = "".join(piece.reasoning or "" for piece in pieces)
        calls = [piece for piece in pieces if piece.call is not None]
        shown = [each for piece in pieces if piece.call is None for each in piece.shown]
        return {**self._line(text, reasoning, calls, shown), **self._end(pieces[-1], summary)}

    def _line(self, text: str, reasoning: str, calls: Sequence[Piece], shown: Sequence[Shown]) -> dict[str, Any]:
        line: dict[str, Any] = {"model": self.model, "created_at": datetime.now(UTC).isoformat(), "done": False}
        thinking = {"thinking": reasoning} if reasoning else {}
        if self.chat:
            message: dict[str, Any] = {"role": "assistant", "content": text, **thinking}
            if calls:
                message["tool_calls"] = [
                    {"id": call.id, "function": {"index": index, "name": call.name, "arguments": json.loads(call.text)}}
                    for index, call in enumerate(whole_calls(calls))
                ]
            line["message"] = message
        else:
            line |= {"response": text, **thinking}
        if self.logprobs and shown:
            line["logprobs"] = [logprob_entry(each, self.tokenizer) for each in shown if each.data]
        return line

    def _end(self, piece: Piece, summary: Summary) -> dict[str, Any]:
        finish = piece.finish
        assert finish is not None
        total_s = finish.queue_s + finish.prefill_s + finish.decode_s
        return {
            "done": True,
            "done_reason": finish_word(finish),
            "total_duration": round(total_s * _NANO),
            "load_duration": 0,
            "prompt_eval_count": summary.prompt_tokens,
            "prompt_eval_duration": round(finish.prefill_s * _NANO),
            "eval_count": summary.completion_tokens,
            "eval_duration": round(finish.decode_s * _NANO),
            "formwork": formwork_block(self.prepared, summary),
        }
