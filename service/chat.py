"""Messages to prompt tokens, through the model's own chat template.

What it is for: rendering in a sandbox with limits (service.sandbox), and tokenising the result so that
special tokens spelled in a user's text stay text. What may not enter: templates from requests, sampling.

The idea behind the second: the template's special tokens mean turns, the user's must not. So special spellings inside
what the client sent are replaced by marks before rendering, and tokenised as plain text after it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols

from engine.tokenizer import Tokenizer
from grammar.rules.offers import CUSTOM_INPUT
from schemas.base import JsonSchema
from schemas.chat import CustomToolCall, Message, MessageToolCall, RefusalPart
from service.errors import TemplateFailure, far_too_long
from service.sandbox import BoundedSandbox, TemplateLimit

_RESERVED = frozenset(
    {"messages", "tools", "response_format", "add_generation_prompt", "bos_token", "eos_token", "raise_exception"}
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is given, as plain values."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    response_format: Mapping[str, Any] | None = None
    more: Mapping[str, Any] | None = None  # reasoning_effort, chat_template_kwargs, …


class ChatTemplate:
    """One model's template, compiled once."""

    def __init__(self, source: str, tokenizer: Tokenizer, context_length: int | None = None) -> None:
        self._context_length = context_length  # None: prompts of any length are tokenised
        environment = self._environment = BoundedSandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise TemplateFailure(f"the model's chat template cannot be read: {error}") from None
        self.source = source
        self._tokenizer = tokenizer
        self._knows_developer = "developer" in source
        spellings = sorted((tokenizer.token_text(i) for i in tokenizer.special_ids), key=len, reverse=True)
        self._special = re.compile("|".join(re.escape(text) for text in spellings if text) or r"(?!)")

    def prompt(self, conversation: Conversation) -> list[int]:
        """The prompt's tokens."""
        guard = _Guard(self._special)
        rendered = self._render(conversation, guard)
        if self._context_length is not None and self._tokenizer.is_longer(rendered, self._context_length):
            raise far_too_long(self._context_length, "messages")
        return [token for text, special in guard.split(rendered) for token in self._encode(text, special=special)]

    def render(self, conversation: Conversation) -> str:
        """The prompt as text, special spellings as they are."""
        return self._render(conversation, _Guard(None))

    def _encode(self, text: str, *, special: bool) -> list[int]:
        return self._tokenizer.encode(text, special=special)

    def _render(self, conversation: Conversation, guard: _Guard) -> str:
        values: dict[str, Any] = {
            **(conversation.more or {}),
            "messages": [self._turn(message) for message in guard.marked(conversation.messages)],
            "tools": guard.marked(conversation.tools),
            "response_format": guard.marked(conversation.response_format),
            "add_generation_prompt": True,
            "bos_token": self._tokenizer.bos_token or "",
            "eos_token": self._tokenizer.eos_token or "",
        }
        try:
            return self._environment.rendered(self._template, values)
        except TemplateLimit as error:
            raise TemplateFailure(f"rendering the chat template {error}", param="messages") from None
        except TemplateError as error:
            raise TemplateFailure(str(error), param="messages") from None
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            # What a template does with values it did not expect.
            raise TemplateFailure(f"{type(error).__name__}: {error}", param="messages") from None

    def _turn(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["role"] == "developer" and not self._knows_developer:
            return {**message, "role": "system"}
        return message


class _Guard:
    """Replaces special spellings in the client's strings by marks that no client can know, and finds them again."""

    def __init__(self, special: re.Pattern[str] | None) -> None:
        self._special = special
        self._mark = f"\ue000{secrets.token_hex(8)}:"
        self._hidden: list[str] = []

    def marked(self, value: Any) -> Any:
        if self._special is None:
            return value
        if isinstance(value, str):
            return self._special.sub(self._hide, value)
        if isinstance(value, Mapping):
            return {self.marked(key): self.marked(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.marked(item) for item in value]
        return value

    def split(self, rendered: str) -> Iterable[tuple[str, bool]]:
        """The rendered text in order, with whether special spellings in it are meant."""
        if not self._hidden:
            yield rendered, True
            return
        parts = re.split(re.escape(self._mark) + r"(\d+)\ue001", rendered)
        for place, part in enumerate(parts):
            if place % 2:
                yield self._hidden[int(part)], False
            elif part:
                yield part, True

    def _hide(self, match: re.Match[str]) -> str:
        self._hidden.append(match[0])
        return f"{self._mark}{len(self._hidden) - 1}\ue001"


def plain_message(message: Message) -> dict[str, Any]:
    """A message as templates expect it: text joined, a tool call's arguments as a value."""
    plain: dict[str, Any] = {"role": message.role, "content": message_text(message)}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    reasoning = message.reasoning_content if message.reasoning_content is not None else message.reasoning
    if reasoning is not None:
        plain["reasoning_content"] = reasoning
    calls = [_plain_call(call) for call in message.tool_calls or ()]
    if message.function_call is not None:
        calls.append(_call("call_0", message.function_call.name, _arguments(message.function_call.arguments)))
    if calls:
        plain["tool_calls"] = calls
    return plain


def _plain_call(call: MessageToolCall) -> dict[str, Any]:
    if isinstance(call, CustomToolCall):
        return _call(call.id, call.custom.name, {CUSTOM_INPUT: call.custom.input})
    return _call(call.id, call.function.name, _arguments(call.function.arguments))


def _call(id_: str, name: str, arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def message_text(message: Message) -> str:
    """The text of a message, its parts joined by line breaks."""
    if message.content is None:
        return message.refusal or ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in message.content)


def with_schema(messages: Sequence[Mapping[str, Any]], schema: JsonSchema) -> list[Mapping[str, Any]]:
    """The messages with the schema told in the system turn, for templates that ignore response_format."""
    return with_system(messages, f"Answer with JSON that conforms to this JSON Schema:\n{_to_json(schema)}")


def with_system(messages: Sequence[Mapping[str, Any]], wish: str) -> list[Mapping[str, Any]]:
    """The messages with `wish` at the end of the system turn."""
    if messages and messages[0]["role"] in {"system", "developer"}:
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{wish}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": wish}, *messages]


def template_extras(extras: Mapping[str, Any] | None) -> dict[str, Any]:
    """chat_template_kwargs, which may not replace what the service itself passes."""
    taken = sorted(_RESERVED & set(extras or ()))
    if taken:
        raise TemplateFailure(f"{taken[0]!r} is set by the service", param="chat_template_kwargs")
    return dict(extras or {})


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **_: Any) -> str:
    """Templates expect JSON that is not escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
