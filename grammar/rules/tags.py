"""Structural tags: free text with constrained islands, in vLLM's first form and in xgrammar's formats.

Free text stops being free at a trigger: what follows must then be a tag that begins with it. The words of the formats
are xgrammar's (`triggered_tags`, `tags_with_separator`, `dispatch`, …); what is not enforced is refused by name.
"""

# ruff: noqa: ARG002  (all readers of formats have one signature)
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.lexical import Dfa, compile_regex
from grammar.rules import free_text
from grammar.rules.terms import (
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
    text,
)

MAX_NESTED: Final = 60
MAX_LISTED: Final = 10_000
MAX_TIMES: Final = 10_000
ReadGrammar = Callable[[str, str | None], Rules]
"""A grammar's text and its syntax (None: as the text shows)."""


def read_tags(raw: Any, read_grammar: ReadGrammar) -> Rules:
    """The rules of a structural tag, in either form, as a value or as JSON text."""
    if isinstance(raw, str):
        raw = _decoded(raw, "")
    reader = TagReader(read_grammar)
    whole = _fields(raw, "", {"type"}, {"format", "structures", "triggers"})
    if whole["type"] != "structural_tag":
        raise GrammarError('the type of a structural tag is "structural_tag"', pointer="/type", keyword="type")
    if "format" in whole:
        if len(whole) > 2:
            raise GrammarError("a structural tag has a format, or structures and triggers", keyword="structures")
        return reader.rules(reader.format(whole["format"], "/format", ()))
    return reader.rules(reader.structures(whole))


class TagReader:
    """Formats to terms; the schemas and grammars inside them are collected on the way."""

    def __init__(self, read_grammar: ReadGrammar) -> None:
        self._read_grammar = read_grammar
        self._bodies: dict[str, Term] = {}
        self._schemas: list[Schema] = []
        self._notes: list[str] = []
        self._depth = 0

    def rules(self, whole: Term) -> Rules:
        """All that was read, with `whole` for the text."""
        return Rules("%text", {"%text": whole, **self._bodies}, tuple(self._schemas), tuple(self._notes))

    def format(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        """One format; free text in it stops before any of `ends`."""
        self._depth += 1
        if self._depth > MAX_NESTED:
            raise GrammarTooLarge(f"formats nested more than {MAX_NESTED} deep", pointer=at)
        kind = raw.get("type") if isinstance(raw, dict) else None
        kind = kind if isinstance(kind, str) else ""
        read = _FORMATS.get(kind)
        if read is None:
            if kind in _UNSUPPORTED:
                raise UnsupportedConstraint(f"format {kind!r}: {_UNSUPPORTED[kind]}", pointer=at, keyword="type")
            known = ", ".join(sorted(_FORMATS))
            raise GrammarError(f"a format is an object whose type is one of {known}", pointer=at, keyword="type")
        found = read(self, raw, at, ends)
        self._depth -= 1
        return found

    def structures(self, whole: Mapping[str, Any]) -> Term:
        """vLLM's first form: structures of begin, schema and end, with the strings that trigger them."""
        tags = []
        for number, raw in enumerate(_listed(whole, "structures", "")):
            at = f"/structures/{number}"
            fields = _fields(raw, at, {"begin", "schema"}, {"end"})
            schema = fields["schema"]
            content = {
                "type": "json_schema",
                "json_schema": _decoded(schema, at) if isinstance(schema, str) else schema,
            }
            tags.append({"type": "tag", "begin": fields["begin"], "content": content, "end": fields.get("end", "")})
        raw = {"type": "triggered_tags", "triggers": whole.get("triggers"), "tags": tags}
        return self.format(raw, "", ())

    def schema(self, value: Any, name: str, at: str) -> Term:
        """A JSON text under a schema."""
        self._schemas.append(Schema(value, name, at))
        return Json(len(self._schemas) - 1)

    def embedded(self, rules: Rules) -> Term:
        """Another grammar's text: its rules get names of their own, its schemas follow those that are there."""
        prefix, offset = f"{len(self._bodies)}/", len(self._schemas)
        for name, body in rules.bodies.items():
            self._bodies[prefix + name] = renamed(body, prefix, offset)
        self._schemas += rules.schemas
        self._notes += rules.notes
        return Call(prefix + rules.start)

    # ---------------------------------------------------------------- formats

    def _const_string(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        return text(_string(_fields(raw, at, {"type", "value"}), "value", at))

    def _json_schema(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        fields = _fields(raw, at, {"type", "json_schema"}, {"style", "any_order", "max_whitespace_cnt", "excludes"})
        for name, plain in (("style", "json"), ("any_order", False), ("max_whitespace_cnt", None), ("excludes", [])):
            if fields.get(name, plain) != plain:
                reason = "the options property_order and whitespace say how JSON is spelled, in all values alike"
                raise UnsupportedConstraint(f"{name} of a json_schema: {reason}", pointer=at, keyword=name)
        return self.schema(fields["json_schema"], "json_schema", f"{at}/json_schema")

    def _regex(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        pattern = _string(_fields(raw, at, {"type", "pattern"}), "pattern", at)
        return Word(_located(lambda: compile_regex(pattern), at, "pattern"))

    def _grammar(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        fields = _fields(raw, at, {"type", "grammar"}, {"syntax"})
        grammar, syntax = _string(fields, "grammar", at), fields.get("syntax")
        if syntax not in (None, "lark", "gbnf"):
            raise GrammarError(f"syntax is lark or gbnf, not {syntax!r}", pointer=f"{at}/syntax", keyword="syntax")
        return self.embedded(_located(lambda: self._read_grammar(grammar, syntax), at, "grammar"))

    def _any_text(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        fields = _fields(raw, at, {"type"}, {"excludes", "max_tokens", "max_chars"})
        if fields.get("max_tokens") is not None:
            raise UnsupportedConstraint("max_tokens of any_text: text is counted in characters", pointer=at)
        free = free_text.without((*ends, *_strings(fields, "excludes", at)))
        if fields.get("max_chars") is None:
            return free
        most = _whole(fields, "max_chars", at)
        limited = _located(lambda: compile_regex(rf"[\s\S]{{0,{most}}}"), at, "max_chars")
        assert isinstance(free, Word)
        return Word(free.language.intersect(limited))

    def _sequence(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        elements = _listed(_fields(raw, at, {"type", "elements"}), "elements", at)
        last = len(elements) - 1
        return sequence(
            [self.format(e, f"{at}/elements/{i}", ends if i == last else ()) for i, e in enumerate(elements)]
        )

    def _or(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        elements = _listed(_fields(raw, at, {"type", "elements"}), "elements", at)
        return choice([self.format(e, f"{at}/elements/{i}", ends) for i, e in enumerate(elements)])

    def _tag(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        return sequence([text(_begin(raw, at)), self._rest_of_tag(raw, at, ends)])

    def _rest_of_tag(self, raw: Any, at: str, outer: tuple[str, ...]) -> Term:
        """What follows a tag's beginning."""
        fields = _fields(raw, at, {"type", "begin", "content"}, {"end"})
        value = fields.get("end", "")
        if isinstance(value, dict):
            raise UnsupportedConstraint("tokens as ends of tags", pointer=f"{at}/end", keyword="end")
        ends = (value,) if isinstance(value, str) else tuple(_strings(fields, "end", at)) or ("",)
        inner = tuple(end for end in ends if end) if "" not in ends else outer
        content = self.format(fields["content"], f"{at}/content", inner)
        return sequence([content, choice([text(end) for end in ends])])

    def _triggered_tags(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        optionals = {"at_least_one", "stop_after_first", "excludes"}
        fields = _fields(raw, at, {"type", "triggers", "tags"}, optionals)
        triggers, tags = _strings(fields, "triggers", at), _listed(fields, "tags", at)
        rests: dict[str, list[Term]] = {trigger: [] for trigger in triggers}
        for number, tag in enumerate(tags):
            where = f"{at}/tags/{number}"
            begin = _begin(tag, where)
            matching = [trigger for trigger in rests if begin.startswith(trigger)]
            if len(matching) != 1:
                wanted = "one of the triggers" if not matching else f"one trigger, not {len(matching)}"
                raise GrammarError(f"a tag begins with {wanted}: {begin!r}", pointer=where, keyword="begin")
            rest = [text(begin[len(matching[0]) :]), self._rest_of_tag(tag, where, ends)]
            rests[matching[0]].append(sequence(rest))
        excludes = (*_strings(fields, "excludes", at), *ends)
        free, islands = _free_and_islands({t: choice(r) for t, r in rests.items()}, excludes, at)
        first = choice([sequence([text(t), choice(found)]) for t, found in rests.items() if found] or [_NOTHING])
        must, once = _flag(fields, "at_least_one", at), _flag(fields, "stop_after_first", at)
        if must:
            return first if once else sequence([first, Repeat(islands, 0, None), free])
        return choice([free, islands]) if once else sequence([Repeat(islands, 0, None), free])

    def _dispatch(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        fields = _fields(raw, at, {"type", "rules"}, {"loop", "excludes"})
        rests: dict[str, Term] = {}
        for number, rule in enumerate(_listed(fields, "rules", at)):
            where = f"{at}/rules/{number}"
            if not (isinstance(rule, list) and len(rule) == 2 and isinstance(rule[0], str) and rule[0]):
                raise GrammarError("a rule is a string and a format", pointer=where, keyword="rules")
            rests[rule[0]] = self.format(rule[1], f"{where}/1", ends)
        free, islands = _free_and_islands(rests, (*_strings(fields, "excludes", at), *ends), at)
        loop = "loop" not in fields or _flag(fields, "loop", at)
        return sequence([Repeat(islands, 0, None), free]) if loop else choice([free, islands])

    def _tags_with_separator(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        fields = _fields(raw, at, {"type", "tags", "separator"}, {"at_least_one", "stop_after_first"})
        tags = _listed(fields, "tags", at)
        tag = choice([self._tag(tag, f"{at}/tags/{i}", ends) for i, tag in enumerate(tags)])
        separator = text(_string(fields, "separator", at))
        more = [] if _flag(fields, "stop_after_first", at) else [Repeat(sequence([separator, tag]), 0, None)]
        found = sequence([tag, *more])
        return found if _flag(fields, "at_least_one", at) else optional(found)

    def _optional(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        return self._times(_fields(raw, at, {"type", "content"}), at, ends, (0, 1))

    def _plus(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        return self._times(_fields(raw, at, {"type", "content"}), at, ends, (1, None))

    def _star(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        return self._times(_fields(raw, at, {"type", "content"}), at, ends, (0, None))

    def _repeat(self, raw: Any, at: str, ends: tuple[str, ...]) -> Term:
        fields = _fields(raw, at, {"type", "content", "min", "max"})
        low = _whole(fields, "min", at)
        high = None if fields["max"] == -1 else _whole(fields, "max", at)
        if high is not None and high < low:
            raise GrammarError(f"a repeat of at least {low} and at most {high}", pointer=at, keyword="max")
        return self._times(fields, at, ends, (low, high))

    def _times(self, fields: Mapping[str, Any], at: str, ends: tuple[str, ...], times: tuple[int, int | None]) -> Term:
        return Repeat(self.format(fields["content"], f"{at}/content", ends), *times)


_NOTHING: Final = Word(Dfa.empty())
_FORMATS: Final[Mapping[str, Callable[[TagReader, Any, str, tuple[str, ...]], Term]]] = {
    name: getattr(TagReader, f"_{name}")
    for name in (
        *("const_string", "json_schema", "regex", "grammar", "any_text", "sequence", "or", "tag", "triggered_tags"),
        *("dispatch", "tags_with_separator", "optional", "plus", "star", "repeat"),
    )
}
_TOKENS: Final = "tokens are not told apart from the text that they spell"
_UNSUPPORTED: Final = {
    "qwen_xml_parameter": "parameters are spelled as JSON",
    **dict.fromkeys(("token", "exclude_token", "any_tokens", "token_triggered_tags", "token_dispatch"), _TOKENS),
}


def _free_and_islands(rests: Mapping[str, Term], excludes: Sequence[str], at: str) -> tuple[Term, Term]:
    """Text that no trigger ends, and text up to a trigger with what must follow it."""
    if len(rests) + len(excludes) > free_text.MAX_STRINGS:
        raise GrammarTooLarge(f"more than {free_text.MAX_STRINGS} strings end free text", pointer=at)
    for one in rests:
        hidden = next((other for other in rests if other != one and other in one[: len(one) - 1]), None)
        if hidden is not None:
            message = f"{one!r} contains {hidden!r}, which always comes first"
            raise GrammarError(message, pointer=at, keyword="triggers")
    strings = (*rests, *excludes)
    islands = [sequence([free_text.until(trigger, strings), rest]) for trigger, rest in rests.items()]
    return free_text.without(strings), choice(islands or [_NOTHING])


def _decoded(value: str, at: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise GrammarError(f"not JSON: {error}", pointer=at) from None


def _located(read: Callable[[], Any], at: str, keyword: str) -> Any:
    """What `read` returns; its errors say where in the structural tag they belong."""
    try:
        return read()
    except GrammarError as error:
        inner = f" ({error.pointer})" if error.pointer else ""
        raise type(error)(
            error.message + inner, pointer=f"{at}/{keyword}", keyword=keyword, reason=error.reason
        ) from None


def _fields(raw: Any, at: str, needed: set[str], allowed: set[str] | frozenset[str] = frozenset()) -> dict[str, Any]:
    """The members of an object that has all it needs and nothing unknown."""
    if not isinstance(raw, dict):
        raise GrammarError(f"expected an object, not {type(raw).__name__}", pointer=at)
    if missing := sorted(needed - raw.keys()):
        raise GrammarError(f"{missing[0]!r} is missing", pointer=at, keyword=missing[0])
    if unknown := sorted(raw.keys() - needed - allowed, key=str):
        raise GrammarError(f"unknown member {unknown[0]!r}", pointer=at, keyword=str(unknown[0]))
    return raw


def _string(fields: Mapping[str, Any], name: str, at: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise GrammarError(f"{name!r} is a string", pointer=at, keyword=name)
    return value


def _strings(fields: Mapping[str, Any], name: str, at: str) -> list[str]:
    """A list of strings that are not empty (an end may be); none if it is missing."""
    value = fields.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and (each or name == "end") for each in value):
        raise GrammarError(f"{name!r} is a list of strings that are not empty", pointer=at, keyword=name)
    return list(dict.fromkeys(value))


def _listed(fields: Mapping[str, Any], name: str, at: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list) or not value:
        raise GrammarError(f"{name!r} is a list that is not empty", pointer=at, keyword=name)
    if len(value) > MAX_LISTED:
        raise GrammarTooLarge(f"{name!r} has more than {MAX_LISTED} members", pointer=at, keyword=name)
    return value


def _flag(fields: Mapping[str, Any], name: str, at: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise GrammarError(f"{name!r} is true or false", pointer=at, keyword=name)
    return value


def _whole(fields: Mapping[str, Any], name: str, at: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise GrammarError(f"{name!r} is a whole number", pointer=at, keyword=name)
    if value > MAX_TIMES:
        raise GrammarTooLarge(f"{name!r} is more than {MAX_TIMES}", pointer=at, keyword=name)
    return value


def _begin(tag: Any, at: str) -> str:
    begin = tag.get("begin") if isinstance(tag, dict) else None
    if isinstance(begin, dict):
        raise UnsupportedConstraint(f"a token as the beginning of a tag: {_TOKENS}", pointer=at, keyword="begin")
    if not isinstance(begin, str):
        raise GrammarError("'begin' is a string", pointer=at, keyword="begin")
    return begin
