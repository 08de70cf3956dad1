"""Regular constraints as deterministic byte automata: patterns, numbers, formats and literals all become a `Dfa`.

Languages are over the UTF-8 bytes of *decoded* text: JSON's escapes, lengths and structure belong to the rest of the
grammar room.
"""

from grammar.lexical.dfa import DEAD, Dfa, canonical, union_all
from grammar.lexical.escapes import spelled_in_json
from grammar.lexical.formats import FORMATS, INEXACT_FORMATS, compile_format
from grammar.lexical.limits import DEFAULT_LIMITS, Limits
from grammar.lexical.literals import literal_language
from grammar.lexical.numbers import NumberLanguage, NumberSpec, number_language
from grammar.lexical.quotations import quotations
from grammar.lexical.regex import as_counted, compile_chars, compile_pattern, compile_regex
from grammar.lexical.utf8 import universe

__all__ = [
    "DEAD",
    "DEFAULT_LIMITS",
    "FORMATS",
    "INEXACT_FORMATS",
    "Dfa",
    "Limits",
    "NumberLanguage",
    "NumberSpec",
    "as_counted",
    "canonical",
    "compile_chars",
    "compile_format",
    "compile_pattern",
    "compile_regex",
    "literal_language",
    "number_language",
    "quotations",
    "spelled_in_json",
    "union_all",
    "universe",
]
