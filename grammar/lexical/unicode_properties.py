"""`\\p{…}` by name, and case folding: from the Unicode tables that come with Python, scanned once when first asked for.

General categories, Any, ASCII, Assigned and the binary properties that follow from categories or character methods are
exact for Python's Unicode version. Scripts are not in Python's tables: they are refused by name, not approximated.
"""

import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Final

from grammar.errors import GrammarError, UnsupportedConstraint
from grammar.lexical import codepoints
from grammar.lexical.codepoints import Ranges

_LONG_NAMES = {
    "Cased_Letter": "LC", "Close_Punctuation": "Pe", "Connector_Punctuation": "Pc", "Control": "Cc", "cntrl": "Cc",
    "Currency_Symbol": "Sc", "Dash_Punctuation": "Pd", "Decimal_Number": "Nd", "digit": "Nd", "Enclosing_Mark": "Me",
    "Final_Punctuation": "Pf", "Format": "Cf", "Initial_Punctuation": "Pi", "Letter": "L", "Letter_Number": "Nl",
    "Line_Separator": "Zl", "Lowercase_Letter": "Ll", "Mark": "M", "Combining_Mark": "M", "Math_Symbol": "Sm",
    "Modifier_Letter": "Lm", "Modifier_Symbol": "Sk", "Nonspacing_Mark": "Mn", "Number": "N", "Open_Punctuation": "Ps",
    "Other": "C", "Other_Letter": "Lo", "Other_Number": "No", "Other_Punctuation": "Po", "Other_Symbol": "So",
    "Paragraph_Separator": "Zp", "Private_Use": "Co", "Punctuation": "P", "punct": "P", "Separator": "Z",
    "Space_Separator": "Zs", "Spacing_Mark": "Mc", "Surrogate": "Cs", "Symbol": "S", "Titlecase_Letter": "Lt",
    "Unassigned": "Cn", "Uppercase_Letter": "Lu",
}  # fmt: skip
_CATEGORY_NAMES = frozenset(_LONG_NAMES.values())
_HEX_DIGITS = codepoints.ranges([(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)])


def property_ranges(expression: str) -> Ranges:
    """The set that `\\p{expression}` names; UnsupportedConstraint if our tables lack it."""
    name, equals, value = expression.partition("=")
    if equals and name in {"General_Category", "gc"}:
        return _category(value)
    if name in {"Script", "sc", "Script_Extensions", "scx"}:
        raise UnsupportedConstraint(f"\\p{{{expression}}}: script tables are not available", keyword="pattern")
    if equals:
        raise GrammarError(f"malformed regular expression: unknown property {expression!r}")
    simple = {"Any": codepoints.SCALARS, "ASCII": codepoints.ranges([(0, 0x7F)]), "ASCII_Hex_Digit": _HEX_DIGITS}
    simple["AHex"] = _HEX_DIGITS
    if name in simple:
        return simple[name]
    if name == "Assigned":
        return codepoints.complement(_category("Cn"))
    return _category(name)


def _category(name: str) -> Ranges:
    short = _LONG_NAMES.get(name, name)
    if short not in _CATEGORY_NAMES:
        raise UnsupportedConstraint(f"\\p{{{name}}}: only general categories are supported", keyword="pattern")
    tables = _categories()
    if short == "LC":
        return codepoints.union(*(tables.get(part, ()) for part in ("Lu", "Ll", "Lt")))
    return codepoints.union(*(piece for key, piece in tables.items() if key.startswith(short)))


@cache
def _categories() -> dict[str, Ranges]:
    """Every general category's scalar values; about 0.2 s, once a process."""
    pieces: dict[str, list[codepoints.Range]] = {}
    category = unicodedata.category
    begin, current = 0, category(chr(0))
    for code in range(1, sys.maxunicode + 2):
        here = category(chr(code)) if code <= sys.maxunicode else ""
        if here != current:
            pieces.setdefault(current, []).append((begin, code - 1))
            begin, current = code, here
    return {key: codepoints.ranges(piece) for key, piece in pieces.items()}


_CASED: Final = 0x20000
"""Characters with case lie in the first two planes; those above hold ideographs, tags and private use."""


def fold_case(piece: Ranges) -> Ranges:
    """`piece` with every character that differs from a member by case only (simple folding)."""
    found = _case_partners()
    # Most often a letter is folded, not a class of them.
    if codepoints.size(piece) < len(found):
        cased: Iterable[int] = (code for low, high in piece for code in range(low, high + 1) if code in found)
    else:
        cased = (code for code in found if codepoints.contains(piece, code))
    return codepoints.ranges([*piece, *((other, other) for code in cased for other in found[code])])


@cache
def _case_partners() -> dict[int, tuple[int, ...]]:
    """The other members of each cased character's folding class."""
    classes: dict[str, set[int]] = {}
    for code in range(_CASED):
        char = chr(code)
        folded = char.casefold()
        if len(folded) == 1 and folded != char:
            classes.setdefault(folded, {ord(folded)}).add(code)
    return {code: tuple(members - {code}) for members in classes.values() for code in members}
