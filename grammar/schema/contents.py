"""`x-grammar`: a string whose text follows a grammar of its own.

    {"type": "string", "x-grammar": {"syntax": "lark", "definition": "start: …", "start": "start"}}

Or the definition alone. Without recursion it is a regular language and an atom like a pattern. With recursion it stays
rules: such a string is read by the automaton of rules, in its escaped spelling, and is neither negated nor narrowed.
"""

from typing import Any, Final

from grammar.errors import GrammarError, UnsupportedConstraint
from grammar.rules.ebnf import read_ebnf
from grammar.rules.network import build
from grammar.rules.regular import regular_language
from grammar.schema.atoms import Derived, WordOf

KEYWORD: Final = "x-grammar"
_MEMBERS: Final = frozenset(["syntax", "definition", "start"])


def content(value: Any, pointer: str) -> WordOf | Derived:
    """The atom of a grammar; its errors name their place in the schema, and in the grammar."""
    try:
        return _content(value, pointer)
    except GrammarError as error:
        inner = f" ({error.pointer})" if error.pointer else ""
        raise type(error)(error.message + inner, pointer=pointer, keyword=KEYWORD, reason=error.reason) from None


def _content(value: Any, pointer: str) -> WordOf | Derived:
    told = {"definition": value} if isinstance(value, str) else value
    rules = read_ebnf(told["definition"], told.get("syntax"), told.get("start"))
    if rules.schemas:
        raise UnsupportedConstraint("a JSON value inside of a string's grammar")
    network = build(rules, ())
    words = regular_language(network, rules.start)
    if words is not None:
        return WordOf(words, pointer)
    nullable = rules.start in network.nullable
    least = "" if nullable else network.shortest(network.entries[rules.start]).decode()
    return Derived(rules, least, pointer)


def is_content(value: Any) -> bool:
    """Whether the keyword's value has the right shape."""
    if isinstance(value, str):
        return True
    return (
        isinstance(value, dict)
        and "definition" in value
        and value.keys() <= _MEMBERS
        and all(isinstance(each, str) for each in value.values())
    )
