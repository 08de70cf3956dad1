"""The training and held-out examples: tasks dressed as conversations, in the proportions that training sees.

What it is for: `Examples`, an endless, seeded stream of (messages, tools, response_format, answer), and `HeldOut`, the
fixed sets that the card's figures come from. What may not enter: tokens, tensors. Entity words of held-out examples are
never drawn for training ones (see `words`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.training.conversation import Message, Turn, chat, classification, echo, question, story, tool_use, user
from models.training.extraction import Extraction, Width, extraction
from models.training.words import Draw

_ASKS = (
    "Extract the {k}: ",
    "Extract the {k} from: ",
    "Extract: ",
    "Extract the data: ",
    "Extract the facts.\n",
    "Fill in the form:\n",
    "Read this and answer as JSON: ",
    "Get the fields from this text: ",
    "Turn this into JSON: ",
    "Parse: ",
    "Summarize as JSON:\n",
    "Extract the {k} from this text:\n",
    "Extract the {k} from the following text: ",
    "What does the text say? ",
    "Text: ",
    "Find the {k}: ",
    "Extract the information from: ",
    "Give me the {k} as JSON: ",
    "Please extract the {k} from this: ",
)
_AFTERWARDS = (
    "\nExtract the {k}.",
    "\nFill in the schema.",
    " Extract the fields.",
    "\nAnswer as JSON.",
    "\n\nReturn the {k} as JSON.",
    "\nJSON please.",
)
_SYSTEMS = (
    "You extract data.",
    "You are a helpful assistant.",
    "Answer in JSON.",
    "Extract the facts from the text.",
    "You are a careful clerk.",
    "You turn text into JSON.",
    "Be brief.",
    "Extract structured data from the user's text.",
    "You are an extraction service.",
)


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and its right answer, as the service would see them."""

    kind: str
    messages: tuple[Message, ...]
    answer: str
    tools: tuple[Message, ...] = ()
    schema: dict[str, Any] | None = None
    raw_prompt: str | None = None  # completion style: no template, no schema in the prompt
    json_mode: bool = False  # response_format json_object: the keys are only named in the prompt

    @property
    def response_format(self) -> dict[str, Any] | None:
        """The request's response_format, if the example has a schema."""
        if self.json_mode:
            return {"type": "json_object"}
        if self.schema is None:
            return None
        return {"type": "json_schema", "json_schema": {"name": self.kind, "schema": self.schema}}


def training_examples(seed: int, progress: float) -> Iterator[Example]:
    """The endless stream at one stage of training, 0 to 1."""
    draw = Draw(random.Random(seed), held_out=False)
    while True:
        yield _example(draw, progress)


def held_out_extractions(count: int, seed: int = 20_26) -> list[Example]:
    """The extraction set that the bar is about: full width, entity words never seen in training."""
    draw = Draw(random.Random(seed), held_out=True)
    return [_asked(draw, extraction(draw, Width())) for _ in range(count)]


def held_out_turns(count: int, seed: int = 20_27) -> list[Example]:
    """Tool calls, classification, questions and chat over held-out entity words, `count` of each kind."""
    draw = Draw(random.Random(seed), held_out=True)
    return [_from_turn(draw, make(draw)) for make in (tool_use, classification, question, chat) for _ in range(count)]


def _example(draw: Draw, progress: float) -> Example:
    roll = draw.rng.random()
    if roll < 0.12 * (1 - 0.7 * progress):
        return _from_turn(draw, echo(draw))
    if roll < 0.75:
        width = Width(most_fields=3 + min(3, int(progress * 4)), spread=min(1.0, max(0.0, progress * 2 - 0.5)))
        task = extraction(draw, width)
        if draw.chance(0.05 * width.spread):
            return _completion(task)
        return _json_mode(draw, task) if draw.chance(0.06 * width.spread) else _asked(draw, task)
    make = draw.rng.choices((tool_use, classification, question, chat, story), (0.36, 0.2, 0.1, 0.26, 0.08))[0]
    return _from_turn(draw, make(draw))


def _asked(draw: Draw, task: Extraction) -> Example:
    kind = task.subject if draw.chance(0.6) else draw.of("data", "details", "information", "fields", "record")
    roll = draw.rng.random()
    if roll < 0.3:
        content = task.text
    elif roll < 0.85:
        content = draw.of(*_ASKS).replace("{k}", kind) + task.text
    else:
        content = task.text + draw.of(*_AFTERWARDS).replace("{k}", kind)
    return Example("extraction", (*_system(draw, 0.25), user(content)), task.answer, schema=task.schema)


def _completion(task: Extraction) -> Example:
    return Example("extraction", (), task.answer, schema=task.schema, raw_prompt=f"{task.text}\n")


def _json_mode(draw: Draw, task: Extraction) -> Example:
    """Keys named in the prompt instead of a schema; with response_format json_object or none at all."""
    keys = list(task.schema.get("properties", {}))
    if not keys or any(
        kind.get("format") == "date" or "object" in str(kind) for kind in task.schema["properties"].values()
    ):
        return _asked(draw, task)
    named = ", ".join(keys[:-1]) + draw.of(" and ", ", ") + keys[-1] if len(keys) > 1 else keys[0]
    ask = draw.of(
        "Answer as JSON with the keys {n}",
        "Return a JSON object with {n}",
        "Extract {n} as JSON",
        "Give me {n} as JSON",
        "JSON with {n}",
    ).replace("{n}", named)
    content = draw.of(f"{ask}: {task.text}", f"{ask}.\n{task.text}", f"{task.text}\n{ask}.")
    return Example("json", (*_system(draw, 0.2), user(content)), task.answer, json_mode=draw.chance(0.7))


def _from_turn(draw: Draw, turn: Turn) -> Example:
    return Example(turn.kind, (*_system(draw, 0.12), *turn.messages), turn.answer, turn.tools, turn.schema)


def _system(draw: Draw, probability: float) -> tuple[Message, ...]:
    return ({"role": "system", "content": draw.of(*_SYSTEMS)},) if draw.chance(probability) else ()
