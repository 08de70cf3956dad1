"""What is asked when speculation is measured: prompts of the bundled model's own generators, none trained on.

What it is for: extraction from held-out texts under as many schemas, a call of tools that stand in the prompt, chat and
stories. What may not enter: engines, clocks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from models.training.conversation import chat, story, tool_use
from models.training.data import held_out_extractions
from models.training.words import Draw
from service.chat import ChatTemplate, Conversation

_CALL = "<tool_call>\n"  # what an answer that calls begins with


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and what may follow: a value under a schema, or calls of tools."""

    prompt: list[int]
    schema: dict[str, Any] | bool | None = None
    tools: Sequence[Any] = ()


def extraction(template: ChatTemplate, count: int) -> list[Question]:
    return [
        Question(
            template.prompt(Conversation(messages=list(each.messages), response_format=each.response_format)),
            each.schema,
        )
        for each in held_out_extractions(count, 77)
    ]


def tools(template: ChatTemplate, count: int) -> list[Question]:
    draw, found = Draw(random.Random(78), held_out=True), list[Question]()
    while len(found) < count:
        turn = tool_use(draw)
        if not turn.answer.startswith(_CALL):
            continue
        conversation = Conversation(messages=list(turn.messages), tools=list(turn.tools))
        found.append(Question(template.prompt(conversation), tools=turn.tools))
    return found


def text(template: ChatTemplate, count: int) -> list[Question]:
    draw = Draw(random.Random(79), held_out=True)
    return [
        Question(template.prompt(Conversation(messages=list(make(draw).messages))))
        for make in (chat, story)
        for _ in range(count // 2)
    ]


WORKLOADS: dict[str, Callable[[ChatTemplate, int], list[Question]]] = {
    "extraction": extraction,
    "tools": tools,
    "text": text,
}
