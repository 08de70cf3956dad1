"""Anthropic's Messages: a request as a chat request, pieces as blocks and events.

What it is for: both directions of one dialect; `schemas.messages` describes its words. What may not enter: HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Finish, FinishReason
from schemas.chat import ChatRequest
from schemas.messages import (
    CountRequest,
    MessagesRequest,
    TextBlock,
    ThinkingBlock,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    Turn,
)
from service.dialects.asking import translated
from service.dialects.facts import formwork_block
from service.errors import InvalidBody
from service.generation import Prepared, Summary, aborted
from service.text import CallPiece, Piece

# How errors name fields: chat's words → this dialect's.
NAMES = {
    "response_format.json_schema": "output_config.format",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "tools.*.function.parameters": "tools.*.input_schema",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_EFFORTS = {"max": "xhigh"}

Event = dict[str, Any]


def chat_of(body: MessagesRequest) -> ChatRequest:
    """The request in chat's words."""
    choice, thinking = body.tool_choice, body.thinking
    asked: dict[str, Any] = {
        **prompt_of(body),
        "model": body.model,
        "max_tokens": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
        "stream": body.stream,
        "parallel_tool_calls": False if choice and choice.disable_parallel_tool_use else None,
        "thinking_token_budget": thinking.budget_tokens if thinking and thinking.type == "enabled" else None,
        "seed": body.seed,
    }
    return translated(asked, body.formwork, ChatRequest)


def prompt_of(body: MessagesRequest | CountRequest) -> dict[str, Any]:
    """What the chat template is given, in chat's words."""
    config, thinking = body.output_config, body.thinking
    format_ = (config.format if config else None) or body.output_format
    effort = config.effort if config else None
    messages = [turn for each in body.messages for turn in _turns(each)]
    if body.system is not None:
        messages.insert(0, {"role": "system", "content": _text(body.system)})
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "parameters": tool.input_schema,
                **({"description": tool.description} if tool.description is not None else {}),
            },
        }
        for tool in body.tools or ()
    ]
    return {
        "messages": messages,
        "tools": tools or None,
        "tool_choice": _choice(body.tool_choice),
        "response_format": {"type": "json_schema", "json_schema": {"schema": format_.schema_}} if format_ else None,
        "reasoning_effort": "none" if thinking and thinking.type == "disabled" else _EFFORTS.get(effort or "", effort),
    }


def _choice(choice: ToolChoice | None) -> Any:
    if choice is None:
        return None
    if choice.type != "tool":
        return _CHOICES[choice.type]
    if choice.name is None:
        raise InvalidBody("which tool? send its name", param="tool_choice.name")
    return {"type": "function", "function": {"name": choice.name}}


def _turns(turn: Turn) -> Iterator[dict[str, Any]]:
    """A turn's blocks as chat's messages: each tool result is a message of its own, before the text beside it."""
    if isinstance(turn.content, str):
        yield {"role": turn.role, "content": turn.content}
        return
    texts = [block for block in turn.content if isinstance(block, TextBlock)]
    for block in turn.content:
        if isinstance(block, ToolResultBlock):
            told = ("error: " if block.is_error else "") + _text(block.content or "")
            yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": told}
    calls = [_call(block) for block in turn.content if isinstance(block, ToolUseBlock)]
    thoughts = [block.thinking for block in turn.content if isinstance(block, ThinkingBlock)]
    if texts or calls or thoughts:
        message: dict[str, Any] = {"role": turn.role, "content": _text(texts) if texts else None}
        if calls:
            message["tool_calls"] = calls
        if thoughts:
            message["reasoning_content"] = "".join(thoughts)
        yield message


def _call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = json.dumps(block.input, ensure_ascii=False)
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _text(content: str | Sequence[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


@dataclass(slots=True)
class MessagesVoice:
    """One message as it grows."""

    prepared: Prepared
    model: str
    omits_thinking: bool = False
    content: list[dict[str, Any]] = field(default_factory=list)
    _open: str | None = None
    _called: bool = False
    _refused: bool = False

    def opening(self, summary: Summary) -> list[Event]:
        message = {**self._head(), "stop_reason": None, "stop_sequence": None, "usage": _usage(summary)}
        return [{"type": "message_start", "message": message}]

    def events(self, piece: Piece) -> list[Event]:
        """What this piece adds, without the end."""
        if piece.call is not None:
            return self._calls(piece.call) if piece.call.tells else []
        if piece.refusal is not None:
            self._refused = True
        kind, text = ("thinking", piece.reasoning) if piece.reasoning else ("text", piece.text or piece.refusal)
        if not text:
            return []
        told = self._entered(kind)
        if kind == "thinking" and self.omits_thinking:
            return told
        self.content[-1][kind] += text
        return [*told, self._delta({"type": f"{kind}_delta", kind: text})]

    def closing(self, finish: Finish, summary: Summary) -> list[Event]:
        reason, sequence = self._reason(finish)
        told = {"stop_reason": reason, "stop_sequence": sequence}
        delta = {"type": "message_delta", "delta": told, "usage": _usage(summary)}
        delta["formwork"] = formwork_block(self.prepared, summary)
        return [*self._left(), delta, {"type": "message_stop"}]

    def reply(self, pieces: Sequence[Piece], finish: Finish, summary: Summary) -> dict[str, Any]:
        """The whole message."""
        for piece in pieces:
            self.events(piece)
        reason, sequence = self._reason(finish)
        content = [
            {**block, "input": json.loads(block["input"] or "{}")} if block["type"] == "tool_use" else block
            for block in self.content
        ]
        return {
            **self._head(),
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": _usage(summary),
            "formwork": formwork_block(self.prepared, summary),
        }

    def _head(self) -> dict[str, Any]:
        return {"id": self.prepared.id, "type": "message", "role": "assistant", "model": self.model, "content": []}

    def _reason(self, finish: Finish) -> tuple[str, str | None]:
        if finish.reason is FinishReason.ABORTED:
            raise aborted()
        if finish.reason is FinishReason.LENGTH:
            return "max_tokens", None
        if self._refused:
            return "refusal", None
        if self._called:
            return "tool_use", None
        if isinstance(finish.stop, bytes):
            return "stop_sequence", finish.stop.decode(errors="replace")
        return "end_turn", None

    def _calls(self, call: CallPiece) -> list[Event]:
        told: list[Event] = []
        if call.name is not None:
            self._called = True
            told += self._left()
            self._open = call.id
            self.content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": ""})
            told.append(self._start({**self.content[-1], "input": {}}))
        if call.arguments:
            self.content[-1]["input"] += call.arguments
            told.append(self._delta({"type": "input_json_delta", "partial_json": call.arguments}))
        return told

    def _entered(self, kind: str) -> list[Event]:
        """Begins a block unless it is being written."""
        if self._open == kind:
            return []
        told = self._left()
        self._open = kind
        block = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
        self.content.append(block)
        return [*told, self._start(dict(block))]

    def _left(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        return [{"type": "content_block_stop", "index": len(self.content) - 1}]

    def _start(self, block: dict[str, Any]) -> Event:
        return {"type": "content_block_start", "index": len(self.content) - 1, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": len(self.content) - 1, "delta": delta}


def _usage(summary: Summary) -> dict[str, Any]:
    return {
        "input_tokens": summary.prompt_tokens - summary.cached_tokens,
        "output_tokens": summary.completion_tokens,
        "cache_read_input_tokens": summary.cached_tokens,
        "cache_creation_input_tokens": 0,
    }
