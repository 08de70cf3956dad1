"""What is asked when speculation is measured: prompts of the bundled model's own generators, none trained on.

What it is for: extraction from held-out texts under as many schemas, a call of tools that stand in the prompt, chat and
stories; and putting them to several engines over one model. What may not enter: clocks, what came of it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grammar
from engine.loop import EngineLoop, Rooms
from engine.messages import Generate, Plan, Sampling
from engine.process import mask_helper
from engine.tokenizer import Tokenizer
from models.training.conversation import chat, story, tool_use
from models.training.data import held_out_extractions
from models.training.words import Draw
from service.chat import ChatTemplate, Conversation

BUNDLED = Path(__file__).parent.parent / "models" / "formwork-mini"
_CALL = "<tool_call>\n"  # what an answer that calls begins with


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and what may follow: a value under a schema, or calls of tools."""

    prompt: list[int]
    schema: dict[str, Any] | bool | None = None
    tools: Sequence[Any] = ()


class Asking:
    """Loops over one model in `folder`, all of which know the grammars of what is asked."""

    def __init__(self, folder: Path, rooms: Mapping[str, Rooms]) -> None:
        self._tokenizer = Tokenizer.load(folder)
        template = self._tokenizer.chat_template
        assert template is not None
        self.template = ChatTemplate(template, self._tokenizer)
        info = next(iter(rooms.values())).info
        self._vocabulary = grammar.Vocabulary(
            self._tokenizer.padded_bytes(info.vocab_size), info.eos_token_ids, self._tokenizer.special_tokens
        )
        self._plans: dict[str, Plan] = {}
        helper = mask_helper(info.device)
        self.loops = {name: EngineLoop(each, time.perf_counter, helper) for name, each in rooms.items()}

    def request(self, name: str, question: Question, sampling: Sampling) -> Generate:
        return Generate(request_id=name, prompt=question.prompt, sampling=sampling, grammar=self._plan(question))

    def _plan(self, question: Question) -> str | None:
        """The grammar's name, known to all engines."""
        schema, tools = question.schema, list(question.tools)
        if schema is None and not tools:
            return None
        key = json.dumps([schema, tools])
        if key not in self._plans:
            spelled: Any = {"property_order": "schema", "whitespace": "spaced"}
            made = (
                grammar.compile_tools(tools, self._vocabulary, choice="required", **spelled)
                if schema is None
                else grammar.compile_json_schema(schema, self._vocabulary, **spelled)
            )
            self._plans[key] = Plan(made.fingerprint, made.to_bytes())
        for loop in self.loops.values():
            loop.load_grammar(self._plans[key])
        return self._plans[key].fingerprint


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
