"""Rules and a vocabulary in, a `Grammar` out: what every spelling of a context-free constraint ends in.

So does a JSON Schema with strings that a recursive grammar derives (`x-grammar`): it is a grammar of one value.
"""

from collections.abc import Callable

from grammar.compiled import Grammar, Plan
from grammar.errors import GrammarError, GrammarTooLarge
from grammar.formula import Formula, Formulas
from grammar.options import JsonOptions
from grammar.rules.automaton import RuleAutomaton, Value
from grammar.rules.terms import Rules
from grammar.rules.terms import Schema as Embedded
from grammar.schema.explained import explained, notes_of
from grammar.schema.keywords import Schema
from grammar.vocabulary import Vocabulary


def grammar_of(read: Callable[[], Rules], plan: Plan, vocabulary: Vocabulary, options: JsonOptions) -> Grammar:
    """The grammar of the rules that `read` makes."""
    try:
        rules = read()
        pool = Formulas()
        sources = [_source(schema, pool, options) for schema in rules.schemas]
        values = [Value(formula, source.derived) for source, formula in sources]
        automaton = RuleAutomaton(vocabulary, rules, pool, values, options)
        if sources:
            automaton.probe()
        for failure in automaton.satisfiable.failures:
            raise failure
        automaton.satisfiable.patience = None
    except RecursionError:
        raise GrammarTooLarge("this grammar nests too deeply") from None

    def notes() -> list[str]:
        told = (note for source, _ in sources for note in notes_of(source))
        return [*rules.notes, *automaton.notes, *told]

    def keywords() -> list[dict[str, str]]:
        pairs = zip(rules.schemas, sources, strict=True)
        found = ((schema.pointer, entry) for schema, (source, _) in pairs for entry in explained(source))
        return [{**entry, "pointer": pointer + entry["pointer"]} for pointer, entry in found]

    return Grammar(automaton, automaton.start, plan, notes, keywords=keywords)


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
        message, pointer = schema.named(error.message), schema.pointer + error.pointer
        raise type(error)(message, pointer=pointer, keyword=error.keyword, reason=error.reason) from None
