"""ECMA-262 regular expressions, parsed to a syntax tree: what JSON Schema's `pattern` means.

The grammar is that of the `u` flag (code points, not code units), with the leniency of Annex B where real schemas rely
on it: identity escapes of punctuation (`\\-`, `\\_`, `\\@`), a lone `{`, `}` or `]`, a class escape at the end of a
range. What cannot be a regular language (back-references) is refused by name. The Python spellings that inference
servers accept are a dialect of the same parser.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NoReturn

from grammar.errors import GrammarError, UnsupportedConstraint
from grammar.lexical import codepoints
from grammar.lexical.codepoints import Ranges
from grammar.lexical.syntax import (
    EMPTY,
    Alternate,
    Chars,
    Concat,
    Look,
    Node,
    TextEnd,
    TextStart,
    WordBoundary,
    concat,
    consuming,
    repeat,
)
from grammar.lexical.unicode_properties import fold_case, property_ranges

DIGIT = codepoints.ranges([(0x30, 0x39)])
WORD = codepoints.ranges([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
SPACE = codepoints.ranges(
    [(0x09, 0x0D), (0x2000, 0x200A), (0x2028, 0x2029)]
    + [(code, code) for code in (0x20, 0xA0, 0x1680, 0x202F, 0x205F, 0x3000, 0xFEFF)]
)
LINE_ENDS = codepoints.chars("\n\r\u2028\u2029")

_CLASS_ESCAPES = {
    "d": DIGIT,
    "D": codepoints.complement(DIGIT),
    "w": WORD,
    "W": codepoints.complement(WORD),
    "s": SPACE,
    "S": codepoints.complement(SPACE),
}
_CONTROL_ESCAPES = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}
_MAX_DEPTH = 150
_HEX = frozenset("0123456789abcdefABCDEF")


class Dialect(Enum):
    """Whose spelling a regular expression is in."""

    ECMA = "ECMA-262"
    PYTHON = "Python"


@dataclass(frozen=True, slots=True)
class _Flags:
    ignore_case: bool = False
    dot_all: bool = False


@lru_cache(maxsize=256)
def parse(pattern: str, dialect: Dialect = Dialect.ECMA) -> Node:
    """The syntax tree of `pattern`; GrammarError if it is malformed, UnsupportedConstraint if it is not regular."""
    return _Parser(pattern, dialect).whole()


class _Parser:
    def __init__(self, pattern: str, dialect: Dialect) -> None:
        self._text = pattern
        self._at = 0
        self._dialect = dialect
        self._depth = 0
        self._flags = _Flags()

    def whole(self) -> Node:
        node = self._alternation()
        if self._at < len(self._text):
            self._fail("unmatched ')'")
        return node

    # Disjunction, Alternative, Term

    def _alternation(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsupportedConstraint(f"the pattern nests groups more than {_MAX_DEPTH} deep")
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        self._depth -= 1
        return _alternate(branches)

    def _sequence(self) -> Node:
        items: list[Node] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            item = self._quantified(self._atom())
            if isinstance(item, Concat):
                items.extend(item.items)
            else:
                items.append(item)
        return concat(items)

    def _atom(self) -> Node:
        char = self._text[self._at]
        self._at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._chars(self._class())
        if char == ".":
            return Chars(codepoints.SCALARS if self._flags.dot_all else _NOT_LINE_END)
        if char == "\\":
            return self._escape()
        if char == "^":
            return TextStart()
        if char == "$":
            return TextEnd()
        if char in "*+?" or (char == "{" and self._counts_at(self._at - 1) is not None):
            self._fail(f"nothing to repeat before {char!r}", self._at - 1)
        return self._chars(codepoints.chars(char))

    def _chars(self, piece: Ranges) -> Chars:
        return Chars(fold_case(piece) if self._flags.ignore_case else piece)

    def _quantified(self, node: Node) -> Node:
        begin = self._at
        bounds = self._quantifier()
        if bounds is None:
            return node
        low, high = bounds
        spelling = self._text[begin : self._at]
        if self._at < len(self._text):
            if self._text[self._at] == "+":
                raise UnsupportedConstraint(f"possessive quantifier {spelling}+ is not supported", keyword="pattern")
            self._take("?")
            if self._text[self._at : self._at + 1] in {"*", "+"} or self._counts_at(self._at) is not None:
                self._fail("a quantifier follows a quantifier")
        if isinstance(node, TextStart | TextEnd | WordBoundary | Look):
            return node if low > 0 else EMPTY
        return repeat(node, low, high, spelling)

    def _quantifier(self) -> tuple[int, int | None] | None:
        char = self._text[self._at : self._at + 1]
        simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(char) if char else None
        if simple is not None:
            self._at += 1
            return simple
        counts = self._counts_at(self._at) if char == "{" else None
        if counts is None:
            return None
        low, high, self._at = counts
        if high is not None and high < low:
            self._fail("the bounds of a quantifier are out of order")
        return low, high

    def _counts_at(self, at: int) -> tuple[int, int | None, int] | None:
        """The bounds of `{n}`, `{n,}` or `{n,m}` at `at` and where they end; None if it is a plain brace."""
        text = self._text
        if text[at : at + 1] != "{":
            return None
        close = text.find("}", at)
        low, comma, high = text[at + 1 : close].partition(",")
        if close < 0 or not _is_count(low) or (high and not _is_count(high)):
            return None
        return int(low), (int(high) if high else None if comma else int(low)), close + 1

    # Groups

    def _group(self) -> Node:
        outer = self._flags
        node = self._group_body()
        if not self._take(")"):
            self._fail("missing ')'")
        if node is not None:
            self._flags = outer
        return EMPTY if node is None else node

    def _group_body(self) -> Node | None:
        """What the group matches; None for `(?i)`, whose flags hold until the enclosing group ends."""
        if not self._take("?"):
            return self._alternation()
        for mark, ahead, negated in (("=", True, False), ("!", True, True), ("<=", False, False), ("<!", False, True)):
            if self._take(mark):
                return Look(self._alternation(), ahead=ahead, negated=negated)
        if self._take(":"):
            return self._alternation()
        if self._take("<") or (self._dialect is Dialect.PYTHON and self._take("P<")):
            self._name()
            return self._alternation()
        if self._take("P=") or self._take("P>") or self._take("("):
            raise UnsupportedConstraint("back-references and conditional groups are not regular", keyword="pattern")
        if self._take(">"):
            raise UnsupportedConstraint("atomic groups are not supported", keyword="pattern")
        self._flags = self._inline_flags()
        return self._alternation() if self._take(":") else None

    def _name(self) -> None:
        end = self._text.find(">", self._at)
        name = self._text[self._at : end] if end >= 0 else ""
        if not name.replace("$", "_").isidentifier():
            self._fail("malformed group name")
        self._at = end + 1

    def _inline_flags(self) -> _Flags:
        """The flags in force after the letters of `(?i)` or `(?i:…)`: i and s; u and a are how we read anyway."""
        begin = self._at
        while self._at < len(self._text) and self._text[self._at] in "ismxuaL-":
            self._at += 1
        letters = self._text[begin : self._at]
        on, _, off = letters.partition("-")
        if not letters or self._text[self._at : self._at + 1] not in {")", ":"}:
            self._fail("unknown kind of group", begin)
        if set(letters) & set("mxL"):
            raise UnsupportedConstraint(f"inline flags {letters!r}: only i and s are supported", keyword="pattern")
        return _Flags(
            ignore_case="i" not in off and (self._flags.ignore_case or "i" in on),
            dot_all="s" not in off and (self._flags.dot_all or "s" in on),
        )

    # Escapes

    def _escape(self) -> Node:
        char = self._next("a pattern ends in a backslash")
        if char in "bB":
            return WordBoundary(negated=char == "B")
        if char in "123456789" or char == "k":
            raise UnsupportedConstraint(f"back-reference \\{char} is not regular", keyword="pattern")
        if self._dialect is Dialect.PYTHON and char in "AZz":
            return TextStart() if char == "A" else TextEnd()
        escaped = self._class_escape(char)
        return self._chars(escaped if escaped is not None else _one(self._character_escape(char)))

    def _class_escape(self, char: str) -> Ranges | None:
        if char in _CLASS_ESCAPES:
            return _CLASS_ESCAPES[char]
        if char not in "pP":
            return None
        if not self._take("{"):
            self._fail(f"\\{char} must be followed by {{…}}")
        end = self._text.find("}", self._at)
        if end < 0:
            self._fail(f"\\{char}{{ is not closed")
        named = property_ranges(self._text[self._at : end])
        self._at = end + 1
        return named if char == "p" else codepoints.complement(named)

    def _character_escape(self, char: str) -> int:
        if char in _CONTROL_ESCAPES:
            return _CONTROL_ESCAPES[char]
        if char == "0" and self._text[self._at : self._at + 1] not in set("0123456789"):
            return 0
        if (
            char == "c"
            and self._text[self._at : self._at + 1].isascii()
            and self._text[self._at : self._at + 1].isalpha()
        ):
            self._at += 1
            return ord(self._text[self._at - 1]) % 32
        if char == "x":
            return self._hex(2)
        if char == "u":
            return self._unicode_escape()
        if char.isascii() and char.isalnum():
            self._fail(f"unknown escape \\{char}", self._at - 2)
        return ord(char)

    def _unicode_escape(self) -> int:
        if self._take("{"):
            end = self._text.find("}", self._at)
            digits = self._text[self._at : end] if end >= 0 else ""
            if not digits or not set(digits) <= _HEX or int(digits, 16) > codepoints.LAST:
                self._fail("malformed \\u{…}")
            self._at = end + 1
            return int(digits, 16)
        lead = self._hex(4)
        if 0xD800 <= lead < 0xDC00 and self._text.startswith("\\u", self._at):
            tail = self._text[self._at + 2 : self._at + 6]
            if len(tail) == 4 and set(tail) <= _HEX and 0xDC00 <= int(tail, 16) < 0xE000:
                self._at += 6
                return 0x10000 + ((lead - 0xD800) << 10) + int(tail, 16) - 0xDC00
        return lead

    def _hex(self, count: int) -> int:
        digits = self._text[self._at : self._at + count]
        if len(digits) < count or not set(digits) <= _HEX:
            self._fail(f"an escape needs {count} hexadecimal digits")
        self._at += count
        return int(digits, 16)

    # Character classes

    def _class(self) -> Ranges:
        negated = self._take("^")
        pieces: list[codepoints.Range] = []
        first = self._at
        while True:
            if self._at >= len(self._text):
                self._fail("missing ']'", first - 1)
            if self._text[self._at] == "]" and not (self._dialect is Dialect.PYTHON and self._at == first):
                self._at += 1
                break
            pieces.extend(self._class_range())
        piece = codepoints.ranges(pieces)
        if negated:
            return codepoints.complement(fold_case(piece) if self._flags.ignore_case else piece)
        return piece

    def _class_range(self) -> Ranges:
        """One atom or range; a `-` beside a class escape is itself (Annex B)."""
        low = self._class_atom()
        if self._text[self._at : self._at + 1] != "-" or self._text[self._at + 1 : self._at + 2] in {"]", ""}:
            return _one(low) if isinstance(low, int) else low
        begin = self._at
        self._at += 1
        high = self._class_atom()
        if isinstance(low, int) and isinstance(high, int):
            if high < low:
                self._fail("a range of a character class is out of order", begin)
            return ((low, high),)
        pieces = [_one(end) if isinstance(end, int) else end for end in (low, high)]
        return codepoints.union(*pieces, _one(ord("-")))

    def _class_atom(self) -> int | Ranges:
        char = self._next("missing ']'")
        if char != "\\":
            return ord(char)
        char = self._next("missing ']'")
        if char == "b":
            return 0x08
        escaped = self._class_escape(char)
        return escaped if escaped is not None else self._character_escape(char)

    # Reading

    def _take(self, expected: str) -> bool:
        if self._text.startswith(expected, self._at):
            self._at += len(expected)
            return True
        return False

    def _next(self, complaint: str) -> str:
        if self._at >= len(self._text):
            self._fail(complaint)
        self._at += 1
        return self._text[self._at - 1]

    def _fail(self, complaint: str, at: int | None = None) -> NoReturn:
        where = self._at if at is None else at
        raise GrammarError(f"malformed regular expression: {complaint} at character {where} of {self._text[:200]!r}")


_NOT_LINE_END = codepoints.complement(LINE_ENDS)


def _one(code: int) -> Ranges:
    return ((code, code),)


def _is_count(digits: str) -> bool:
    return digits.isascii() and digits.isdigit()


def _alternate(branches: list[Node]) -> Node:
    """The alternation; branches of one character each are one set, and an empty branch makes an optional."""
    if len(branches) == 1:
        return branches[0]
    sets = [branch.ranges for branch in branches if isinstance(branch, Chars)]
    others = [branch for branch in branches if not isinstance(branch, Chars)]
    merged: list[Node] = [Chars(codepoints.union(*sets))] if sets else []
    if EMPTY in others and all(consuming(branch) for branch in others):
        kept = [*merged, *(branch for branch in others if branch != EMPTY)]
        return repeat(kept[0] if len(kept) == 1 else Alternate(tuple(kept)), 0, 1) if kept else EMPTY
    kept = [*merged, *others]
    return kept[0] if len(kept) == 1 else Alternate(tuple(kept))
