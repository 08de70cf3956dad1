"""The entry points: a constraint and a vocabulary in, a `Grammar` out, or an error that names keyword and pointer."""

import json
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

import numpy as np

from grammar.compiled import Commentary, Grammar, Plan, decode_plan
from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.foresight import foresee, refuse_large_patterns
from grammar.json_automaton import JsonAutomaton
from grammar.lexical import NumberSpec, compile_format, compile_pattern, literal_language, number_language, quotations
from grammar.lexical.formats import FORMATS as STRING_FORMATS
from grammar.lints import lints, unsatisfiable
from grammar.options import GrammarLimits, JsonOptions
from grammar.rules.automaton import ENDLESS
from grammar.rules.compile import grammar_of
from grammar.rules.ebnf import read_ebnf, syntax_of
from grammar.rules.families import FORMATS, Reasoning
from grammar.rules.substrings import substring_term
from grammar.rules.tags import read_tags
from grammar.rules.terms import Json, Rules
from grammar.rules.terms import Schema as EmbeddedSchema
from grammar.rules.tools import Manner, read_tools
from grammar.schema.explained import explained, notes_of
from grammar.schema.intricate import is_intricate
from grammar.schema.keywords import Schema
from grammar.text_automaton import TextAutomaton
from grammar.vocabulary import Vocabulary


def compile_json_schema(schema: dict[str, Any] | bool, vocabulary: Vocabulary, **options: Any) -> Grammar:
    """The JSON texts that satisfy a schema. Options: see `JsonOptions`."""
    chosen = JsonOptions(**options)
    _common()
    vocabulary.prepare()
    return _ready(_json_grammar(schema, vocabulary, chosen, options))


def _of_derived(schema: Any, vocabulary: Vocabulary, chosen: JsonOptions, options: dict[str, Any]) -> Grammar:
    """A schema with strings that a recursive grammar derives: one value, read by the automaton of rules."""
    rules = Rules("value", {"value": Json(0)}, (EmbeddedSchema(schema, ""),))
    plan = Plan("json_schema", json.dumps(schema), _plain(options), vocabulary.fingerprint)
    return grammar_of(lambda: rules, plan, vocabulary, chosen)


def _json_grammar(schema: Any, vocabulary: Vocabulary, chosen: JsonOptions, options: dict[str, Any]) -> Grammar:
    def read() -> Schema:
        source = Schema(schema, chosen.documents, formats=chosen.formats, source=chosen.source, tidy=chosen.is_tidy)
        source.check()
        return source

    def build(source: Schema) -> JsonAutomaton:
        refuse_large_patterns(source.reach)
        root = source.root.formula()
        automaton = JsonAutomaton(vocabulary, source.pool, root, chosen)
        possible = automaton.satisfiable(root)
        if possible:
            foresee(automaton, source.reach.leading_to(is_intricate), MOST_FORESEEN)
        automaton.satisfiable.patience = None
        for failure in automaton.satisfiable.failures:
            raise failure
        if not possible:
            raise unsatisfiable(read())
        return automaton

    try:
        source = read()
        if source.derived:
            return _of_derived(schema, vocabulary, chosen, options)
        automaton = build(source)
    except RecursionError:
        raise GrammarTooLarge("the schema nests too deeply") from None
    plan = Plan("json_schema", json.dumps(schema), _plain(options), vocabulary.fingerprint)

    def again() -> tuple[JsonAutomaton, int]:
        fresh = build(read())
        return fresh, fresh.start

    commentary = Commentary(
        notes=lambda: notes_of(source),
        keywords=lambda: explained(source),
        lints=lambda: lints(read()),
        spelling=chosen.spelling,
    )
    return Grammar(automaton, automaton.start, plan, commentary, again)


def compile_regex(regex: str, vocabulary: Vocabulary, **options: Any) -> Grammar:
    """The texts that a regular expression matches from first to last character."""
    limits = options.get("limits", GrammarLimits())

    def build() -> tuple[TextAutomaton, int]:
        made = TextAutomaton.of_regex(vocabulary, regex, max_bytes=limits.bytes)
        return made, made.start

    automaton, start = build()
    notes = [] if automaton.is_finite else [ENDLESS]
    plan = Plan("regex", regex, {}, vocabulary.fingerprint)
    return _ready(Grammar(automaton, start, plan, Commentary(lambda: list(notes)), build))


def compile_choice(choices: list[str], vocabulary: Vocabulary, **options: Any) -> Grammar:
    """Exactly these texts."""
    if not choices or not all(isinstance(c, str) for c in choices):
        raise GrammarError("choices must be a list of at least one string", keyword="choice")
    lone = next((c for c in choices if any(0xD800 <= ord(each) < 0xE000 for each in c)), None)
    if lone is not None:
        raise GrammarError(f"the choice {lone!a} has a lone surrogate: it is not text", keyword="choice")
    limits = options.get("limits", GrammarLimits())
    given = list(choices)

    def build() -> tuple[TextAutomaton, int]:
        made = TextAutomaton.of_choices(vocabulary, given, max_bytes=limits.bytes)
        return made, made.start

    automaton, start = build()
    plan = Plan("choice", json.dumps(given), {}, vocabulary.fingerprint)
    return _ready(Grammar(automaton, start, plan, Commentary(), build))


def compile_ebnf(
    grammar: str, vocabulary: Vocabulary, *, syntax: str | None = None, start: str | None = None, **options: Any
) -> Grammar:
    """The texts that a context-free grammar derives.

    `syntax` is "lark" or "gbnf"; without it, a text with `::=` is GBNF. `start` names the whole text's rule (`start`,
    in GBNF `root`). The other options say how embedded JSON (`%json`) is spelled: see `JsonOptions`.
    """
    if not isinstance(grammar, str):
        raise GrammarError("a grammar is a text", keyword="grammar")
    chosen = syntax_of(grammar, syntax)
    told = {"syntax": chosen, "start": start, **_plain(options)}
    plan = Plan("ebnf", grammar, told, vocabulary.fingerprint)
    return _ready(grammar_of(lambda: read_ebnf(grammar, chosen, start), plan, vocabulary, JsonOptions(**options)))


def compile_structural_tags(tags: dict[str, Any] | str, vocabulary: Vocabulary, **options: Any) -> Grammar:
    """Free text with constrained islands: see grammar/rules/tags.py. Options: see `JsonOptions`."""
    source = tags if isinstance(tags, str) else json.dumps(tags)
    plan = Plan("structural_tags", source, _plain(options), vocabulary.fingerprint)
    return _ready(grammar_of(lambda: read_tags(source, read_ebnf), plan, vocabulary, JsonOptions(**options)))


def compile_tools(
    tools: list[Any],
    vocabulary: Vocabulary,
    *,
    choice: Any = "auto",
    parallel: bool = True,
    format: str = "hermes",
    reasoning: Sequence[str] | None = None,
    answer: dict[str, Any] | None = None,
    **options: Any,
) -> Grammar:
    """A message that may or must call tools, as a family of models spells it: see grammar/rules/tools.py.

    `choice` is OpenAI's `tool_choice`; `reasoning` what opens and closes free thought before the message, and perhaps
    what may follow it; `answer` a structural tag's format for text that calls nothing. The other options say how
    arguments are spelled: see `JsonOptions`.
    """
    spelling = FORMATS.get(format)
    if spelling is None:
        known = ", ".join(FORMATS)
        raise UnsupportedConstraint(f"tool calls in the format {format!r}; known: {known}", keyword="format")
    manner = Manner(spelling, parallel, None if reasoning is None else Reasoning(*reasoning), answer)
    told = {"choice": choice, "parallel": parallel, "format": format, "reasoning": reasoning, "answer": answer}
    told |= _plain(options)
    plan = Plan("tools", json.dumps(tools), told, vocabulary.fingerprint)

    def rules() -> Rules:
        return read_tools(tools, vocabulary, choice, manner)

    return _ready(grammar_of(rules, plan, vocabulary, JsonOptions(**options)))


def compile_substring(quotable: str | dict[str, Any], vocabulary: Vocabulary, **options: Any) -> Grammar:
    """Quotations from a text: of characters, or of words or chunks as llguidance's `%regex {…}` spells them."""
    wanted = {"substring_chars": quotable} if isinstance(quotable, str) else quotable
    plan = Plan("substring", json.dumps(wanted), _plain(options), vocabulary.fingerprint)

    def rules() -> Rules:
        return Rules("start", {"start": substring_term(wanted)})

    return _ready(grammar_of(rules, plan, vocabulary, JsonOptions(**options)))


def load_grammar(data: bytes, vocabulary: Vocabulary) -> Grammar:
    """The grammar of a plan that `Grammar.to_bytes` wrote, over the same vocabulary."""
    plan = decode_plan(data)
    if plan.vocabulary != vocabulary.fingerprint:
        raise GrammarError("this plan was made for another vocabulary")
    if plan.kind == "json_schema":
        return compile_json_schema(json.loads(plan.source), vocabulary, **plan.options)
    if plan.kind == "regex":
        return compile_regex(plan.source, vocabulary)
    if plan.kind == "ebnf":
        return compile_ebnf(plan.source, vocabulary, **plan.options)
    if plan.kind == "structural_tags":
        return compile_structural_tags(plan.source, vocabulary, **plan.options)
    if plan.kind == "tools":
        return compile_tools(json.loads(plan.source), vocabulary, **plan.options)
    if plan.kind == "substring":
        return compile_substring(json.loads(plan.source), vocabulary, **plan.options)
    return compile_choice(json.loads(plan.source), vocabulary)


def warm(vocabulary: Vocabulary) -> None:
    """Build the vocabulary's arrays and load every kernel: at start, so that neither falls on a request."""
    _common()
    vocabulary.prepare()
    _ = vocabulary.unsettled_trie, vocabulary.pure, vocabulary.settled_row, vocabulary.settled_lengths
    compile_json_schema(_EXERCISE, vocabulary).warm()


@lru_cache(maxsize=1)
def _common() -> None:
    """What schemas have in common, made once in a process: kernels loaded, languages of formats and plain numbers.

    A second that no request should pay; a process that never called `warm` pays it with its first schema.
    """
    for spec in (NumberSpec(), NumberSpec(integer=True), NumberSpec(minimum=Fraction(0))):
        number_language(spec)
    number_language(NumberSpec(integer=True, plain=True))
    for least in (0, 1):
        for plain in (False, True):
            number_language(NumberSpec(integer=True, plain=plain, minimum=Fraction(least)))
    for pattern in (".", r"\S", r"\s.", r"\S.", "[^a]"):
        compile_pattern(pattern)  # for what is beyond ASCII, which all patterns share
    for name in STRING_FORMATS:
        with suppress(UnsupportedConstraint):
            compile_format(name)
    compile_format("hostname", 4)
    literal_language([b"a", b"ab"])
    quotations("ab", empty=False)
    vocabulary = Vocabulary([bytes([byte]) for byte in range(256)] + [b""], [256])
    for schema in (_EXERCISE, _NAMES_ONLY):
        grammar = _json_grammar(schema, vocabulary, JsonOptions(), {})
        grammar.warm()
        _exercise(grammar, _EXERCISED)
    _exercise(_json_grammar({"properties": {"ab": {}}}, vocabulary, JsonOptions(), {}), b'{"ab":1}')
    _exercise(compile_regex("[0-9]{2}", vocabulary), b"12")
    _exercise(compile_choice(["ab"], vocabulary), b"ab")
    _exercise(compile_ebnf('start: /[a-zA-Z]+/ "."', vocabulary), b"ab.")


def _exercise(grammar: Grammar, text: bytes) -> None:
    """Fill masks without a budget, with a wide one and with the least, over a vocabulary of bytes."""
    matcher = grammar.matcher()
    row = np.zeros(grammar.automaton.vocabulary.words, np.int32)
    for byte in text:
        matcher.fill_mask(row)
        matcher.advance(byte)
        matcher.fill_mask(row, 1000)
        matcher.fill_mask(row, matcher.tokens_to_finish)


MOST_FORESEEN: Final = 100
"""Values judged when an intricate schema is compiled."""
_EXERCISE: Final = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "maxLength": 9},
        "b": {"type": "number"},
        "e": {"enum": [1, 2, "x"]},
        "f": {"type": "number", "multipleOf": 0.5, "not": {"const": 1}},
        "g": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 9},
    },
    "patternProperties": {"^x-": {"type": "string", "pattern": "^x-[a-z]+$"}, "^y?$": {}},
}
"""Together with the next one, schemas that need every kernel; and a text that both allow."""
_NAMES_ONLY: Final = {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}}
_EXERCISED: Final = b'{"a":"b","c":[1.5],"x-":"x-a","\\u0064":"x","e":2,"g":"a"}'


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "limits"}


def _ready(grammar: Grammar) -> Grammar:
    """Refuse a constraint that the vocabulary cannot spell; meet here, not in a request, what the first mask meets."""
    grammar.closing.refuse_unspellable(grammar.initial)
    grammar.matcher().fill_mask(np.zeros(grammar.automaton.vocabulary.words, np.int32))
    grammar.automaton.tables.lift_limit()
    return grammar
