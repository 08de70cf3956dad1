"""Rules and a vocabulary in, a `Grammar` out: what every spelling of a context-free constraint ends in."""

from collections.abc import Callable

from grammar.compiled import Grammar, Plan
from grammar.errors import GrammarError, GrammarTooLarge
from grammar.formula import Formula, Formulas
from grammar.options import JsonOptions
from grammar.rules.automaton import RuleAutomaton
from grammar.rules.terms import Rules
from grammar.rules.terms import Schema as Embedded
from grammar.schema.keywords import Schema
from grammar.vocabulary import Vocabulary


def grammar_of(read: Callable[[], Rules], plan: Plan, vocabulary: Vocabulary, options: JsonOptions) -> Grammar:
    """The grammar of the rules that `read` makes."""
    try:
        rules = read()
        pool = Formulas()
        sources = [_source(schema, pool, options) for schema in rules.schemas]
        automaton = RuleAutomaton(vocabulary, rules, pool, [formula for _, formula in sources], options)
        if sources:
            automaton.probe()
    except RecursionError:
        raise GrammarTooLarge("this grammar nests too deeply") from None

    def notes() -> list[str]:
        return [*rules.notes, *automaton.notes, *(note for source, _ in sources for note in _schema_notes(source))]

    return Grammar(automaton, automaton.start, plan, notes)


def _source(schema: Embedded, pool: Formulas, options: JsonOptions) -> tuple[Schema, Formula]:
    try:
        source = Schema(
            schema.value,
            options.documents,
            assert_formats=options.formats == "assert",
            source=options.source,
            pool=pool,
        )
        source.check()
        return source, source.root.formula()
    except GrammarError as error:
        message, pointer = f"{schema.name}: {error.message}", schema.pointer + error.pointer
        raise type(error)(message, pointer=pointer, keyword=error.keyword, reason=error.reason) from None


def _schema_notes(source: Schema) -> list[str]:
    return [f"{pointer or '#'}/{keyword}: {text}" for (pointer, keyword), text in source.notes.items()]
