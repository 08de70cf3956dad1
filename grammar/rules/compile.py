"""Rules and a vocabulary in, a `Grammar` out: what every spelling of a context-free constraint ends in.

So does a JSON Schema with strings that a recursive grammar derives (`x-grammar`): it is a grammar of one value.
"""

from collections.abc import Callable
from functools import partial

from grammar.compiled import Commentary, Grammar, Plan
from grammar.errors import GrammarError, GrammarTooLarge
from grammar.formula import Formula, Formulas
from grammar.lints import Lint, lints, unsatisfiable
from grammar.options import JsonOptions
from grammar.rules.automaton import RuleAutomaton, Value
from grammar.rules.terms import Rules
from grammar.rules.terms import Schema as Embedded
from grammar.schema.explained import explained, notes_of
from grammar.schema.keywords import Schema
from grammar.vocabulary import Vocabulary


def grammar_of(read: Callable[[], Rules], plan: Plan, vocabulary: Vocabulary, options: JsonOptions) -> Grammar:
    """The grammar of the rules that `read` makes."""

    def build() -> tuple[RuleAutomaton, Rules, list[tuple[Schema, Formula]]]:
        rules, pool = read(), Formulas()
        sources = [_source(schema, pool, options) for schema in rules.schemas]
        values = [
            Value(formula, source.derived, partial(_unsatisfiable, schema, options))
            for schema, (source, formula) in zip(rules.schemas, sources, strict=True)
        ]
        automaton = RuleAutomaton(vocabulary, rules, pool, values, options)
        if sources:
            automaton.probe()
        for failure in automaton.satisfiable.failures:
            raise failure
        automaton.satisfiable.patience = None
        return automaton, rules, sources

    try:
        automaton, rules, sources = build()
    except RecursionError:
        raise GrammarTooLarge("this grammar nests too deeply") from None

    def again() -> tuple[RuleAutomaton, int]:
        fresh = build()[0]
        return fresh, fresh.start

    def notes() -> list[str]:
        told = (note for source, _ in sources for note in notes_of(source))
        return [*rules.notes, *automaton.notes, *told]

    def keywords() -> list[dict[str, str]]:
        pairs = zip(rules.schemas, sources, strict=True)
        found = ((schema.pointer, entry) for schema, (source, _) in pairs for entry in explained(source))
        return [{**entry, "pointer": pointer + entry["pointer"]} for pointer, entry in found]

    def found() -> list[Lint]:
        pairs = ((schema, lint) for schema in rules.schemas for lint in lints(_read(schema, Formulas(), options)))
        return [Lint(schema.pointer + lint.pointer, schema.named(lint.message)) for schema, lint in pairs]

    spelling = options.spelling if sources else ()
    return Grammar(automaton, automaton.start, plan, Commentary(notes, keywords, found, spelling), again)


def _source(schema: Embedded, pool: Formulas, options: JsonOptions) -> tuple[Schema, Formula]:
    try:
        source = _read(schema, pool, options)
        return source, source.root.formula()
    except GrammarError as error:
        raise _placed(error, schema) from None


def _read(schema: Embedded, pool: Formulas, options: JsonOptions) -> Schema:
    documents, tidy = options.documents, options.is_tidy
    source = Schema(schema.value, documents, formats=options.formats, source=options.source, tidy=tidy, pool=pool)
    source.check()
    return source


def _unsatisfiable(schema: Embedded, options: JsonOptions) -> GrammarError:
    return _placed(unsatisfiable(_read(schema, Formulas(), options)), schema)


def _placed(error: GrammarError, schema: Embedded) -> GrammarError:
    """The error, with the schema's name and place."""
    message, pointer = schema.named(error.message), schema.pointer + error.pointer
    return type(error)(message, pointer=pointer, keyword=error.keyword, reason=error.reason)
