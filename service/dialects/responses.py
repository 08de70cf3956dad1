"""OpenAI's Responses: a request as a chat request, pieces as items and events.

What it is for: both directions of one dialect; `schemas.responses` describes its words. What may not enter: HTTP.

The idea: one state machine over pieces writes the events of a stream and keeps the response as far as it has come; an
answer in one piece is the same response without its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import FinishReason
from engine.tokenizer import Tokenizer
from schemas.chat import ChatRequest, Constraints
from schemas.responses import (
    FlatAllowed,
    FlatCustom,
    FlatFunction,
    FlatNamed,
    FlatTools,
    InputItem,
    Prompted,
    ResponsesRequest,
    TextConfig,
)
from service.dialects.asking import translated
from service.dialects.facts import formwork_block, logprob_entry
from service.dialects.items import fresh_id, turns
from service.generation import Prepared, Summary, aborted
from service.text import CallPiece, Piece, Shown

# How errors name fields: chat's words → this dialect's.
NAMES = {
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "tools.*.function": "tools.*",
    "tools.*.custom": "tools.*",
}

Event = dict[str, Any]


def chat_of(body: ResponsesRequest, conversation: Iterable[InputItem]) -> ChatRequest:
    """The request in chat's words; `conversation` is all that was said, its own input included."""
    asked: dict[str, Any] = {
        **prompt_of(body, conversation),
        **body.model_dump(include=set(Constraints.model_fields), by_alias=True),
        "max_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_logprobs": body.top_logprobs,
        "logprobs": True,
        "seed": body.seed,
    }
    return translated(asked, body.formwork, ChatRequest)


def prompt_of(body: Prompted, conversation: Iterable[InputItem]) -> dict[str, Any]:
    """What decides upon the prompt, in chat's words."""
    text, reasoning = body.text, body.reasoning
    told = [{"role": "developer", "content": body.instructions}] if body.instructions is not None else []
    return {
        "model": body.model,
        "messages": [*told, *turns(conversation)],
        "response_format": _format(text),
        "tools": [_tool(tool) for tool in body.tools] if body.tools else None,
        "tool_choice": _choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning_effort": reasoning.effort if reasoning else None,
        "verbosity": text.verbosity if text else None,
    }


def _format(text: TextConfig | None) -> dict[str, Any] | None:
    format_ = text.format if text else None
    if format_ is None:
        return None
    flat = format_.model_dump(by_alias=True, exclude_unset=True)
    if flat["type"] != "json_schema":
        return flat
    return {"type": "json_schema", "json_schema": {name: value for name, value in flat.items() if name != "type"}}


def _tool(tool: FlatFunction | FlatCustom) -> dict[str, Any]:
    flat = tool.model_dump(exclude_unset=True, exclude={"type", "output_schema", *FlatTools.model_fields})
    return {"type": tool.type, tool.type: flat}


def _choice(choice: str | FlatNamed | FlatAllowed | None) -> Any:
    if choice is None or isinstance(choice, str):
        return choice
    if isinstance(choice, FlatNamed):
        return {"type": choice.type, choice.type: {"name": choice.name}}
    tools = [{"type": each.type, each.type: {"name": each.name}} for each in choice.tools]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}


@dataclass(slots=True)
class ResponsesVoice:
    """One response as it grows; `events` of a piece are ready to be sent."""

    body: ResponsesRequest
    prepared: Prepared
    tokenizer: Tokenizer
    model: str
    created: int
    logprobs: bool
    stored: bool = False
    output: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _open: str | None = None  # which kind of item is being written: reasoning, message, or a call's id

    def opening(self) -> list[Event]:
        return [self._event("created", response=self.response()), self._event("in_progress", response=self.response())]

    def events(self, piece: Piece) -> list[Event]:
        """What this piece adds, without the end."""
        if piece.reasoning:
            return [*self._enter("reasoning"), *self._reason(piece.reasoning)]
        if piece.call is not None:
            return list(self._call(piece.call)) if piece.call.tells else []
        if piece.refusal is not None:
            return [*self._enter("refusal"), *self._refuse(piece.refusal)]
        if piece.text or any(each.data for each in piece.shown):
            return [*self._enter("message"), *self._say(piece.text, piece.shown)]
        return []

    def closing(self, piece: Piece, summary: Summary, now: int) -> list[Event]:
        """The end: the open item is done, then the response."""
        assert piece.finish is not None
        if piece.finish.reason is FinishReason.ABORTED:
            raise aborted()
        cut = piece.finish.reason is FinishReason.LENGTH
        done = [] if self.output else self._enter("message")  # an empty answer is still a message
        done += self._leave("incomplete" if cut else "completed")
        word = "incomplete" if cut else "completed"
        return [*done, self._event(word, response=self.response(word, summary, now))]

    def response(self, status: str = "in_progress", summary: Summary | None = None, now: int = 0) -> dict[str, Any]:
        """The response as far as it has come; whole with a summary."""
        body = self.body
        sampling = self.prepared.sampling
        response: dict[str, Any] = {
            "id": self.prepared.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.model,
            "output": self.output if summary is not None else list(self.output),
            "usage": _usage(summary) if summary else None,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "background": False,
            "store": self.stored,
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "service_tier": "default",
            "max_tool_calls": body.max_tool_calls,
            "safety_identifier": body.safety_identifier,
            "prompt_cache_key": body.prompt_cache_key,
            "temperature": sampling.temperature,
            "text": self._text_config(),
            "tool_choice": _dumped(body.tool_choice) or "auto",
            "tools": [_dumped(tool) for tool in body.tools or ()],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": sampling.top_p,
            "truncation": "disabled",
            "user": body.user,
        }
        if summary is not None:
            response["completed_at"] = now
            response["formwork"] = formwork_block(self.prepared, summary)
        return response

    def _text_config(self) -> dict[str, Any]:
        told: dict[str, Any] = _dumped(self.body.text) or {}
        return {**told, "format": told.get("format") or {"type": "text"}}

    def _reason(self, text: str) -> Iterable[Event]:
        self.output[-1]["content"][0]["text"] += text
        yield self._item_event("reasoning_text.delta", content_index=0, delta=text)

    def _refuse(self, text: str) -> Iterable[Event]:
        self.output[-1]["content"][0]["refusal"] += text
        if text:
            yield self._item_event("refusal.delta", content_index=0, delta=text)

    def _say(self, text: str, shown: Sequence[Shown]) -> Iterable[Event]:
        logprobs = [logprob_entry(each, self.tokenizer) for each in shown if each.data] if self.logprobs else []
        part = self.output[-1]["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        yield self._item_event("output_text.delta", content_index=0, delta=text, logprobs=logprobs)

    def _call(self, call: CallPiece) -> Iterator[Event]:
        if call.name is not None:
            yield from self._leave("completed")
            self._open = call.id
            key, kind = ("input", "custom_tool_call") if call.custom else ("arguments", "function_call")
            item = {"type": kind, "id": fresh_id(kind), "call_id": call.id, "name": call.name, key: ""}
            self.output.append({**item, "status": "in_progress"})
            yield self._event("output_item.added", output_index=self._place, item=dict(self.output[-1]))
        if call.arguments:
            key, event = _CALLS[self.output[-1]["type"]]
            self.output[-1][key] += call.arguments
            yield self._item_event(f"{event}.delta", delta=call.arguments)

    def _enter(self, kind: str) -> list[Event]:
        """Begins an item of text unless it is being written."""
        if self._open == kind:
            return []
        done = self._leave("completed")
        self._open = kind
        part: dict[str, Any]
        if kind == "reasoning":
            part = {"type": "reasoning_text", "text": ""}
            item = {
                "type": "reasoning",
                "id": fresh_id("reasoning"),
                "summary": [],
                "content": [],
                "status": "in_progress",
            }
        else:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            if kind == "refusal":
                part = {"type": "refusal", "refusal": ""}
            item = {
                "type": "message",
                "id": fresh_id("message"),
                "role": "assistant",
                "content": [],
                "status": "in_progress",
            }
        self.output.append({**item, "content": [part]})
        return [
            *done,
            self._event("output_item.added", output_index=self._place, item=item),
            self._item_event("content_part.added", content_index=0, part=_empty(part)),
        ]

    def _leave(self, status: str) -> list[Event]:
        """Ends the open item."""
        if self._open is None:
            return []
        self._open = None
        item = self.output[-1]
        item["status"] = status
        if item["type"] in _CALLS:
            key, event = _CALLS[item["type"]]
            done = [self._item_event(f"{event}.done", **{key: item[key], "name": item["name"]})]
        else:
            part = item["content"][0]
            told = {name: part[name] for name in ("text", "refusal", "logprobs") if name in part}
            done = [
                self._item_event(f"{part['type']}.done", content_index=0, **told),
                self._item_event("content_part.done", content_index=0, part=part),
            ]
        return [*done, self._event("output_item.done", output_index=self._place, item=item)]

    @property
    def _place(self) -> int:
        return len(self.output) - 1

    def _item_event(self, kind: str, **more: Any) -> Event:
        return self._event(kind, item_id=self.output[-1]["id"], output_index=self._place, **more)

    def _event(self, kind: str, **more: Any) -> Event:
        event = {"type": f"response.{kind}", "sequence_number": self._number, **more}
        self._number += 1
        return event


_CALLS = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}


def error_event(body: dict[str, Any], number: int) -> Event:
    """An error after the stream has begun."""
    error = body["error"]
    told = {name: error.get(name) for name in ("code", "message", "param", "formwork") if name in error}
    return {"type": "error", "sequence_number": number, **told}


def _empty(part: dict[str, Any]) -> dict[str, Any]:
    """The part as it was when it began, whatever is added to it later."""
    return {name: list(value) if isinstance(value, list) else value for name, value in part.items()}


def _usage(summary: Summary) -> dict[str, Any]:
    return {
        "input_tokens": summary.prompt_tokens,
        "input_tokens_details": {"cached_tokens": summary.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": summary.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": summary.reasoning_tokens},
        "total_tokens": summary.prompt_tokens + summary.completion_tokens,
    }


def _dumped(value: Any) -> Any:
    """What the client sent, told back; a function tool always has the fields that clients read."""
    if value is None or isinstance(value, str):
        return value
    told = value.model_dump(by_alias=True, exclude_none=True)
    if isinstance(value, FlatFunction):
        told = {"parameters": None, "strict": None, **told}
    return told
