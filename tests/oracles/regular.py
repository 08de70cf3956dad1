"""Languages of Unicode text by Brzozowski derivatives: slow, obvious, closed under and, or, not.

The reference for everything that a JSON string may hold: lengths, patterns, enumerated values, and what remains
of them after a prefix. A language is an immutable value; a character is its code point. Every language here is one of
texts followed by END, so that `$` is a character like any other; BEGIN is `^` and is consumed before the text starts.
"""

from dataclasses import dataclass
from functools import cache

BEGIN = 0x110000
END = 0x110001
SCALARS = ((0, 0xD7FF), (0xE000, 0x10FFFF))
Ranges = tuple[tuple[int, int], ...]


class Language:
    """Base of the seven forms below."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Chars(Language):
    """One character out of these ranges; without ranges: nothing at all."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Epsilon(Language):
    """The empty text."""


@dataclass(frozen=True, slots=True)
class Then(Language):
    """One after the other."""

    first: Language
    second: Language


@dataclass(frozen=True, slots=True)
class Or(Language):
    """In any of them."""

    parts: frozenset[Language]


@dataclass(frozen=True, slots=True)
class And(Language):
    """In all of them."""

    parts: frozenset[Language]


@dataclass(frozen=True, slots=True)
class Not(Language):
    """Not in it."""

    inner: Language


@dataclass(frozen=True, slots=True)
class Repeat(Language):
    """`low` to `high` times (None: without end)."""

    inner: Language
    low: int
    high: int | None


NOTHING = Chars(())
EMPTY = Epsilon()
ANY = Chars(SCALARS)
MARK = Chars(((END, END),))


def then(*parts: Language) -> Language:
    """Concatenation, simplified."""
    result: Language = EMPTY
    for part in reversed(parts):
        if NOTHING in (part, result):
            return NOTHING
        if part == EMPTY:
            continue
        result = part if result == EMPTY else Then(part, result)
    return result


def either(*parts: Language) -> Language:
    """Union, simplified."""
    flat: set[Language] = set()
    for part in parts:
        flat |= part.parts if isinstance(part, Or) else {part}
    flat.discard(NOTHING)
    return NOTHING if not flat else next(iter(flat)) if len(flat) == 1 else Or(frozenset(flat))


def both(*parts: Language) -> Language:
    """Intersection, simplified."""
    flat: set[Language] = set()
    for part in parts:
        flat |= part.parts if isinstance(part, And) else {part}
    if NOTHING in flat:
        return NOTHING
    return next(iter(flat)) if len(flat) == 1 else And(frozenset(flat))


def complement(inner: Language) -> Language:
    """Negation, simplified."""
    return inner.inner if isinstance(inner, Not) else Not(inner)


def repeat(inner: Language, low: int, high: int | None) -> Language:
    """Repetition, simplified."""
    if high == 0 or inner == EMPTY:
        return EMPTY
    if inner == NOTHING:
        return EMPTY if low == 0 else NOTHING
    return Repeat(inner, low, high)


@cache
def nullable(language: Language) -> bool:
    """Is the empty text in it?"""
    match language:
        case Epsilon():
            return True
        case Then(first, second):
            return nullable(first) and nullable(second)
        case Or(parts):
            return any(nullable(part) for part in parts)
        case And(parts):
            return all(nullable(part) for part in parts)
        case Not(inner):
            return not nullable(inner)
        case Repeat(inner, low, _):
            return low == 0 or nullable(inner)
    return False


@cache
def after(language: Language, char: int) -> Language:
    """What may follow once `char` has been taken."""
    match language:
        case Chars(ranges):
            return EMPTY if any(low <= char <= high for low, high in ranges) else NOTHING
        case Then(first, second):
            rest = then(after(first, char), second)
            return either(rest, after(second, char)) if nullable(first) else rest
        case Or(parts):
            return either(*(after(part, char) for part in parts))
        case And(parts):
            return both(*(after(part, char) for part in parts))
        case Not(inner):
            return complement(after(inner, char))
        case Repeat(inner, low, high):
            fewer = repeat(inner, max(low - 1, 0), None if high is None else high - 1)
            return then(after(inner, char), fewer)
    return NOTHING


@cache
def cuts(language: Language) -> frozenset[int]:
    """Code points at which its behaviour may change: between two cuts all characters are alike."""
    match language:
        case Chars(ranges):
            return frozenset(point for low, high in ranges for point in (low, high + 1))
        case Then(first, second):
            return cuts(first) | cuts(second)
        case Or(parts) | And(parts):
            return frozenset().union(*(cuts(part) for part in parts))
        case Not(inner) | Repeat(inner, _, _):
            return cuts(inner)
    return frozenset()


@cache
def possible(language: Language) -> bool:
    """Is there any text in it? Breadth first over its derivatives."""
    seen, queue = {language}, [language]
    while queue:
        current = queue.pop()
        if nullable(current):
            return True
        for char in cuts(current) | {0}:
            follower = after(current, char)
            if follower != NOTHING and follower not in seen:
                seen.add(follower)
                queue.append(follower)
    return False


@cache
def possible_within(language: Language, low: int, high: int) -> bool:
    """Is there a text in it whose first character lies between `low` and `high`?"""
    return any(possible(after(language, char)) for char in {low, *(c for c in cuts(language) if low < c <= high)})


def size(language: Language, cap: int, path: frozenset[Language] = frozenset()) -> int:
    """How many texts are in it, at most `cap`."""
    if cap <= 0 or not possible(language):
        return 0
    if language in path:
        return cap
    found = int(nullable(language))
    points = sorted({0, *cuts(language)})
    for low, following in zip(points, [*points[1:], END + 1], strict=True):
        if found >= cap:
            break
        each = size(after(language, low), cap - found, path | {language})
        found += each * (following - low)
    return min(found, cap)


def holds(language: Language, text: str) -> bool:
    """Is the whole text in this language of marked texts?"""
    for char in text:
        language = after(language, ord(char))
    return nullable(after(language, END))


def literal(text: str) -> Language:
    """Exactly this text, marked."""
    return then(*(Chars(((ord(char), ord(char)),)) for char in text), MARK)


def between(low: int, high: int | None) -> Language:
    """Every text of so many characters, marked."""
    return then(repeat(ANY, low, high), MARK)


EVERY = between(0, None)


def without(language: Language) -> Language:
    """Every marked text that is not in it."""
    return both(EVERY, complement(language))


@cache
def matching(pattern: str) -> Language:
    """The marked texts in which an ECMA-262 pattern (a subset, see `_Parser`) is found somewhere."""
    body = _Parser(pattern).parse()
    start = either(EMPTY, then(Chars(((BEGIN, BEGIN),)), repeat(ANY, 0, None)))
    finish = either(EMPTY, EVERY)
    everything = then(start, body, finish)
    return both(after(everything, BEGIN), EVERY)


CLASSES: dict[str, Ranges] = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": (
        *((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
        *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    ),
}
DOT_EXCLUDES: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}


def _outside(ranges: Ranges) -> Ranges:
    result, start = [], 0
    for low, high in [*sorted(ranges), (0x110000, 0x110000)]:
        if start < low:
            result.append((start, low - 1))
        start = max(start, high + 1)
    return tuple((max(a, low), min(b, high)) for a, b in result for low, high in SCALARS if max(a, low) <= min(b, high))


class _Parser:
    """Literals, `.`, classes, \\d \\w \\s and opposites, groups, `|`, quantifiers, `^` and `$`. No look-around."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    def parse(self) -> Language:
        result = self.alternatives()
        if self.at != len(self.pattern):
            raise ValueError(f"unexpected {self.pattern[self.at]!r} in {self.pattern!r}")
        return result

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self) -> Language:
        options = [self.sequence()]
        while self.peek() == "|":
            self.take()
            options.append(self.sequence())
        return either(*options)

    def sequence(self) -> Language:
        parts: list[Language] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.quantified())
        return then(*parts)

    def quantified(self) -> Language:
        atom = self.atom()
        while self.peek() and self.peek() in "*+?{":
            sign = self.take()
            if sign == "{":
                body = self.pattern[self.at : self.pattern.index("}", self.at)]
                self.at += len(body) + 1
                low, comma, high = body.partition(",")
                atom = repeat(atom, int(low), int(high) if high else None if comma else int(low))
            else:
                atom = repeat(atom, int(sign == "+"), 1 if sign == "?" else None)
            if self.peek() == "?":
                self.take()
        return atom

    def atom(self) -> Language:
        char = self.take()
        if char == "(":
            if self.pattern.startswith("?:", self.at):
                self.at += 2
            inner = self.alternatives()
            if not self.peek():
                raise ValueError("unclosed group")
            self.take()
            return inner
        if char == "[":
            return Chars(self.bracket())
        simple: dict[str, Ranges] = {".": _outside(DOT_EXCLUDES), "^": ((BEGIN, BEGIN),), "$": ((END, END),)}
        if char in simple:
            return Chars(simple[char])
        return Chars(self.escape() if char == "\\" else ((ord(char), ord(char)),))

    def bracket(self) -> Ranges:
        negated = self.peek() == "^"
        self.at += negated
        ranges: list[tuple[int, int]] = []
        while self.peek() != "]":
            low = self.member()
            if self.peek() == "-" and self.pattern[self.at + 1] != "]":
                self.take()
                low = ((low[0][0], self.member()[0][1]),)
            ranges += low
        self.take()
        return _outside(tuple(ranges)) if negated else tuple(ranges)

    def member(self) -> Ranges:
        char = self.take()
        return self.escape() if char == "\\" else ((ord(char), ord(char)),)

    def escape(self) -> Ranges:
        char = self.take()
        if char.lower() in CLASSES:
            return CLASSES[char] if char.islower() else _outside(CLASSES[char.lower()])
        if char == "u":
            point = int(self.pattern[self.at : self.at + 4], 16)
            self.at += 4
            return ((point, point),)
        point = CONTROLS.get(char, ord(char))
        return ((point, point),)
