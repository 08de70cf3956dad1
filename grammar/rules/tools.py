"""Tool calls in each model family's own spelling: text, then calls, with names that exist and arguments that validate.

What a message may be: free thought, then text or an answer under another constraint, then calls, all in one grammar.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grammar.lexical import compile_regex, literal_language
from grammar.rules import free_text
from grammar.rules.ebnf import read_ebnf
from grammar.rules.families import Reasoning, ToolFormat, marked, markers
from grammar.rules.offers import chosen, offered
from grammar.rules.tags import TagReader, read_tags
from grammar.rules.terms import (
    EMPTY,
    Call,
    Json,
    Repeat,
    Rules,
    Schema,
    Term,
    Word,
    choice,
    optional,
    renamed,
    sequence,
)
from grammar.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Manner:
    """How a message may be written."""

    spelling: ToolFormat
    parallel: bool = True
    reasoning: Reasoning | None = None
    """Free thought before the message. If nothing opens it, the prompt has; otherwise it may be left out."""
    answer: Any = None
    """The format (of a structural tag) of a text that calls nothing; None: any text, also before calls."""


def read_tools(tools: Sequence[Any], vocabulary: Vocabulary, wanted: Any, manner: Manner) -> Rules:
    """The rules of a message that may or must call tools; `wanted` is OpenAI's `tool_choice`."""
    given = offered(tools)
    picked = chosen(wanted, tuple(given))
    parts = _Parts()
    said = None if manner.answer is None else parts.embedded(_answer(manner.answer), "answer/")
    calls = [(name, parts.json(given[name])) for name in picked.names]
    speaker = _Speaker(manner, vocabulary, calls, said)
    whole = speaker.calls() if picked.must else speaker.text_or_calls() if picked.names else speaker.text()
    message = sequence([speaker.thought(), whole])
    return Rules("%message", {"%message": message, **parts.bodies}, tuple(parts.schemas), tuple(parts.notes))


@dataclass(slots=True)
class _Parts:
    """What the parts of a message bring with them."""

    bodies: dict[str, Term] = field(default_factory=dict)
    schemas: list[Schema] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def embedded(self, rules: Rules, prefix: str) -> Term:
        """Another grammar's text: its rules get names of their own, its schemas follow those that are there."""
        offset = len(self.schemas)
        self.bodies |= {prefix + name: renamed(body, prefix, offset) for name, body in rules.bodies.items()}
        self.schemas += rules.schemas
        self.notes += rules.notes
        return Call(prefix + rules.start)

    def json(self, schema: Schema) -> Term:
        """A JSON value under a schema."""
        self.schemas.append(schema)
        return Json(len(self.schemas) - 1)


def _answer(raw: Any) -> Rules:
    if isinstance(raw, dict) and raw.get("type") == "structural_tag":
        return read_tags(raw, read_ebnf)
    reader = TagReader(read_ebnf)
    return reader.rules(reader.format(raw, "/answer", ()))


class _Speaker:
    """One family's spelling of one list of tools over one vocabulary."""

    def __init__(
        self, manner: Manner, vocabulary: Vocabulary, calls: Sequence[tuple[str, Term]], answer: Term | None
    ) -> None:
        self._spelling = manner.spelling
        self._calls = calls
        self._parallel = manner.parallel and manner.spelling.between is not None
        self._reasoning = manner.reasoning
        self._answer = answer
        self._markers = markers(vocabulary.special_tokens, vocabulary.eos_token_ids)
        self._ends = [name for name in vocabulary.special_tokens if name not in self._markers]

    def text(self) -> Term:
        """A message that calls nothing."""
        if self._answer is not None:
            return sequence([self._marked(self._spelling.saying), self._answer])
        avoided = (self._spelling.trigger,) if self._spelling.trigger else self._spelling.special
        return sequence([self._marked(self._spelling.saying), free_text.without(avoided)])

    def calls(self, begun: str = "") -> Term:
        """One call or several, without what has `begun` them."""
        spelling = self._spelling
        first = choice([self._call(spelling.opening, begun, *each) for each in self._calls])
        further = choice([self._call("", "", *each) for each in self._calls])
        more = sequence([self._marked(spelling.between or ""), further])
        several = [Repeat(more, 0, None)] if self._parallel else []
        return sequence([first, *several, self._marked(spelling.closing)])

    def text_or_calls(self) -> Term:
        """A message that says something, calls tools, or (where any text may be said) does one after the other."""
        spelling = self._spelling
        trigger = spelling.trigger
        if spelling.saying or self._answer is not None:
            return choice([self.text(), self.calls()])
        if not trigger:
            begin = "".join(f"\\u{{{ord(c):X}}}" for c in (spelling.opening + spelling.before).split("{name}")[0])
            return choice([Word(compile_regex(rf"(?!{begin})[\s\S]*")), self.calls()])
        if any(trigger.startswith(name) for name in self._markers):
            return sequence([self.text(), optional(self.calls())])
        return choice([self.text(), sequence([free_text.until(trigger, (trigger,)), self.calls(trigger)])])

    def thought(self) -> Term:
        """The free stretch before the message."""
        if self._reasoning is None:
            return EMPTY
        begin, end, gap = self._reasoning.opening, self._reasoning.closing, self._reasoning.gap
        after = Word(literal_language([gap[:size].encode() for size in range(len(gap) + 1)])) if gap else EMPTY
        at, first = min(((end.find(n), n) for n in self._markers if n in end), default=(len(end), ""))
        if at:
            whole = [self._marked(begin), free_text.until(end[:at], (end[:at],)), self._marked(end[at:]), after]
        else:
            whole = [self._marked(begin), free_text.without((first,)), self._marked(end), after]
        return optional(sequence(whole)) if begin else sequence(whole)

    def _call(self, opening: str, begun: str, name: str, arguments: Term) -> Term:
        """A call of one tool."""
        spelling = self._spelling
        before = opening + spelling.head(name, first=True).removeprefix(spelling.opening)
        return sequence([self._marked(before.removeprefix(begun)), arguments, self._marked(spelling.after)])

    def _marked(self, value: str) -> Term:
        """A text whose special markers are tokens. A marker that ends the text is what ends it anyhow: nothing here."""
        for name in self._ends:
            value = value.removesuffix(name)
        written = marked(value, self._markers)
        return Word(literal_language([written])) if written else EMPTY
