"""Masks of grammars with names, numbers and texts: what two bytes decide is what advancing decides."""

from itertools import product
from random import Random

import pytest

from grammar import Vocabulary, compile_ebnf
from tests.grammar.rules.test_lark import ARITHMETIC, JSON
from tests.grammar.walking import mask

PIECES = [b"a", b"SEL", b"Z_9", b" ", b"+", b"(", b'"', b"\\", b"1", b".5", b"\xc3", b"\xa9", b",", b"se", b"\n", b"}"]
TOKENS = [
    b"",
    *dict.fromkeys(b"".join(t) for n in (1, 2, 3) for t in product(PIECES, repeat=n)),
    *(bytes([b]) for b in range(256)),
]
VOCABULARY = Vocabulary(TOKENS, [0])
KEYWORDS = r"""
start: "select"i NAME ("," NAME)* ["as"i NAME]
NAME: /[a-zA-Z_][a-zA-Z0-9_]*/
WS: /[ \n]+/
%ignore WS
"""
BESIDE = r"""
start: (NAME | /[^ "]*\+/) (SELECT start | ("é" | "1") /[^\n]+/ "\n")?
SELECT: "se"i "l"i?
NAME: /[a-zA-Z_][a-zA-Z0-9_]*/
"""
NOT_ALL = 'start: /[^é"]*/ ("\\"" /[a-zé0-9_A-Z]+/ "," start)?'
TEXTS = 'start: /[^"\\\\]*/ ("\\"" start "\\"")?'


@pytest.mark.parametrize("source", [ARITHMETIC, JSON, KEYWORDS, TEXTS, BESIDE, NOT_ALL])
def test_a_mask_holds_what_may_be_taken(source: str) -> None:
    """Every token, at every step of a few walks."""
    grammar, random = compile_ebnf(source, VOCABULARY), Random(3)
    for _ in range(4):
        matcher = grammar.matcher()
        for _ in range(7):
            legal = mask(matcher, None, VOCABULARY)
            assert legal == {token for token in range(len(TOKENS)) if matcher.clone().advance(token)}
            going = sorted(token for token in legal if TOKENS[token])
            if not going:
                break
            matcher.advance(random.choice(going))
