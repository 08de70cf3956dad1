"""Tool calls in each model family's own spelling: text, then calls, with names that exist and arguments that validate.

A family is a value: what opens and closes the calls, one call, and what stands between two. Markers that are special
tokens of the vocabulary are those tokens, and text otherwise.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grammar.errors import GrammarError
from grammar.lexical import compile_regex, literal_language
from grammar.rules import free_text
from grammar.rules.terms import EMPTY, Json, Repeat, Rules, Schema, Term, Word, choice, optional, sequence, text
from grammar.vocabulary import Vocabulary, special_spelling


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


FORMATS: Final[Mapping[str, ToolFormat]] = {
    "hermes": ToolFormat(
        before='<tool_call>\n{"name": "{name}", "arguments": ',
        after="}\n</tool_call>",
        between="\n",
        trigger="<tool_call>",
        special=("<tool_call>", "</tool_call>"),
    ),
    "llama3_json": ToolFormat(before='{"name": "{name}", "parameters": ', after="}", between="; "),
    "mistral": ToolFormat(
        before='{"name": "{name}", "arguments": ',
        after="}",
        opening="[TOOL_CALLS][",
        closing="]",
        between=", ",
        trigger="[TOOL_CALLS]",
        special=("[TOOL_CALLS]",),
    ),
    "mistral_v11": ToolFormat(
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
    "gpt_oss": ToolFormat(
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
NO_PARAMETERS: Final = {"type": "object", "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools may be called, and whether one must be."""

    names: tuple[str, ...]
    must: bool


def read_tools(
    tools: Sequence[Any],
    vocabulary: Vocabulary,
    wanted: Any,
    *,
    parallel: bool,
    spelling: ToolFormat,
    reasoning: tuple[str, str] | None,
) -> Rules:
    """The rules of a message that may or must call tools; `wanted` is OpenAI's `tool_choice`.

    `reasoning` is what opens and closes a stretch of free thought before the message. If nothing opens it, the prompt
    has done so, and it must be closed; otherwise it may be left out.
    """
    given = _named(tools)
    chosen = _chosen(wanted, tuple(given))
    speaker = _Speaker(spelling, vocabulary, chosen.names, parallel=parallel, reasoning=reasoning)
    whole = speaker.calls() if chosen.must else speaker.text_or_calls() if chosen.names else speaker.text()
    schemas = tuple(given[name] for name in chosen.names)
    return Rules("%message", {"%message": sequence([speaker.thought(), whole])}, schemas)


class _Speaker:
    """One family's spelling of one list of tools over one vocabulary."""

    def __init__(
        self,
        spelling: ToolFormat,
        vocabulary: Vocabulary,
        names: Sequence[str],
        *,
        parallel: bool,
        reasoning: tuple[str, str] | None,
    ) -> None:
        self._spelling = spelling
        self._names = names
        self._parallel = parallel and spelling.between is not None
        self._reasoning = reasoning
        self._special = [name for name in (*spelling.special, *(reasoning or ())) if name in vocabulary.special_tokens]

    def text(self) -> Term:
        """A message that calls nothing."""
        avoided = (self._spelling.trigger,) if self._spelling.trigger else self._spelling.special
        return sequence([self._marked(self._spelling.saying), free_text.without(avoided)])

    def calls(self, begun: str = "") -> Term:
        """One call or several, without what has `begun` them."""
        spelling = self._spelling
        first = self._call(spelling.opening, begun)
        more = sequence([self._marked(spelling.between or ""), self._call("", "")])
        several = [Repeat(more, 0, None)] if self._parallel else []
        return sequence([first, *several, self._marked(spelling.closing)])

    def text_or_calls(self) -> Term:
        """A message that says something, calls tools, or does one after the other."""
        spelling = self._spelling
        trigger = spelling.trigger
        if spelling.saying:
            return choice([self.text(), self.calls()])
        if not trigger:
            begin = "".join(f"\\u{{{ord(c):X}}}" for c in (spelling.opening + spelling.before).split("{name}")[0])
            return choice([Word(compile_regex(rf"(?!{begin})[\s\S]*")), self.calls()])
        if any(trigger.startswith(name) for name in self._special):
            return sequence([self.text(), optional(self.calls())])
        return choice([self.text(), sequence([free_text.until(trigger, (trigger,)), self.calls(trigger)])])

    def thought(self) -> Term:
        """The free stretch before the message."""
        if self._reasoning is None:
            return EMPTY
        begin, end = self._reasoning
        free = free_text.without((end,)) if end in self._special else free_text.until(end, (end,))
        whole = sequence([self._marked(begin), free, self._marked(end) if end in self._special else EMPTY])
        return optional(whole) if begin else whole

    def _call(self, opening: str, begun: str) -> Term:
        """Any one call."""
        spelling, after = self._spelling, self._marked(self._spelling.after)
        quoted = '"{name}"' in spelling.before
        found = []
        for number, name in enumerate(self._names):
            before = opening + spelling.before.replace("{name}", json.dumps(name)[1:-1] if quoted else name)
            found.append(sequence([self._marked(before.removeprefix(begun)), Json(number), after]))
        return choice(found)

    def _marked(self, value: str) -> Term:
        """A text whose special markers are tokens."""
        items: list[Term] = []
        while value:
            at, name = min(((value.find(n), n) for n in self._special if n in value), default=(len(value), ""))
            items.append(text(value[:at]))
            if name:
                items.append(Word(literal_language([special_spelling(name)])))
            value = value[at + len(name) :]
        return sequence(items) if items else EMPTY


def _named(tools: Sequence[Any]) -> dict[str, Schema]:
    """Each tool's parameters by its name: OpenAI's form, the bare function, or Anthropic's."""
    found: dict[str, Schema] = {}
    for number, tool in enumerate(tools):
        at = f"/{number}"
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise GrammarError("a tool is a function with a name", pointer=at, keyword="name")
        if name in found:
            raise GrammarError(f"two tools are named {name!r}", pointer=at, keyword="name")
        key = "input_schema" if "input_schema" in function else "parameters"
        parameters = function.get(key)
        if parameters is None:
            parameters = NO_PARAMETERS
        if isinstance(parameters, dict) and "type" not in parameters:
            parameters = {"type": "object", **parameters}
        where = f"{at}/function/{key}" if function is not tool else f"{at}/{key}"
        found[name] = Schema(parameters, f"tool {name!r}", where)
    return found


def _chosen(wanted: Any, known: tuple[str, ...]) -> ToolChoice:
    """What `tool_choice` means; a name by itself is TGI's form."""
    if wanted is None or wanted in ("auto", "none", "required"):
        if not known and wanted == "required":
            raise GrammarError("a call is required, but there are no tools", keyword="tool_choice")
        return ToolChoice(() if wanted == "none" else known, wanted == "required")
    if isinstance(wanted, str):
        return ToolChoice(_all_known([wanted], known), must=True)
    if not isinstance(wanted, dict):
        wanted = {}
    kind = wanted.get("type")
    if kind == "function":
        return ToolChoice(_all_known([_function_name(wanted)], known), must=True)
    if kind == "allowed_tools":
        allowed: Any = wanted.get("allowed_tools", wanted)
        mode, tools = (
            ("", None) if not isinstance(allowed, dict) else (allowed.get("mode", "auto"), allowed.get("tools"))
        )
        if mode in ("auto", "required") and isinstance(tools, list) and tools:
            return ToolChoice(_all_known([_function_name(tool) for tool in tools], known), mode == "required")
    raise GrammarError(
        "tool_choice is auto, none, required, a function or a list of allowed tools", keyword="tool_choice"
    )


def _function_name(raw: Any) -> Any:
    function = raw.get("function", raw) if isinstance(raw, dict) else raw
    return function.get("name") if isinstance(function, dict) else function


def _all_known(names: Sequence[Any], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise GrammarError(f"no tool is named {name!r}; tools: {', '.join(known)}", keyword="tool_choice")
    return tuple(dict.fromkeys(names))
