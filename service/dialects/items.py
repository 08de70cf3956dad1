"""The items of OpenAI's Responses: as chat's turns, as they are kept, and as a kept conversation goes on.

What it is for: what is said, in either form. What may not enter: HTTP, a request's other words and its answer
(service.dialects.responses), where entries are kept (service.archive).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from pydantic import TypeAdapter

from schemas.responses import (
    CallItem,
    CallOutputItem,
    CustomCallItem,
    InputItem,
    InputPart,
    InputRefusal,
    MessageItem,
    Prompted,
    ReasoningItem,
)
from service.archive import Entry

PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}
_ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(list[InputItem])
_OUTPUT_TEXT: dict[str, Any] = {"annotations": [], "logprobs": []}


def fresh_id(kind: str) -> str:
    """An id for an item of this type."""
    return PREFIXES[kind] + secrets.token_hex(12)


def turns(items: Iterable[InputItem]) -> Iterator[dict[str, Any]]:
    """Items as turns: an assistant's reasoning, text and calls that follow each other are one turn."""
    turn: dict[str, Any] | None = None
    for item in items:
        if isinstance(item, CallOutputItem) or (isinstance(item, MessageItem) and item.role != "assistant"):
            if turn is not None:
                yield turn
            turn = None
            yield _told(item)
        else:
            turn = _continued(turn, item)
    if turn is not None:
        yield turn


def items_of(body: Prompted) -> Sequence[InputItem]:
    """The items that a request sends; a bare text is a user's message."""
    return [MessageItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input


def kept(response: dict[str, Any], earlier: Entry | None, items: Iterable[InputItem]) -> Entry:
    """A finished response and the whole conversation that it answered: `earlier`, and then `items`."""
    told = [] if earlier is None else msgspec.json.decode(earlier.items, type=list[msgspec.Raw])
    output = [] if earlier is None else _output(earlier)
    conversation = [*told, *output, *(_listed(item) for item in items)]
    return Entry(msgspec.json.encode(response), msgspec.json.encode(conversation))


def conversation(entry: Entry) -> list[InputItem]:
    """What was said up to the end of a kept response."""
    return _ITEMS.validate_python([*listed(entry), *_output(entry)])


def listed(entry: Entry) -> list[dict[str, Any]]:
    """The items that a kept response answered, each with its id."""
    items: list[dict[str, Any]] = msgspec.json.decode(entry.items)
    return items


def _listed(item: InputItem) -> dict[str, Any]:
    """An item as the API tells it: content in parts, an id, a status."""
    told = item.model_dump(exclude_none=True)
    if isinstance(item, MessageItem):
        kind = "output_text" if item.role == "assistant" else "input_text"
        parts = [{"type": kind, "text": item.content}] if isinstance(item.content, str) else told["content"]
        told["content"] = [{**_OUTPUT_TEXT, **part} if part["type"] == "output_text" else part for part in parts]
    return {**told, "id": told.get("id") or fresh_id(item.type), "status": told.get("status", "completed")}


def _output(entry: Entry) -> list[dict[str, Any]]:
    """The items of an answer without their log-probs, which say nothing to a model."""
    items: list[dict[str, Any]] = msgspec.json.decode(entry.response)["output"]
    for part in (part for item in items if item["type"] == "message" for part in item["content"]):
        if part["type"] == "output_text":
            part["logprobs"] = []
    return items


def _told(item: MessageItem | CallOutputItem) -> dict[str, Any]:
    if isinstance(item, CallOutputItem):
        return {"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)}
    return {"role": item.role, "content": _text(item.content)}


def _continued(
    turn: dict[str, Any] | None, item: MessageItem | CallItem | CustomCallItem | ReasoningItem
) -> dict[str, Any]:
    turn = turn or {"role": "assistant"}
    if isinstance(item, MessageItem):
        turn["content"] = "".join(each for each in (turn.get("content"), _text(item.content)) if each)
    elif isinstance(item, ReasoningItem):
        thought = "".join(part.text for part in item.content or item.summary)
        turn["reasoning_content"] = turn.get("reasoning_content", "") + thought
    elif isinstance(item, CallItem):
        call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
        turn.setdefault("tool_calls", []).append(call)
    else:
        call = {"id": item.call_id, "type": "custom", "custom": {"name": item.name, "input": item.input}}
        turn.setdefault("tool_calls", []).append(call)
    return turn


def _text(content: str | Sequence[InputPart]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.refusal if isinstance(part, InputRefusal) else part.text for part in content)
