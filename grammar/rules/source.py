"""A grammar's text while it is read: a cursor, strings and numbers, errors with line and column."""

import json
import re
from typing import Any, Final, NoReturn

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint

MAX_LENGTH: Final = 4_000_000
MAX_NESTED: Final = 60
MAX_REPEATS: Final = 20_000
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "b": "\b", "a": "\a", "0": "\0"}
_HEX: Final = {"x": 2, "u": 4, "U": 8}
_NUMBER: Final = re.compile(r"[0-9]+")


class Source:
    """A cursor over the text. Tokens are taken with regular expressions; nothing is split beforehand."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise GrammarTooLarge(f"a grammar of more than {MAX_LENGTH} characters")
        self.text = text
        self.at = 0
        self.depth = 0

    @property
    def is_done(self) -> bool:
        """Whether all was read."""
        return self.at >= len(self.text)

    @property
    def char(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Take what the pattern matches here."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def looking_at(self, pattern: re.Pattern[str]) -> bool:
        """Whether the pattern matches here."""
        return pattern.match(self.text, self.at) is not None

    def take(self, token: str) -> bool:
        """Take exactly this, if it stands here."""
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def expect(self, token: str) -> None:
        """Take exactly this, or fail."""
        if not self.take(token):
            self.fail(f"expected {token!r}, found {self.shown}")

    def open(self) -> None:
        """One group deeper."""
        self.depth += 1
        if self.depth > MAX_NESTED:
            raise GrammarTooLarge(f"groups nested more than {MAX_NESTED} deep", pointer=self.place(self.at))

    def close(self, token: str) -> None:
        """End the group."""
        self.expect(token)
        self.depth -= 1

    @property
    def shown(self) -> str:
        """The next few characters, for messages."""
        return repr(self.text[self.at : self.at + 12]) if not self.is_done else "the end of the grammar"

    def place(self, at: int) -> str:
        """A position as line and column, both from 1."""
        line = self.text.count("\n", 0, at) + 1
        return f"line {line}, column {at - self.text.rfind(chr(10), 0, at)}"

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """The grammar is malformed here."""
        raise GrammarError(message, pointer=self.place(self.at if at is None else at), keyword="grammar")

    def refuse(self, message: str, at: int | None = None) -> NoReturn:
        """The grammar asks for something that is not enforced."""
        raise UnsupportedConstraint(message, pointer=self.place(self.at if at is None else at), keyword="grammar")

    def number(self) -> int:
        """Take a whole number."""
        digits = self.match(_NUMBER)
        if digits is None:
            self.fail(f"expected a number, found {self.shown}")
        if len(digits) > 9 or int(digits) > MAX_REPEATS:
            raise GrammarTooLarge(f"more than {MAX_REPEATS} repeats", pointer=self.place(self.at))
        return int(digits)

    def braces(self) -> tuple[int, int | None]:
        """Take `{n}`, `{n,}`, `{,m}` or `{n,m}`."""
        begun = self.at
        self.expect("{")
        self.blanks()
        low = 0 if self.char == "," else self.number()
        self.blanks()
        high: int | None = low
        if self.take(","):
            self.blanks()
            high = None if self.char == "}" else self.number()
            self.blanks()
        self.expect("}")
        if high is not None and high < low:
            self.fail(f"a repeat of at least {low} and at most {high}", begun)
        return low, high

    def blanks(self) -> None:
        """Skip blanks and tabs."""
        while self.char and self.char in " \t":
            self.at += 1

    def string(self) -> str:
        """Take a double-quoted string and return what it spells."""
        begun = self.at
        self.expect('"')
        found: list[str] = []
        while (char := self.char) != '"':
            if not char or char == "\n":
                self.fail("this string does not end", begun)
            found.append(self.character())
        self.at += 1
        return "".join(found)

    def character(self) -> str:
        """Take one character, escaped or not."""
        begun = self.at
        self.at += 1
        char = self.text[begun]
        if char != "\\":
            return char
        kind = self.char
        self.at += 1
        if kind in _HEX:
            return self._hexadecimal(_HEX[kind], begun)
        if kind.isalnum() and kind not in _ESCAPES:
            self.fail(f"unknown escape \\{kind}", begun)
        if not kind:
            self.fail("nothing is escaped here", begun)
        return _ESCAPES.get(kind, kind)

    def _hexadecimal(self, digits: int, begun: int) -> str:
        found = self.text[self.at : self.at + digits]
        if len(found) < digits or not all(c in "0123456789abcdefABCDEF" for c in found):
            self.fail(f"this escape needs {digits} hexadecimal digits", begun)
        self.at += digits
        code = int(found, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            self.fail(f"U+{code:04X} is no character", begun)
        return chr(code)

    def json(self) -> Any:
        """Take a JSON value."""
        begun = self.at
        try:
            value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.fail(f"not JSON: {error.msg}", error.pos)
        except RecursionError:
            raise GrammarTooLarge("JSON nested too deeply", pointer=self.place(begun)) from None
        return value
