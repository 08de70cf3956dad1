"""Arrays whose items must differ and are words of a list: against the jsonschema library and byte by byte."""

import json
from itertools import permutations, product
from random import Random
from typing import Any

import pytest

from grammar import UnsatisfiableConstraint, Vocabulary, compile_json_schema
from tests.grammar.walking import compiled, mask, take
from tests.oracles.validation import is_valid

WORDS = ["a", "ab", "abc", "b", 'q"', "é"]
UNIQUE = {"type": "array", "uniqueItems": True}
LISTED = {"enum": WORDS}
SCHEMAS: list[dict[str, Any]] = [
    {**UNIQUE, "items": LISTED},
    {**UNIQUE, "items": LISTED, "minItems": 2, "maxItems": 3},
    {**UNIQUE, "items": {"enum": ["a", "ab", 1, None, ["a"]]}, "minItems": 2},
    {**UNIQUE, "items": LISTED, "contains": {"enum": ["b", "ab"]}, "maxContains": 1},
    {**UNIQUE, "items": LISTED, "not": {"contains": {"const": "a"}, "minItems": 3}},
    {**UNIQUE, "prefixItems": [{"enum": ["a", "b"]}, {"enum": ["a", "é"]}], "items": {"enum": ["a", "é", "b"]}},
    {**UNIQUE, "prefixItems": [{"enum": ["b", "a"]}, {"const": "a"}], "items": LISTED, "minItems": 2},
    {**UNIQUE, "items": {"allOf": [LISTED, {"not": {"enum": ["b"]}}]}, "minItems": 5},
    {**UNIQUE, "items": {"anyOf": [LISTED, {"type": "string", "pattern": "^x"}]}, "maxItems": 2},
    {"anyOf": [{**UNIQUE, "items": LISTED}, {"type": "array", "items": {"enum": ["a", "abc"]}, "minItems": 3}]},
]
SINGLE = [b"", *(bytes([byte]) for byte in range(256))]
LONGER = [
    *SINGLE,
    b'["',
    b'","',
    b'a","',
    b'"a"',
    b'ab","a',
    b'bc"]',
    b'"]',
    b"\\u00",
    b'b", "',
    b'", "ab"',
    b'c","b","',
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_exactly_the_arrays_of_different_words_are_accepted(schema: dict[str, Any]) -> None:
    """All short arrays over the words and two others, each in both spellings of its characters."""
    grammar = compiled(schema)
    pool = [*WORDS[:4], "é", "x", 1]
    for size in range(4):
        for items in product(pool, repeat=size):
            for text in (json.dumps(items, ensure_ascii=False), json.dumps(items, separators=(",", ":"))):
                matcher = grammar.matcher()
                accepted = take(matcher, text.encode()) and matcher.is_accepting
                assert accepted == is_valid(schema, list(items)), text


@pytest.mark.parametrize("schema", SCHEMAS)
def test_tokens_that_close_items_are_judged_as_their_bytes_are(schema: dict[str, Any]) -> None:
    """A mask holds a token over several items exactly if its bytes may come one by one; budgets are kept."""
    vocabulary = Vocabulary(LONGER, [0])
    grammar = compile_json_schema(schema, vocabulary)
    strings_only = "anyOf" not in json.dumps(schema) and '["a"]' not in json.dumps(schema)
    for seed in range(12):
        matcher, random, text = grammar.matcher(), Random(seed), b""
        for left in range(matcher.tokens_to_finish + seed, 0, -1):
            legal = mask(matcher, None, vocabulary)
            for token in range(257, len(LONGER)):
                spelled = take(matcher.clone(), LONGER[token], LONGER)
                assert token not in legal or spelled, (text, LONGER[token])
                assert token in legal or not spelled or not strings_only, (text, LONGER[token])
            within = sorted(mask(matcher, left, vocabulary))
            assert within, f"stranded after {text!r} with {left} left"
            token = random.choice(within[-6:])
            if token == 0:
                break
            assert matcher.advance(token)
            text += LONGER[token]
        assert matcher.is_accepting
        assert is_valid(schema, json.loads(text))


def test_every_order_of_a_long_list_can_be_written_to_its_end() -> None:
    """The last word is forced; one automaton serves all that can remain."""
    words = [f"name/{i:03}" for i in range(60)]
    grammar = compiled({**UNIQUE, "items": {"enum": words}, "minItems": 60}, whitespace="compact")
    matcher, order = grammar.matcher(), list(words)
    Random(1).shuffle(order)
    before = grammar.automaton.tables.top
    assert take(matcher, ('["' + '","'.join(order[:-1])).encode())
    assert matcher.forced_bytes() == f'","{order[-1]}"]'.encode()
    assert take(matcher, b'","')
    assert not take(matcher.clone(), order[0].encode())
    assert grammar.automaton.tables.top - before < 200_000
    assert take(matcher, order[-1].encode() + b'"]')
    assert matcher.is_accepting


def test_a_list_can_run_out() -> None:
    """As many items as words can be asked for, and no more."""
    for order in permutations("ab"):
        assert take(
            compiled({**UNIQUE, "items": {"enum": ["a", "b"]}, "minItems": 2}).matcher(), json.dumps(order).encode()
        )
    with pytest.raises(UnsatisfiableConstraint):
        compiled({**UNIQUE, "items": {"enum": ["a", "b"]}, "minItems": 3})
