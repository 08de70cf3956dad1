"""Masks of JSON schemas: bit by bit those of the slow reference, and what they allow is what advance accepts.

Two things are left open: after how long a mantissa a number may go on with an exponent (tests/oracles/json_numbers.py),
and whether names and constants may be spelled with escapes that they do not need where whitespace is not "json".
"""

import re
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from grammar import GrammarTooLarge, UnsatisfiableConstraint, UnsupportedConstraint, Vocabulary
from tests.grammar.walking import END, TOKENS, VOCABULARY, compiled, mask, take, walk
from tests.oracles.json_masks import Reference
from tests.strategies import schemas

OPEN_ESCAPE = re.compile(rb"\\(u[0-9a-fA-F]{0,4})?\Z|\A\\")
STYLES = ("json", "spaced", "compact")


def same_masks_along_a_walk(schema: Any, random: Random, *, steps: int = 12, **options: Any) -> None:
    """Compile, or agree that nothing satisfies it; then compare every mask of a random walk with the reference."""
    reference = Reference(schema, **options)
    try:
        grammar = compiled(schema, **options)
    except UnsatisfiableConstraint:
        assert not reference.start, f"{schema} can be satisfied"
        return
    assert reference.start, f"{schema} cannot be satisfied"
    matcher, frugal = grammar.matcher(), Reference(schema, frugal=True, **options)
    for text in walk(matcher, random, steps):
        threads = reference.feed(reference.start, text)
        ends = {END} if reference.accepting(threads) else set()
        found, where = mask(matcher), f"after {text!r} under {schema} {options}"
        assert describe(found - reference.mask(threads, TOKENS) - ends) == [], f"allowed too much {where}"
        must = frugal.mask(frugal.feed(frugal.start, text), TOKENS) | ends
        missing = must - found
        if options.get("whitespace", "json") != "json":
            missing = {token for token in missing if not OPEN_ESCAPE.search(text + TOKENS[token][:1])}
        assert describe(missing) == [], f"allowed too little {where}"
        assert matcher.is_accepting == bool(ends)


def describe(ids: set[int]) -> list[bytes]:
    """Token ids as what they spell."""
    return sorted(TOKENS[i] or f"<{i}>".encode() for i in ids)


randoms = st.integers(0, 1 << 30).map(Random)


@settings(max_examples=20, deadline=None)
@given(schemas.core(2), randoms, st.sampled_from(STYLES))
def test_masks_equal_the_reference_on_random_schemas(schema: Any, random: Random, whitespace: str) -> None:
    """Objects, arrays, strings, numbers, enum, const, anyOf and their mixtures."""
    same_masks_along_a_walk(schema, random, whitespace=whitespace)


@settings(max_examples=12, deadline=None)
@given(schemas.objects(schemas.leaves()), randoms, st.sampled_from(STYLES))
def test_masks_equal_the_reference_in_schema_order(schema: Any, random: Random, whitespace: str) -> None:
    """property_order="schema": named properties in order, then other required names, then the rest."""
    assume(len(set(schema.get("required", [])) - set(schema.get("properties", {}))) <= 1)  # theirs is any fixed order
    same_masks_along_a_walk(schema, random, whitespace=whitespace, property_order="schema")


@settings(max_examples=12, deadline=None)
@given(st.one_of(schemas.strings(), schemas.numeric(), schemas.constants()), randoms)
def test_masks_equal_the_reference_on_scalars(schema: Any, random: Random) -> None:
    """Escapes, surrogate pairs, unfinished UTF-8, number spellings."""
    same_masks_along_a_walk(schema, random)


@settings(max_examples=8, deadline=None)
@given(schemas.recursive(), randoms)
def test_masks_equal_the_reference_on_recursive_schemas(schema: Any, random: Random) -> None:
    """References to ancestors, and to each other."""
    same_masks_along_a_walk(schema, random, steps=16)


@settings(max_examples=20, deadline=None)
@given(schemas.referenced(2), randoms)
def test_masks_equal_the_reference_on_every_keyword_it_reads(schema: Any, random: Random) -> None:
    """Logic and the rarer keywords: what is not refused is exact."""
    try:
        same_masks_along_a_walk(schema, random)
    except (UnsupportedConstraint, GrammarTooLarge):
        assume(False)


@pytest.mark.parametrize("whitespace", STYLES)
@pytest.mark.parametrize(
    ("schema", "prefix"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, b'{"a":'),
        ({"type": "array", "items": {"type": "string"}}, b'["a"'),
        ({"enum": ["ab", "aa", 12, {"a": 1}]}, b""),
        ({"type": "string", "pattern": "^(a|é)+$", "maxLength": 3}, b'"a\\u00'),
        ({"type": "string", "maxLength": 2}, b'"\xf0\x9f'),
        ({"type": "integer", "minimum": 10, "maximum": 120}, b"1"),
        (True, b""),
    ],
)
def test_masks_at_chosen_places(schema: Any, prefix: bytes, whitespace: str) -> None:
    """Places that every change of the tables endangers."""
    if whitespace == "spaced":
        prefix = prefix.replace(b":", b": ")
    reference = Reference(schema, whitespace=whitespace)
    threads = reference.feed(reference.start, prefix)
    matcher = compiled(schema, whitespace=whitespace).matcher()
    assert take(matcher, prefix)
    assert describe(mask(matcher) - {END}) == describe(reference.mask(threads, TOKENS))


INTEGER = {"type": "integer"}
ABOUT_NUMBERS = st.one_of(
    schemas.numeric(),
    st.sampled_from(
        [INTEGER, {"not": INTEGER}, {"enum": [1, 2, 2.5]}, {"multipleOf": 1}, {"type": ["integer", "null"]}]
    ),
)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["allOf", "anyOf", "oneOf"]), st.lists(ABOUT_NUMBERS, min_size=1, max_size=3), randoms)
def test_integers_are_spelled_plainly_where_nothing_else_may_stand(key: str, parts: list[Any], random: Random) -> None:
    """The reference tells them apart by value; only the spelling of what must be an integer is narrower."""
    same_masks_along_a_walk({"allOf": [{key: parts}, {"not": {"const": 7}}]}, random, steps=8, whitespace="compact")


@pytest.mark.parametrize("whitespace", ["spaced", "compact"])
@pytest.mark.parametrize(
    ("schema", "accepted", "refused"),
    [
        (INTEGER, ["5", "0", "-12", 40 * "9"], ["5.0", "5e0", "50e-1", "0E0000", "1e39", 41 * "9"]),
        ({"type": "integer", "enum": [1, 20]}, ["1", "20"], ["1.0", "2e1"]),
        ({"anyOf": [INTEGER, {"type": "string"}]}, ["5"], ["5.0"]),
        ({"anyOf": [INTEGER, {"type": "number"}]}, ["5", "5.0", "5e0"], []),
        ({"type": "integer", "minimum": 10**45}, ["1e45", "10.0e44"], ["1e44"]),
        ({"type": "number", "not": INTEGER}, ["1.5"], ["1.0", "1e0", "1"]),
        ({"oneOf": [INTEGER, {"type": "number"}]}, ["1.5"], ["1.0", "1e0", "1"]),
    ],
)
def test_an_integer_as_writers_of_json_spell_it(
    schema: Any, accepted: list[str], refused: list[str], whitespace: str
) -> None:
    """`1.0` stays the integer that it is: no schema that excludes integers lets it in."""
    grammar = compiled(schema, whitespace=whitespace)

    def whole(text: str) -> bool:
        matcher = grammar.matcher()
        return take(matcher, text.encode()) and matcher.is_accepting

    assert [text for text in accepted if not whole(text)] == []
    assert [text for text in refused if whole(text)] == []


@settings(max_examples=8, deadline=None)
@given(schemas.core(2), randoms)
def test_the_mask_allows_exactly_what_advance_accepts(schema: Any, random: Random) -> None:
    """On every bit; a refused token changes nothing; special and padding ids are never legal."""
    try:
        matcher = compiled(schema).matcher()
    except UnsatisfiableConstraint:
        return
    for text in walk(matcher, random, 6):
        legal = mask(matcher)
        for token in range(len(TOKENS)):
            tried = matcher.clone()
            assert tried.advance(token) == (token in legal), f"token {TOKENS[token]!r} after {text!r} under {schema}"
            if token not in legal:
                assert mask(tried) == legal
        assert all(TOKENS[token] or token == END for token in legal)


@settings(max_examples=15, deadline=None)
@given(schemas.core(2), randoms)
def test_no_reachable_position_is_without_a_legal_token(schema: Any, random: Random) -> None:
    """Up to a hundred random tokens deep."""
    try:
        matcher = compiled(schema).matcher()
    except UnsatisfiableConstraint:
        return
    for text in walk(matcher, random, 60):
        assert mask(matcher), f"stranded after {text!r} under {schema}"


def test_rows_are_written_whole_and_fit_the_vocabulary() -> None:
    """The words are ceil(V / 32), stale bits vanish, bits past the last token are zero."""
    matcher = compiled({"type": "boolean"}).matcher()
    assert len(TOKENS) % 32
    assert describe(mask(matcher)) == [b"f", b"fals", b"t", b"tru", b"true"]
    assert VOCABULARY.tokens[END] == b""


def test_after_an_end_token_nothing_is_legal() -> None:
    """is_finished: an empty mask, advance refuses, forced text is empty, nothing is left to emit."""
    matcher = compiled({"type": "null"}).matcher()
    assert not matcher.advance(END)
    assert take(matcher, b"null")
    assert (matcher.is_accepting, matcher.is_finished) == (True, False)
    assert mask(matcher) == {END}
    assert matcher.advance(END)
    assert matcher.is_finished
    assert mask(matcher) == set()
    assert not matcher.advance(END)
    assert not matcher.advance(TOKENS.index(b"n"))
    assert matcher.forced_tokens() == []
    assert matcher.forced_bytes() == b""


def test_rolling_back_over_an_end_token_reopens_the_text() -> None:
    """rollback counts end tokens like any other."""
    matcher = compiled({"type": "null"}).matcher()
    assert take(matcher, b"null")
    assert matcher.advance(END)
    matcher.rollback(1)
    assert (matcher.is_accepting, matcher.is_finished) == (True, False)
    assert mask(matcher) == {END}


@pytest.mark.parametrize("token", [-1, len(TOKENS), 1 << 40])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    """They are illegal, not an exception."""
    matcher = compiled(True).matcher()
    assert not matcher.advance(token)
    assert mask(matcher)


@settings(max_examples=25, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms)
def test_what_was_generated_before_changes_no_mask(schema: Any, random: Random) -> None:
    """Masks are shared by positions that one token cannot tell apart, and by no others."""
    try:
        used = compiled(schema)
    except (UnsatisfiableConstraint, UnsupportedConstraint, GrammarTooLarge):
        assume(False)
    seeds = [random.randrange(1 << 30) for _ in range(4)]
    for seed in seeds:
        fresh = compiled(schema).matcher()
        matcher, at = used.matcher(), 0
        for text in walk(matcher, Random(seed), 12):
            assert take(fresh, text[at:])
            at = len(text)
            assert mask(fresh) == mask(matcher), f"after {text!r} under {schema}"


@pytest.mark.parametrize(("first", "second"), [(b"12", b'{"a":12'), (b'{"a":12', b"12"), (b"[12", b'{"a":12')])
def test_a_number_ends_as_what_is_around_it_allows(first: bytes, second: bytes) -> None:
    """At the root by nothing, in an object by a comma or a brace, whichever was met first."""
    # No token both continues a number and ends it: then the parent shows only where a number ends.
    single = [bytes([byte]) for byte in range(256)] + [b""]
    vocabulary = Vocabulary(single, [256])
    grammar = compiled(True, vocabulary)
    for text in (first, second):
        matcher = grammar.matcher()
        for end in range(len(text) + 1):
            # Steps before masks, so that the tables know more than the mask's own walk would have asked for.
            taken = {byte for byte in range(256) if matcher.clone().advance(byte)}
            assert mask(matcher, None, vocabulary) - {256} == taken, f"after {text[:end]!r}"
            if end < len(text):
                assert matcher.advance(text[end])
