"""A grammar's text in either spelling."""

import re
from typing import Final

from grammar.errors import GrammarError
from grammar.rules.gbnf import parse_gbnf
from grammar.rules.lark import parse_lark
from grammar.rules.terms import Rules

_DEFINES: Final = re.compile(r"^[^\S\n]*[A-Za-z_][A-Za-z0-9_.-]*\s*::=", re.MULTILINE)
_READERS: Final = {"lark": (parse_lark, "start"), "gbnf": (parse_gbnf, "root")}


def syntax_of(grammar: str, syntax: str | None = None) -> str:
    """Which spelling: the one named, else GBNF if there is a `::=`."""
    if syntax is not None and syntax not in _READERS:
        raise GrammarError(f"syntax is lark or gbnf, not {syntax!r}", keyword="grammar")
    return syntax or ("gbnf" if _DEFINES.search(grammar) else "lark")


def read_ebnf(grammar: str, syntax: str | None = None, start: str | None = None) -> Rules:
    """The rules of a text; `start` names the whole text's rule (`start`, in GBNF `root`)."""
    parse, first = _READERS[syntax_of(grammar, syntax)]
    return parse(grammar, start or first)
