"""Constraints → automata → token masks. Pure: no tensors, no I/O, no clock; see docs/grammar.md."""

from grammar.compile import (
    compile_choice,
    compile_ebnf,
    compile_json_schema,
    compile_regex,
    compile_structural_tags,
    compile_substring,
    compile_tools,
    load_grammar,
    warm,
)
from grammar.compiled import Grammar
from grammar.errors import GrammarError, GrammarTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.matcher import Matcher
from grammar.options import GrammarLimits, JsonOptions
from grammar.places import Place, PlaceKind
from grammar.schema.keywords import KEYWORDS
from grammar.states import Mask
from grammar.vocabulary import Vocabulary
from grammar.wordlists import words_of

__all__ = [
    "KEYWORDS",
    "Grammar",
    "GrammarError",
    "GrammarLimits",
    "GrammarTooLarge",
    "JsonOptions",
    "Mask",
    "Matcher",
    "Place",
    "PlaceKind",
    "UnsatisfiableConstraint",
    "UnsupportedConstraint",
    "Vocabulary",
    "compile_choice",
    "compile_ebnf",
    "compile_json_schema",
    "compile_regex",
    "compile_structural_tags",
    "compile_substring",
    "compile_tools",
    "load_grammar",
    "warm",
    "words_of",
]
