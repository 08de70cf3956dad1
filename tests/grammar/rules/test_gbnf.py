"""GBNF: llama.cpp's spelling."""

import pytest

from grammar import GrammarError, GrammarTooLarge, UnsupportedConstraint, compile_ebnf
from tests.grammar.rules.test_lark import accepts
from tests.grammar.walking import VOCABULARY

LIST = r"""
# a list of names, one a line
root  ::= item+
item  ::= "- " [^\r\n\x0b]{1,3} end   # up to three characters
end   ::= "\n" |
          "\x3b"
"""
CHESS = r"""root ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")?
move ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"""


@pytest.mark.parametrize(
    ("source", "yes", "no"),
    [
        (LIST, ["- abc\n", "- é\n- b;"], ["- abcd\n", "-a\n", "- \n", ""]),
        (CHESS, ["1. e4 e5\n", "1. Nf3 O-O-O+\n22. exd8=Q Kxa1#\n"], ["1. e9 e5\n", "1. e4\n"]),
        ("root ::= [^a-c]* | . [\\]\\-]", ["xyz", "a]", "é-", ""], ["ab"]),
        ('root ::= ("a" root "b")?', ["", "ab", "aabb"], ["a", "abb"]),
    ],
)
def test_by_example(source: str, yes: list[str], no: list[str]) -> None:
    """Classes, escapes, comments, repeats, alternatives over lines."""
    grammar = compile_ebnf(source, VOCABULARY)
    assert grammar.explain()["options"]["syntax"] == "gbnf"
    for text in yes:
        assert accepts(grammar, text), text
    for text in no:
        assert not accepts(grammar, text), text


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("root ::= item", "line 1, column 10"),
        ('root ::= "a\n', "line 1, column 10"),
        ("root ::= [a-", "line 1, column 10"),
        ("root ::= [z-a]", "line 1, column 10"),
        ('root ::= "a")', "line 1, column 13"),
        ('start ::= "a"', "line 1, column 1"),
        ('root ::= "a"\nroot ::= "b"', "line 2, column 1"),
        ('root ::= "a"{3,1}', "line 1, column 13"),
    ],
)
def test_a_malformed_grammar_is_an_error_with_line_and_column(source: str, place: str) -> None:
    """Where the author finds it."""
    with pytest.raises(GrammarError) as caught:
        compile_ebnf(source, VOCABULARY, syntax="gbnf")
    assert caught.value.pointer == place, caught.value


@pytest.mark.parametrize("source", ['root ::= "a" (= "b") .', "root ::= <think>"])
def test_what_is_not_enforced_is_refused(source: str) -> None:
    """Look-ahead, tokens."""
    with pytest.raises(UnsupportedConstraint):
        compile_ebnf(source, VOCABULARY)


@pytest.mark.parametrize(
    "source",
    [
        'root ::= "a"{1,1000000}',
        "root ::= " + "(" * 500 + '"a"' + ")" * 500,
        "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60)) + '\nr60 ::= "a"',
        'root ::= ("a"{0,20000}){0,20000}',
    ],
)
def test_hostile_grammars_end_in_a_typed_error(source: str) -> None:
    """Counted repeats of repeats, nesting, doubling rules."""
    with pytest.raises(GrammarTooLarge):
        compile_ebnf(source, VOCABULARY)


def test_long_chains_of_rules_are_no_nest() -> None:
    """Ten thousand rules, each the next one."""
    chain = "\n".join(f'r{i} ::= "a" r{i + 1} | "b"' for i in range(10_000))
    assert accepts(compile_ebnf(f'root ::= r0\n{chain}\nr10000 ::= "c"', VOCABULARY), "aaab")
