"""Finite sets of numbers as one automaton: what an enumeration of many numbers needs.

One value's automaton with all its exponents has hundreds of states, so a set of thousands cannot be a union of those.
Here a value is spelled without an exponent, with any number of zeros behind the point (1, 1.0, 1.00; −0 is 0), and
with an exponent wherever the point may stand among its own digits (12.5, 1.25e1, 125e-1, 1.25E+01): a trie with tails
of zeros and exponents, O(digits² in all). Beyond `MOST_SCIENTIFIC` values only what programs write is left (1e-07).
"""

from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from grammar.errors import GrammarTooLarge
from grammar.lexical.dfa import Dfa, canonical
from grammar.lexical.numbers import MOST_DIGITS, MOST_EXPONENT_DIGITS

Bytes = npt.NDArray[np.uint8]

MOST_SPELLED_FREELY = 2
"""Where a number is one of more than these and nothing else, they are spelled as here; fewer with any exponent."""
MOST_TOLD_FREELY = 32
"""The same where listed numbers are told from others: the automaton of a value by itself takes two milliseconds."""
_COLUMNS = "0123456789-+.e"
_E = _COLUMNS.index("e")
_MOST_CELLS = 4_000_000
MOST_SCIENTIFIC = 2_000
NOTE = f"more than {MOST_SPELLED_FREELY} listed numbers: exponents come without further zeros around the digits"


@lru_cache(maxsize=256)
def number_set(values: frozenset[Decimal]) -> Dfa:
    """The spellings of these values, each of which `is_plain`."""
    ordered = sorted(values)
    # Fractions are spelled out as deep as any digits go: behind that, states are shared by all values.
    depth = max((max(1, len(_digits(v)[1]), len(significant(v)[0]) - 1) for v in ordered), default=0)
    trie: list[list[int]] = [[-1] * (len(_COLUMNS) + 1)]
    finals: set[int] = set()
    tails = _zero_tails(trie, finals)
    exponents = _Exponents(trie, finals) if len(ordered) <= MOST_SCIENTIFIC else None
    for value in ordered:
        for sign in ("", "-") if value == 0 else ("-",) if value < 0 else ("",):
            _add(trie, finals, sign, *_digits(value), depth, tails)
        if exponents is not None:
            exponents.add(value)
        else:
            finals.update(_path(trie, 0, text) for text in _exponent_spellings(value))
        if len(trie) * len(_COLUMNS) > _MOST_CELLS:
            raise GrammarTooLarge("an enumeration of too many numbers")
    if exponents is not None:
        exponents.spell()
    accepting = np.zeros(len(trie), np.bool_)
    accepting[list(finals)] = True
    return canonical(np.array(trie, np.int32), accepting, _byte_classes())


@lru_cache(maxsize=1)
def plain_numbers() -> Dfa:
    """The spellings for which `number_set` decides: every number without an exponent."""
    width, digits = len(_COLUMNS) + 1, slice(10)
    # States: start, after minus, zero, then whole parts by digits, the point, then fractions by digits.
    whole, point = 3, 3 + MOST_DIGITS
    table = np.full((point + 1 + MOST_DIGITS, width), -1, np.int32)
    table[0, _COLUMNS.index("-")] = 1
    for start in (0, 1):
        table[start, 0] = 2
        table[start, 1:10] = whole
    for count in range(MOST_DIGITS):
        if count + 1 < MOST_DIGITS:
            table[whole + count, digits] = whole + count + 1
        table[whole + count, _COLUMNS.index(".")] = point
        table[point + count, digits] = point + count + 1
    table[2, _COLUMNS.index(".")] = point
    accepting = np.ones(len(table), np.bool_)
    accepting[[0, 1, point]] = False
    return canonical(table, accepting, _byte_classes())


def is_plain(value: Decimal) -> bool:
    """Whether the value can be spelled without an exponent within the general limit on digits."""
    if not -MOST_DIGITS <= value.adjusted() < MOST_DIGITS:
        return value == 0
    whole, fraction = _digits(value)
    return max(len(whole), len(fraction)) <= MOST_DIGITS


def _digits(value: Decimal) -> tuple[str, str]:
    """The digits before and behind the point, without needless zeros."""
    whole, _, fraction = format(abs(value), "f").partition(".")
    return whole.lstrip("0") or "0", fraction.rstrip("0")


def significant(value: Decimal) -> tuple[str, int]:
    """The digits of a value without zeros around them, and the power of ten that they are to be multiplied with."""
    _, found, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, found)).lstrip("0")
    short = digits.rstrip("0")
    return (short, exponent + len(digits) - len(short)) if short else ("0", 0)


def _exponent_spellings(value: Decimal) -> list[str]:
    """What JSON libraries write for the value as a double, where that has an exponent."""
    text = repr(float(value)) if abs(value) < Decimal("1e300") else ""
    if "e" not in text or Decimal(text) != value:
        return []
    mantissa, _, exponent = text.partition("e")
    short = f"{mantissa}e{exponent[0] if exponent[0] in '+-' else ''}{exponent.lstrip('+-').lstrip('0')}"
    return list(dict.fromkeys([text, short]))


class _Exponents:
    """Spellings with an exponent. One mantissa serves several values; equal sets of exponents are spelled once."""

    def __init__(self, trie: list[list[int]], finals: set[int]) -> None:
        self._trie = trie
        self._finals = finals
        self._wanted: dict[int, set[int]] = {}
        self._spelled: dict[frozenset[int], int] = {}

    def add(self, value: Decimal) -> None:
        """Add every place of the point among the digits, or behind them."""
        digits, exponent = significant(value)
        for at in range(1, len(digits) + 1):
            rest = digits[at:]
            for mantissa in [f"{digits[:at]}.{rest}"] if rest else [digits, f"{digits}.0"]:
                for sign in ("", "-") if not value else ("-",) if value < 0 else ("",):
                    node = _path(self._trie, 0, sign + mantissa)
                    self._wanted.setdefault(node, set()).add(exponent + len(rest))
                    if not value:
                        self._trie[node][_E] = self._any()

    def spell(self) -> None:
        """Let each mantissa that was added go on with its exponents."""
        for node, exponents in self._wanted.items():
            if self._trie[node][_E] < 0:
                self._trie[node][_E] = self._after(frozenset(exponents))

    def _after(self, exponents: frozenset[int]) -> int:
        """The state after the `e` of these exponents."""
        found = self._spelled.get(exponents)
        if found is None:
            found = self._spelled[exponents] = self._node()
            for value in exponents:
                spelled = str(abs(value))
                texts = [spelled.rjust(width, "0") for width in range(len(spelled), MOST_EXPONENT_DIGITS + 1)]
                for sign in ("", "+", "-") if not value else ("", "+") if value > 0 else ("-",):
                    self._finals.update(_path(self._trie, found, sign + text) for text in texts)
        return found

    def _any(self) -> int:
        """The state after the `e` of any exponent: nothing times a power of ten is nothing."""
        first = self._node()
        ends = [self._node() for _ in range(MOST_EXPONENT_DIGITS)]
        for one, other in pairwise([first, *ends]):
            self._trie[one][:10] = [other] * 10
        signed = self._node()
        self._trie[signed][:10] = self._trie[first][:10]
        self._trie[first][_COLUMNS.index("-")] = self._trie[first][_COLUMNS.index("+")] = signed
        self._finals.update(ends)
        return first

    def _node(self) -> int:
        self._trie.append([-1] * (len(_COLUMNS) + 1))
        return len(self._trie) - 1


def _zero_tails(trie: list[list[int]], finals: set[int]) -> list[int]:
    """[n]: the state from which up to n further zeros may come."""
    tails: list[int] = []
    for count in range(MOST_DIGITS + 1):
        tails.append(len(trie))
        finals.add(len(trie))
        trie.append([-1] * (len(_COLUMNS) + 1))
        if count:
            trie[-1][0] = tails[count - 1]
    return tails


def _add(
    trie: list[list[int]], finals: set[int], sign: str, whole: str, fraction: str, depth: int, tails: list[int]
) -> None:
    """Add one value. Zeros are spelled out as deep as the longest fraction goes, where no path is shared any more."""
    node = _path(trie, 0, sign + whole)
    if not fraction:
        finals.add(node)
    node = _path(trie, node, ".")
    for count, digit in enumerate(fraction.ljust(depth, "0"), 1):
        node = _path(trie, node, digit)
        if count >= len(fraction):
            finals.add(node)
    if depth < MOST_DIGITS:
        trie[node][0] = tails[MOST_DIGITS - depth - 1]


def _path(trie: list[list[int]], node: int, text: str) -> int:
    """The node at the end of `text` from `node`, made where it is missing."""
    for char in text:
        column = _COLUMNS.index(char)
        if trie[node][column] < 0:
            trie[node][column] = len(trie)
            trie.append([-1] * (len(_COLUMNS) + 1))
        node = trie[node][column]
    return node


@lru_cache(maxsize=1)
def _byte_classes() -> Bytes:
    classes = np.full(256, len(_COLUMNS), np.uint8)
    for column, char in enumerate(_COLUMNS):
        classes[ord(char)] = column
    classes[ord("E")] = _COLUMNS.index("e")
    return classes
