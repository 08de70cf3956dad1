"""GBNF, llama.cpp's spelling of grammars (and, but for its look-aheads, xgrammar's EBNF): `root ::= …`.

A rule goes on until the next `name ::=`. Characters are code points; `.` is any character.
"""

import re
from typing import Final

from grammar.lexical import codepoints, compile_chars
from grammar.lexical.codepoints import Ranges
from grammar.rules.source import Source
from grammar.rules.terms import EMPTY, Call, Repeat, Rules, Term, Word, choice, sequence, text

_SKIPPED: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*[ \t]*::=")


def parse_gbnf(grammar: str, start: str = "root") -> Rules:
    """The rules of a GBNF text."""
    return _Reader(grammar).rules(start)


class _Reader:
    def __init__(self, grammar: str) -> None:
        self._source = Source(grammar)
        self._bodies: dict[str, Term] = {}
        self._called: dict[str, int] = {}

    def rules(self, start: str) -> Rules:
        source = self._source
        self._skip()
        while not source.is_done:
            self._rule()
        if start not in self._bodies:
            source.fail(f"there is no rule {start!r}, where the text begins", 0)
        for name, at in self._called.items():
            if name not in self._bodies:
                source.fail(f"there is no rule {name!r}", at)
        return Rules(start, self._bodies)

    def _skip(self) -> None:
        self._source.match(_SKIPPED)

    def _rule(self) -> None:
        source, begun = self._source, self._source.at
        name = source.match(_NAME)
        if name is None:
            source.fail(f"expected the name of a rule, found {source.shown}")
        source.blanks()
        source.expect("::=")
        if name in self._bodies:
            source.fail(f"rule {name!r} is defined twice", begun)
        self._bodies[name] = self._alternatives()
        if not source.is_done and not source.looking_at(_RULE):
            source.fail(f"unexpected {source.shown}")

    def _alternatives(self) -> Term:
        found = [self._sequence()]
        while self._source.take("|"):
            found.append(self._sequence())
        return choice(found)

    def _sequence(self) -> Term:
        source, items = self._source, []
        self._skip()
        while not source.is_done and source.char not in "|)" and not source.looking_at(_RULE):
            items.append(self._repeated(self._atom()))
            self._skip()
        return sequence(items) if items else EMPTY

    def _repeated(self, item: Term) -> Term:
        source = self._source
        while True:
            if source.take("*"):
                item = Repeat(item, 0, None)
            elif source.take("+"):
                item = Repeat(item, 1, None)
            elif source.take("?"):
                item = Repeat(item, 0, 1)
            elif source.char == "{":
                item = Repeat(item, *source.braces())
            else:
                return item

    def _atom(self) -> Term:
        source = self._source
        char = source.char
        if char == '"':
            return text(source.string())
        if char == "[":
            return Word(compile_chars(self._class()))
        if source.take("."):
            return Word(compile_chars(codepoints.SCALARS))
        if char == "(":
            return self._group()
        if char == "<":
            source.refuse("tokens by name or number are not supported in GBNF")
        begun = source.at
        name = source.match(_NAME)
        if name is None:
            source.fail(f"unexpected {source.shown}")
        self._called.setdefault(name, begun)
        return Call(name)

    def _group(self) -> Term:
        source = self._source
        begun = source.at
        source.expect("(")
        if source.char == "=":
            source.refuse("look-ahead is not supported", begun)
        source.open()
        found = self._alternatives()
        source.close(")")
        return found

    def _class(self) -> Ranges:
        source, begun = self._source, self._source.at
        source.expect("[")
        negated = source.take("^")
        pieces: list[tuple[int, int]] = []
        while not source.take("]"):
            if source.is_done or source.char == "\n":
                source.fail("this class of characters does not end", begun)
            low = high = source.character()
            if source.char == "-" and source.text[source.at + 1 : source.at + 2] != "]":
                source.at += 1
                if source.is_done:
                    source.fail("this class of characters does not end", begun)
                high = source.character()
            if low > high:
                source.fail(f"the range {low}-{high} is backwards", begun)
            pieces.append((ord(low), ord(high)))
        found = codepoints.ranges(pieces)
        return codepoints.complement(found) if negated else found
