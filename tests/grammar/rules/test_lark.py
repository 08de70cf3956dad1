"""Lark's spelling means what the lark package makes of it; errors name a place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Lark
from lark.exceptions import LarkError

from grammar import Grammar, GrammarError, UnsatisfiableConstraint, UnsupportedConstraint, compile_ebnf, compile_regex
from tests.grammar.walking import VOCABULARY, mask

ARITHMETIC = r"""
start: sum
?sum: product | sum "+" product -> add | sum "-" product -> sub
?product: atom | product "*" atom
?atom: NUMBER | "-" atom | NAME | "(" sum ")" | NAME "(" [_list{sum, ","}] ")"
_list{item, between}: item (between item)*
%import common.CNAME -> NAME
%import common.NUMBER
%import common.WS_INLINE
%ignore WS_INLINE
"""
JSON = r"""
?start: value
?value: object | array | ESCAPED_STRING | SIGNED_NUMBER | "true" | "false" | "null"
array  : "[" [value ("," value)*] "]"
object : "{" [pair ("," pair)*] "}"
pair   : ESCAPED_STRING ":" value
%import common (ESCAPED_STRING, SIGNED_NUMBER, WS)
%ignore WS
"""
OPERATORS = r"""
start: "x"~2..3 A? ("y" | B)+ [C] D~1   // a comment
A.2: "a".."c"
B: "Bee"i
C: /c[0-9]+d/ | "\x41\n"
D: (A | "z")* "!"
"""


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether the text is legal byte by byte, masks included, and may end."""
    matcher = grammar.matcher()
    for byte in text.encode():
        token = VOCABULARY.tokens.index(bytes([byte]))
        legal = token in mask(matcher)
        assert matcher.advance(token) == legal
        if not legal:
            return False
    return matcher.is_accepting


def lark_accepts(parser: Lark, text: str) -> bool:
    """Whether the lark package parses the text."""
    try:
        parser.parse(text)
    except LarkError:
        return False
    return True


@pytest.mark.parametrize(
    ("source", "alphabet"),
    [
        (ARITHMETIC, ["1", "2.5", "x", "f(", "(", ")", "+", "-", "*", ",", " "]),
        (JSON, ["[", "]", "{", "}", '"a"', ":", ",", "1", "-2e3", "true", "null", " ", "\n"]),
        (OPERATORS, ["x", "xx", "a", "c", "y", "bee", "BEE", "c7d", "A\n", "z", "!", "a!"]),
    ],
)
def test_texts_are_accepted_exactly_when_lark_parses_them(source: str, alphabet: list[str]) -> None:
    """Random concatenations of pieces, judged by lark's Earley parser with every length of every terminal tried."""
    grammar = compile_ebnf(source, VOCABULARY)
    oracle = Lark(source, parser="earley", lexer="dynamic_complete")

    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.sampled_from(alphabet), min_size=1, max_size=8).map("".join))
    def check(text: str) -> None:
        assert accepts(grammar, text) == lark_accepts(oracle, text)

    check()


@pytest.mark.parametrize(
    ("source", "yes", "no"),
    [
        (ARITHMETIC, ["1 + f(x, -2)*3", "((1))", " f( )"], ["1 +", "f(,)", "f(1,)"]),
        (JSON, ['{"a": [1, {"b": null}] }\n', "[]", ' "\\"" '], ["[1,]", "{1:2}", '{"a" "b"}']),
        (OPERATORS, ["xxy!", "xxxbbeE!", "xxaycab!", "xxyc12dz!", "xxyA\n!"], ["xy!", "xxxxy!", "xx!", "xxyc1!"]),
        ('start: "\\u00e9"~2 /[^é]/', ["ééa", "éé😀"], ["ééé", "é"]),
        ('start: %json {"type": "integer"} "!"', ["12!", "-3!"], ["1.5!", "12"]),
        ('start: "a" | "b" start\nA: "x"', ["a", "bba"], ["", "b"]),
        ('start: /(?:ab){2}/i "c"', ["abABc"], ["abc"]),
        ('start: "a"{2,3} "b"{1}', ["aab", "aaab"], ["ab", "aaaab"]),
        (
            'start: %regex {"substring_words": "the cat sat"} "."',
            [".", "the cat.", "cat sat.", " ."],
            ["he cat.", "sat the."],
        ),
    ],
)
def test_operators_terminals_and_embedded_constraints(source: str, yes: list[str], no: list[str]) -> None:
    """By example."""
    grammar = compile_ebnf(source, VOCABULARY)
    for text in yes:
        assert accepts(grammar, text), text
    for text in no:
        assert not accepts(grammar, text), text


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ('start: "a', "line 1, column 8"),
        ("start: a", "line 1, column 8"),
        ('begin: "a"', "line 1, column 1"),
        ('start: "a"\nstart: "b"', "line 2, column 1"),
        ('start: ("a"', "line 1, column 12"),
        ('start: "a"\n  )', "line 2, column 3"),
        ('start: "\\q"', "line 1, column 9"),
        ('start: "b".."a"', "line 1, column 8"),
        ("start: /a", "line 1, column 8"),
        ('start: A\nA: "x" A', "line 1, column 8"),
        ('start: A\nA: other\nother: "x"', "line 2, column 4"),
        ("start: %json {", "line 1, column 15"),
        ('start: "a"~3..2', "line 1, column 12"),
        ('start: t{"a"}\nt{x, y}: x y', "line 1, column 8"),
        ("%import common.NOTHING\nstart: NOTHING", "line 1, column 1"),
        ("%unknown x", "line 1, column 1"),
    ],
)
def test_a_malformed_grammar_is_an_error_with_line_and_column(source: str, place: str) -> None:
    """Where the author finds it."""
    with pytest.raises(GrammarError) as caught:
        compile_ebnf(source, VOCABULARY, syntax="lark")
    assert caught.value.pointer == place, caught.value
    assert not isinstance(caught.value, UnsupportedConstraint)


@pytest.mark.parametrize(
    "source",
    [
        'start[max_tokens=3]: "a"',
        "start: <|end|>",
        '%declare X\nstart: "a" X',
        '%import python.NAME\nstart: "a"',
        'start: A\nA: "a" & "b"',
        "start: /a/x",
    ],
)
def test_what_is_not_enforced_is_refused_by_name(source: str) -> None:
    """Never ignored."""
    with pytest.raises(UnsupportedConstraint):
        compile_ebnf(source, VOCABULARY)


def test_lints_name_unreachable_and_barren_rules() -> None:
    """And a grammar in which nothing ends is refused."""
    grammar = compile_ebnf('start: "a" | loop\nloop: "b" loop\nidle.2: "c"', VOCABULARY)
    notes = "\n".join(grammar.notes)
    assert "'idle' is unreachable" in notes
    assert "'loop' derives no text" in notes
    assert "priority of 'idle'" in notes
    assert "no longest text" not in notes
    with pytest.raises(UnsatisfiableConstraint, match="recurses"):
        compile_ebnf('start: "b" start', VOCABULARY)


@pytest.mark.parametrize(
    ("source", "endless"),
    [
        ('start: "a" one\none: "b"~1..5 | two?\ntwo: /c{1,3}/', False),
        ('start: "a"+', True),
        ("start: /a+/", True),
        ('start: "(" start ")" | "x"', True),
        ('start: start "a" | "b"', True),
        ('start: /(?!)/ | "a"', False),
    ],
)
def test_a_grammar_without_a_longest_text_is_noted(source: str, endless: bool) -> None:
    """A pattern without an end, a repeat, recursion; and a branch that is never taken."""
    notes = "\n".join(compile_ebnf(source, VOCABULARY).notes)
    assert ("no longest text" in notes) == endless
    assert ("matches nothing" in notes) == ("(?!)" in source)


def test_a_regex_without_an_end_is_noted() -> None:
    """And one with an end is not."""
    assert "no longest text" in "".join(compile_regex("a*", VOCABULARY).notes)
    assert compile_regex("a{1,3}", VOCABULARY).notes == []
