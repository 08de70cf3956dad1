"""One constraint, several spellings: alone, as a grammar, inside of tags. All masks, budgets and forced texts agree."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import (
    Grammar,
    GrammarTooLarge,
    Matcher,
    UnsatisfiableConstraint,
    UnsupportedConstraint,
    compile_choice,
    compile_ebnf,
    compile_json_schema,
    compile_regex,
    compile_structural_tags,
)
from tests.grammar.walking import END, TOKENS, VOCABULARY, mask, take, walk
from tests.strategies import schemas

randoms = st.integers(0, 1 << 30).map(Random)


def agree(one: Matcher, other: Matcher, random: Random, *, plans: bool = False) -> None:
    """Along a random walk of the first; `plans`: the ways to finish too, of which several may be equally short."""
    before = one.text
    for text in walk(one, random, 12):
        if text:
            step = one.text[len(before) :]
            assert other.advance(next(i for i, token in enumerate(TOKENS) if token == step))
        before = one.text
        assert mask(other) == mask(one), text
        assert other.is_accepting == one.is_accepting
        assert other.forced_bytes() == one.forced_bytes()
        if plans:
            assert other.tokens_to_finish == one.tokens_to_finish
            budget = one.tokens_to_finish + random.randrange(3)
            assert mask(other, budget) == mask(one, budget)


@settings(max_examples=60, deadline=None)
@given(schemas.core(2), randoms, st.sampled_from(["json", "spaced", "compact"]))
def test_a_schema_alone_and_as_a_grammar(schema: Any, random: Random, whitespace: str) -> None:
    """`start: %json {…}` is the schema."""
    try:
        alone = compile_json_schema(schema, VOCABULARY, whitespace=whitespace)
    except (UnsatisfiableConstraint, UnsupportedConstraint, GrammarTooLarge) as error:
        with pytest.raises(type(error)):
            compile_ebnf(f"start: %json {json.dumps(schema)}", VOCABULARY, whitespace=whitespace)
        return
    inside = compile_ebnf(f"start: %json {json.dumps(schema)}", VOCABULARY, whitespace=whitespace)
    agree(alone.matcher(), inside.matcher(), random, plans=True)


@settings(max_examples=40, deadline=None)
@given(schemas.core(2), randoms)
def test_a_schema_between_brackets(schema: Any, random: Random) -> None:
    """Where a tag stands around a value, the value's own masks are those of the schema, up to how it ends."""
    try:
        alone = compile_json_schema(schema, VOCABULARY).matcher()
    except (UnsatisfiableConstraint, UnsupportedConstraint, GrammarTooLarge):
        return
    content = {"type": "json_schema", "json_schema": schema}
    tag = {"type": "tag", "begin": "<", "content": content, "end": "\x01"}
    inside = compile_structural_tags({"type": "structural_tag", "format": tag}, VOCABULARY).matcher()
    assert take(inside, b"<")
    closing = TOKENS.index(b"\x01")  # no JSON text holds it
    for text in walk(alone, random, 10):
        step = text[len(inside.text) - 1 :]
        if step:
            assert inside.advance(next(i for i, token in enumerate(TOKENS) if token == step))
        found, expected = mask(inside), mask(alone)
        assert (closing in found) == alone.is_accepting
        # After a whole value only the end of the tag may follow, in tokens that the value does not know.
        assert found - {closing} == expected - {END}


PATTERNS = [
    r"[a-c]+(?:-\d{2,4})?",
    r"(?:ab|a)*b?",
    r"\d+(?:\.\d+)?|true",
    r"(?i:yes|no)\s?",
    r"[^\x00-\x7f]{1,3}a*",
    r"(?!ab)[ab]{2,3}",
]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PATTERNS), randoms)
def test_a_pattern_alone_as_a_terminal_and_as_a_format(pattern: str, random: Random) -> None:
    """The same language in three rooms."""
    alone = compile_regex(pattern, VOCABULARY)
    others: list[Grammar] = [
        compile_ebnf(f"start: /{pattern}/", VOCABULARY),
        compile_ebnf(f"start: a\n?a: A\nA: /{pattern}/", VOCABULARY),
        compile_structural_tags(
            {"type": "structural_tag", "format": {"type": "regex", "pattern": pattern}}, VOCABULARY
        ),
    ]
    for other in others:
        agree(alone.matcher(), other.matcher(), Random(random.random()))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab{é", min_size=1, max_size=4), min_size=1, max_size=5, unique=True), randoms)
def test_choices_alone_and_as_alternatives(choices: list[str], random: Random) -> None:
    """A list of texts, in both spellings of grammars."""
    alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    alone = compile_choice(choices, VOCABULARY)
    for source in (f"start: {alternatives}", f"root ::= {alternatives}"):
        agree(alone.matcher(), compile_ebnf(source, VOCABULARY).matcher(), Random(random.random()))


def test_clones_and_rollbacks_come_back() -> None:
    """In the middle of a value, of a rule, and over the border of a frame."""
    grammar = compile_ebnf('start: "(" start ")" | %json {"type": "array"} ";"', VOCABULARY)
    matcher = grammar.matcher()
    masks = []
    for byte in b"(([1,[2]];))":
        masks.append(mask(matcher))
        assert matcher.advance(TOKENS.index(bytes([byte])))
    assert matcher.is_accepting
    copy = matcher.clone()
    for back in range(1, len(masks) + 1):
        matcher.rollback(1)
        assert mask(matcher) == masks[-back]
    assert copy.is_accepting
    assert copy.advance(1)
    assert copy.is_finished
