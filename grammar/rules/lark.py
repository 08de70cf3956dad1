"""Lark's spelling of grammars: rules, terminals, templates, `%ignore`, `%import common.X`; llguidance's `%json`.

The language is that of the context-free grammar, with every terminal a regular language and ignored text allowed before
each terminal of a rule and at the end. Priorities only choose among readings of one text, so they change no language.
Terminals become rules too, in which nothing is ignored and which may not recurse.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from grammar.errors import GrammarTooLarge
from grammar.lexical import codepoints, compile_chars, compile_regex
from grammar.rules.callgraph import strongly_connected
from grammar.rules.common import COMMON
from grammar.rules.source import Source
from grammar.rules.substrings import substring_term
from grammar.rules.terms import (
    EMPTY,
    Call,
    Json,
    Repeat,
    Rules,
    Schema,
    Term,
    Word,
    called,
    choice,
    optional,
    sequence,
    text,
)

_SPACE: Final = re.compile(r"(?:[ \t]+|//[^\n]*|#[^\n]*|\\\r?\n)*")
_LINES: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|#[^\n]*)*")
_MORE: Final = re.compile(r"(?:[ \t\r\n]++|//[^\n]*+|#[^\n]*+)*+\|")  # takes nothing back: many blanks have one reading
_RULE: Final = re.compile(r"_?[a-z][_a-z0-9]*")
_TERMINAL: Final = re.compile(r"_?[A-Z][_A-Z0-9]*")
_REGEX: Final = re.compile(r"/(?!/)((?:\\.|[^\\/\n])*)/([imslux]*)")
_PRIORITY: Final = re.compile(r"\.-?[0-9]+")
_ALIAS: Final = re.compile(r"->[ \t]*_?[A-Za-z][_A-Za-z0-9]*")
_NAMES: Final = re.compile(r"_?[A-Za-z][_A-Za-z0-9]*")
IGNORED: Final = "%ignore"
MAX_INSTANCES: Final = 2_000
Build = Callable[[dict[str, Term]], Term]
"""What a piece of a rule becomes, given the arguments of the template that it stands in."""


def parse_lark(grammar: str, start: str = "start") -> Rules:
    """The rules of a Lark text."""
    return _Reader(grammar).rules(start)


@dataclass(frozen=True, slots=True)
class _Template:
    parameters: tuple[str, ...]
    build: Build


class _Reader:
    def __init__(self, grammar: str) -> None:
        self._source = Source(grammar)
        self._builds: dict[str, Build] = {}
        self._templates: dict[str, _Template] = {}
        self._instances: dict[tuple[str, tuple[str, ...]], str] = {}
        self._ignored: list[Build] = []
        self._called: dict[str, int] = {}
        self._schemas: list[Schema] = []
        self._in_terminal = False
        self._parameters: tuple[str, ...] = ()
        self._bodies: dict[str, Term] = {}
        self._notes: dict[str, None] = {}

    def rules(self, start: str) -> Rules:
        source = self._source
        source.match(_LINES)
        while not source.is_done:
            self._item()
            source.match(_LINES)
        if start not in self._builds:
            source.fail(f"there is no rule {start!r}, where the text begins", 0)
        for name, at in self._called.items():
            if name not in self._builds and name not in self._templates:
                source.fail(f"there is no rule or terminal {name!r}", at)
        self._bodies[IGNORED] = Repeat(choice([build({}) for build in self._ignored]), 0, None)
        for name, build in self._builds.items():
            self._bodies[name] = build({})
        self._check_terminals()
        if not self._ignored:
            del self._bodies[IGNORED]
            return Rules(start, self._bodies, tuple(self._schemas), tuple(self._notes))
        self._bodies["%text"] = sequence([Call(start), Call(IGNORED)])
        return Rules("%text", self._bodies, tuple(self._schemas), tuple(self._notes))

    def _check_terminals(self) -> None:
        names = {name: sorted(called(body)) for name, body in self._bodies.items() if not _is_rule(name)}
        for group in strongly_connected(names):
            if len(group) > 1 or group[0] in names[group[0]]:
                self._source.fail(f"terminal {group[0]!r} contains itself", self._called.get(group[0], 0))

    # ---------------------------------------------------------------- items

    def _item(self) -> None:
        source, begun = self._source, self._source.at
        if source.take("%"):
            self._directive(begun)
        else:
            while source.char and source.char in "?!":
                source.at += 1
            self._definition(begun)
        source.match(_SPACE)
        if not source.is_done and source.char not in "\r\n":
            source.fail(f"unexpected {source.shown}")

    def _definition(self, begun: int) -> None:
        source = self._source
        name = source.match(_RULE) or source.match(_TERMINAL)
        if name is None:
            source.fail(f"expected a rule or a terminal, found {source.shown}")
        self._parameters = self._template_parameters() if source.char == "{" else ()
        if source.char == "[":
            source.refuse("attributes of rules are not supported")
        if source.match(_PRIORITY):
            self._notes[f"the priority of {name!r} changes nothing: every reading of a text is allowed"] = None
        source.match(_SPACE)
        source.expect(":")
        if name in self._builds or name in self._templates:
            source.fail(f"{name!r} is defined twice", begun)
        self._in_terminal = not _is_rule(name)
        build = self._alternatives()
        if self._parameters:
            self._templates[name] = _Template(self._parameters, build)
        else:
            self._builds[name] = build
        self._parameters = ()

    def _template_parameters(self) -> tuple[str, ...]:
        return tuple(self._listed("{", "}", lambda: self._name(_NAMES)))

    def _listed(self, opening: str, closing: str, item: Callable[[], Any]) -> list[Any]:
        source, found = self._source, []
        source.expect(opening)
        source.match(_LINES)
        while True:
            found.append(item())
            source.match(_LINES)
            if source.take(closing):
                return found
            source.expect(",")
            source.match(_LINES)

    def _name(self, pattern: re.Pattern[str]) -> str:
        found = self._source.match(pattern)
        if found is None:
            self._source.fail(f"expected a name, found {self._source.shown}")
        return found

    # ---------------------------------------------------------------- directives

    def _directive(self, begun: int) -> None:
        source = self._source
        kind = source.match(_NAMES) or ""
        source.match(_SPACE)
        if kind == "ignore":
            self._in_terminal = True
            self._ignored.append(self._alternatives())
        elif kind == "import":
            self._import(begun)
        elif kind == "llguidance":
            if source.json():
                source.refuse("settings of llguidance are not supported", begun)
        elif kind in ("declare", "override", "extend"):
            source.refuse(f"%{kind} is not supported: every terminal must be defined here", begun)
        else:
            source.fail(f"unknown directive %{kind}", begun)

    def _import(self, begun: int) -> None:
        source = self._source
        if source.char == ".":
            source.refuse("only %import common is supported: there are no other files", begun)
        library = self._name(_NAMES)
        names: list[tuple[str, str]] = []
        if source.take("."):
            name = self._name(_NAMES)
            source.match(_SPACE)
            names.append((name, self._import_alias() or name))
        else:
            source.match(_SPACE)
            names += [(name, name) for name in self._listed("(", ")", lambda: self._name(_NAMES))]
        if library != "common":
            source.refuse(f"only %import common is supported, not {library!r}", begun)
        for name, alias in names:
            if name not in COMMON:
                source.fail(f"common has no terminal {name!r}", begun)
            if alias in self._builds:
                source.fail(f"{alias!r} is defined twice", begun)
            self._builds[alias] = _always(_common(name))

    def _import_alias(self) -> str | None:
        source = self._source
        if not source.take("->"):
            return None
        source.match(_SPACE)
        return self._name(_TERMINAL)

    # ---------------------------------------------------------------- bodies

    def _alternatives(self) -> Build:
        """Up to a closing bracket, or the end of a line that no bar follows."""
        source = self._source
        found = [self._expansion()]
        while source.match(_MORE):
            found.append(self._expansion())
        return found[0] if len(found) == 1 else lambda given: choice([build(given) for build in found])

    def _expansion(self) -> Build:
        source = self._source
        skipped = _LINES if source.depth else _SPACE
        found: list[Build] = []
        source.match(skipped)
        while not source.is_done and source.char not in "|)]\r\n,}" and not source.looking_at(_ALIAS):
            found.append(self._repeated(self._atom()))
            source.match(skipped)
        source.match(_ALIAS)
        if len(found) == 1:
            return found[0]
        return lambda given: sequence([build(given) for build in found]) if found else EMPTY

    def _repeated(self, item: Build) -> Build:
        source = self._source
        low, high = 1, None
        if source.take("*"):
            low = 0
        elif source.take("?"):
            low, high = 0, 1
        elif source.char == "{":
            low, high = source.braces()
        elif not source.take("+"):
            at = source.at
            source.match(_SPACE)
            if not source.take("~"):
                source.at = at
                return item
            low, high = self._times()
        return lambda given: Repeat(item(given), low, high)

    def _times(self) -> tuple[int, int]:
        source = self._source
        source.match(_SPACE)
        begun = source.at
        low = source.number()
        high = source.number() if source.take("..") else low
        if high < low:
            source.fail(f"a repeat of at least {low} and at most {high}", begun)
        return low, high

    def _atom(self) -> Build:
        source = self._source
        char, begun = source.char, source.at
        if char in "([":
            source.open()
            source.at += 1
            inner = self._alternatives()
            source.match(_LINES)
            source.close(")" if char == "(" else "]")
            return inner if char == "(" else lambda given: optional(inner(given))
        if char == '"':
            return self._terminal(self._string_or_range())
        if char == "/":
            return self._terminal(self._regex())
        if char == "%":
            return self._embedded(begun)
        if char == "<":
            source.refuse("tokens by name or number are not supported in Lark")
        if char in "&~":
            source.refuse("intersection and complement of terminals are not supported")
        return self._reference(begun)

    def _terminal(self, term: Term) -> Build:
        """A terminal where it stands: in a rule, ignored text may come before."""
        if self._in_terminal:
            return _always(term)
        return lambda _: sequence([Call(IGNORED), term]) if self._ignored else term

    def _string_or_range(self) -> Term:
        source, begun = self._source, self._source.at
        value = source.string()
        if source.take(".."):
            top = source.string()
            if len(value) != 1 or len(top) != 1 or value > top:
                source.fail("a range goes from one character to a later one", begun)
            return _characters(ord(value), ord(top))
        if source.char == "i" and not source.text[source.at + 1 : source.at + 2].isalnum():
            source.at += 1
            return _folded(value)
        return text(value)

    def _regex(self) -> Term:
        source, begun = self._source, self._source.at
        found = _REGEX.match(source.text, begun)
        if found is None:
            source.fail("this regular expression does not end")
        source.at = found.end()
        flags = set(found[2]) - {"u"}
        if flags - {"i", "s"}:
            source.refuse(f"flags {''.join(sorted(flags - {'i', 's'}))!r} of a regular expression", begun)
        pattern = found[1].replace(r"\/", "/")
        return _word(f"(?{''.join(sorted(flags))}:{pattern})" if flags else pattern)

    def _embedded(self, begun: int) -> Build:
        source = self._source
        source.at += 1
        kind = source.match(_NAMES)
        source.match(_SPACE)
        if kind == "json":
            self._schemas.append(Schema(source.json(), f"%json in {source.place(begun)}"))
            return self._terminal(Json(len(self._schemas) - 1))
        if kind == "regex":
            return self._terminal(substring_term(source.json(), source.place(begun)))
        return source.fail(f"unknown %{kind} in a rule", begun)

    def _reference(self, begun: int) -> Build:
        source = self._source
        rule = source.match(_RULE)
        if rule is not None:
            return self._rule_reference(rule, begun)
        name = source.match(_TERMINAL)
        if name is None:
            source.fail(f"unexpected {source.shown}")
        if name in self._parameters:
            return lambda given: given[name]
        self._called.setdefault(name, begun)
        return self._terminal(Call(name))

    def _rule_reference(self, name: str, begun: int) -> Build:
        source = self._source
        if source.char == "{" and not source.text[source.at + 1 : source.at + 2].isdigit():
            return self._instance(name, begun)
        if name in self._parameters:
            return lambda given: given[name]
        if self._in_terminal:
            source.fail(f"a terminal cannot contain the rule {name!r}", begun)
        self._called.setdefault(name, begun)
        return _always(Call(name))

    def _instance(self, name: str, begun: int) -> Build:
        """A template with arguments: a rule for each distinct list of them."""
        source = self._source
        arguments: list[Build] = self._listed("{", "}", self._argument)
        self._called.setdefault(name, begun)

        def build(given: dict[str, Term]) -> Term:
            template = self._templates.get(name)
            if template is None or len(template.parameters) != len(arguments):
                source.fail(f"{name!r} is no template with {len(arguments)} parameters", begun)
            terms = [argument(given) for argument in arguments]
            key = (name, tuple(_told(term) for term in terms))
            if key not in self._instances:
                if len(self._instances) >= MAX_INSTANCES:
                    raise GrammarTooLarge(f"more than {MAX_INSTANCES} uses of templates", pointer=source.place(begun))
                called_as = self._instances[key] = f"{name}{{{len(self._instances)}}}"
                self._bodies[called_as] = template.build(dict(zip(template.parameters, terms, strict=True)))
            return Call(self._instances[key])

        return build

    def _argument(self) -> Build:
        self._source.open()
        found = self._alternatives()
        self._source.depth -= 1
        return found


def _always(term: Term) -> Build:
    return lambda _: term


def _is_rule(name: str) -> bool:
    return name[:1] == "%" or name.lstrip("_")[:1].islower()


def _told(term: Term) -> str:
    """A term as a key: words are told apart by identity."""
    return f"word {id(term)}" if isinstance(term, Word) else repr(term)


@lru_cache(maxsize=1024)
def _word(pattern: str) -> Term:
    return Word(compile_regex(pattern))


def _common(name: str) -> Term:
    return _word(COMMON[name])


@lru_cache(maxsize=1024)
def _characters(low: int, high: int) -> Term:
    return Word(compile_chars(codepoints.ranges([(low, high)])))


def _folded(value: str) -> Term:
    escaped = "".join(f"\\u{{{ord(char):X}}}" for char in value)
    return _word(f"(?i:{escaped})") if value else EMPTY
