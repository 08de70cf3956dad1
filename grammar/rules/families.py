"""How model families spell tool calls and reasoning: values, which the grammar of a message and its reader both read.

Markers that are special tokens of the vocabulary are those tokens, and text otherwise.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from grammar.vocabulary import special_spelling


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How calls are spelled; `{name}` in `before` is the tool's name as inside of a JSON string."""

    before: str
    """A call up to its arguments."""
    after: str
    """A call from its arguments on."""
    opening: str = ""
    """What the calls begin with."""
    closing: str = ""
    between: str | None = None
    """Between two calls; None if a message has one call only."""
    trigger: str = ""
    """What free text must not contain because it opens a call; if empty, no text that begins like a call is free."""
    saying: str = ""
    """What text begins with where it is a channel of its own; then a message is text or calls, not both."""
    special: tuple[str, ...] = ()
    """The markers that are special tokens if the vocabulary has them."""

    def head(self, name: str, *, first: bool) -> str:
        """What is written from the end of the text, or of the call before, to the arguments of a call of `name`."""
        written = json.dumps(name, ensure_ascii=False)[1:-1] if '"{name}"' in self.before else name
        before = self.before.replace("{name}", written)
        return self.opening + before if first else self.after + (self.between or "") + before


FORMATS: Final[Mapping[str, ToolFormat]] = {
    "hermes": ToolFormat(
        before='<tool_call>\n{"name": "{name}", "arguments": ',
        after="}\n</tool_call>",
        between="\n",
        trigger="<tool_call>",
        special=("<tool_call>", "</tool_call>"),
    ),
    # One call only: the family's template refuses a history with several.
    "llama3_json": ToolFormat(before='{"name": "{name}", "parameters": ', after="}", trigger='{"name": "'),
    "mistral": ToolFormat(
        before='{"name": "{name}", "arguments": ',
        after="}",
        opening="[TOOL_CALLS][",
        closing="]",
        between=", ",
        trigger="[TOOL_CALLS]",
        special=("[TOOL_CALLS]",),
    ),
    "mistral_args": ToolFormat(
        before="[TOOL_CALLS]{name}[ARGS]",
        after="",
        between="",
        trigger="[TOOL_CALLS]",
        special=("[TOOL_CALLS]", "[ARGS]"),
    ),
    "deepseek_v3": ToolFormat(
        before="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n",
        after="\n```<｜tool▁call▁end｜>",
        opening="<｜tool▁calls▁begin｜>",
        closing="<｜tool▁calls▁end｜>",
        between="\n",
        trigger="<｜tool▁calls▁begin｜>",
        special=(
            *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
            *("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"),
        ),
    ),
    "deepseek_v31": ToolFormat(
        before="<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>",
        after="<｜tool▁call▁end｜>",
        opening="<｜tool▁calls▁begin｜>",
        closing="<｜tool▁calls▁end｜>",
        between="",
        trigger="<｜tool▁calls▁begin｜>",
        special=(
            *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
            *("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"),
        ),
    ),
    "openai": ToolFormat(
        before="<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>",
        after="<|call|>",
        saying="<|channel|>final<|message|>",
        special=("<|channel|>", "<|constrain|>", "<|message|>", "<|call|>"),
    ),
    "json": ToolFormat(before='{"name": "{name}", "arguments": ', after="}"),
    "json_list": ToolFormat(
        before='{"name": "{name}", "arguments": ', after="}", opening="[", closing="]", between=", "
    ),
}


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Free thought before a message: what opens it (nothing, if the prompt has), what closes it, what may follow."""

    opening: str
    closing: str
    gap: str = ""
    """As much of it as the model writes stands between the thought and the message."""


def markers(special: Mapping[str, int], ends: Collection[int]) -> dict[str, int]:
    """The special tokens that may stand within a message. An end token ends it: its name within one is text."""
    return {name: token_id for name, token_id in special.items() if token_id not in ends}


def marked(value: str, special: Mapping[str, int]) -> bytes:
    """A marker's bytes in a grammar over a vocabulary with these special tokens."""
    written = b""
    while value:
        at, name = min(
            ((value.find(n), n) for n in special if n in value),
            key=lambda found: (found[0], -len(found[1])),
            default=(len(value), ""),
        )
        written += value[:at].encode() + (special_spelling(name) if name else b"")
        value = value[at + len(name) :]
    return written
