"""The token budget: a mask under a budget never strands a generation, and never forbids more than it must."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import (
    Grammar,
    Matcher,
    UnsatisfiableConstraint,
    Vocabulary,
    compile_choice,
    compile_ebnf,
    compile_regex,
    compile_structural_tags,
)
from tests.grammar.walking import END, TOKENS, VOCABULARY, blank_row, compiled, mask, take, walk
from tests.oracles.json_masks import Reference
from tests.oracles.validation import decode, is_valid
from tests.strategies import schemas, vocabularies

randoms = st.integers(0, 1 << 30).map(Random)
SPARSE = vocabularies.sparse()
SINGLE = [*(bytes([byte]) for byte in range(256)), b""]


def over(schema: Any, tokens: list[bytes] = TOKENS) -> Grammar | None:
    """The compiled schema, or None if nothing satisfies it (in this vocabulary)."""
    try:
        return compiled(schema, VOCABULARY if tokens is TOKENS else Vocabulary(tokens, [len(tokens) - 1]))
    except UnsatisfiableConstraint:
        return None


def left_after(matcher: Matcher, token: int) -> int:
    """tokens_to_finish once the token is taken."""
    tried = matcher.clone()
    assert tried.advance(token)
    return tried.tokens_to_finish


@settings(max_examples=15, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms, st.integers(0, 6))
def test_random_legal_tokens_within_the_budget_end_complete_and_valid(schema: Any, random: Random, spare: int) -> None:
    """From the start, with any budget of at least tokens_to_finish."""
    grammar = over(schema)
    if grammar is None:
        return
    matcher = grammar.matcher()
    assert grammar.least_budget == matcher.tokens_to_finish
    text, left = b"", matcher.tokens_to_finish + spare
    while left > 0:
        legal = mask(matcher, left)
        assert legal, f"stranded after {text!r} with {left} tokens left under {schema}"
        token = random.choice(sorted(legal))
        assert matcher.advance(token)
        if token == END:
            break
        text, left = text + TOKENS[token], left - 1
    assert matcher.is_finished or matcher.is_accepting, f"incomplete: {text!r} under {schema}"
    assert is_valid(schema, decode(text)), f"invalid: {text!r} under {schema}"


@settings(max_examples=8, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms)
def test_a_budget_allows_exactly_the_tokens_that_leave_enough(schema: Any, random: Random) -> None:
    """t is legal with budget n iff tokens_to_finish after t is at most n - 1; end tokens iff accepting, for any n."""
    grammar = over(schema)
    if grammar is not None:
        check_budgets(grammar.matcher(), random, 4)


TAG = {
    "type": "tag",
    "begin": "<a>",
    "content": {"type": "json_schema", "json_schema": {"type": "array", "items": {"type": "string"}}},
    "end": "</a>",
}
TAGS = {"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": ["<a"], "tags": [TAG]}}
OTHERS: dict[str, Callable[[], Grammar]] = {
    "regex": lambda: compile_regex(r'[a-c]{2}(":|, )+[0-9]{3,5}é?', VOCABULARY),
    "endless regex": lambda: compile_regex(r"(.|\n)*a", VOCABULARY),
    "a long way on": lambda: compile_regex(r"a|b(c[0-9]{40})?", VOCABULARY),
    "choices": lambda: compile_choice(["a", "ab", "true", "true, false", "null" * 9, "naïve"], VOCABULARY),
    "recursive rules": lambda: compile_ebnf('start: "a" | "[" start ("," start)* "]" | "{" start "}" "!"', VOCABULARY),
    "ambiguous rules": lambda: compile_ebnf('start: x x\nx: /a+/ | "a" x "b" | "(" x ")"', VOCABULARY),
    "tags": lambda: compile_structural_tags(TAGS, VOCABULARY),
}


@pytest.mark.parametrize("name", OTHERS)
def test_budgets_are_exact_for_text_and_rules_too(name: str) -> None:
    """Regular expressions, choices, grammars and tags, along random texts."""
    for seed in range(4):
        check_budgets(OTHERS[name]().matcher(), Random(seed), 6)


def check_budgets(matcher: Matcher, random: Random, steps: int) -> None:
    """Compare the masks under budgets with what each token leaves to be taken, along a random text."""
    for text in walk(matcher, random, steps):
        free = mask(matcher)
        after = {token: left_after(matcher, token) for token in free - {END}}
        ends = {END} if matcher.is_accepting else set()
        assert free & {END} == ends
        for budget in sorted({0, 1, 2, 3, 16, 64, *after.values(), *(left + 1 for left in after.values())}):
            found = mask(matcher, budget)
            lowered = {token: left_after(matcher, token) for token in after}  # a promise may get better with use
            must = {token for token, left in after.items() if left <= budget - 1} | ends
            may = {token for token, left in lowered.items() if left <= budget - 1} | ends
            assert must <= found <= may, f"budget {budget} after {text!r}"


@settings(max_examples=12, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms)
def test_tokens_to_finish_falls_along_some_legal_token(schema: Any, random: Random) -> None:
    """0 exactly when accepting; while it is k > 0 some legal token leads to at most k - 1."""
    grammar = over(schema)
    if grammar is None:
        return
    matcher = grammar.matcher()
    for text in walk(matcher, random, 8):
        left = matcher.tokens_to_finish
        assert (left == 0) == matcher.is_accepting, f"{left} after {text!r} under {schema}"
        if left:
            assert mask(matcher, left), f"no token keeps the promise of {left} after {text!r} under {schema}"


@settings(max_examples=12, deadline=None)
@given(st.one_of(schemas.core(1), schemas.recursive()), randoms)
def test_the_promise_holds_where_much_cannot_be_spelled(schema: Any, random: Random) -> None:
    """Forty tokens and no byte tokens: from any reachable position the budget of tokens_to_finish is enough."""
    grammar = over(schema, SPARSE)
    if grammar is None:
        return
    vocabulary = Vocabulary(SPARSE, [len(SPARSE) - 1])
    matcher = grammar.matcher()
    for _ in range(6):
        closing, text = matcher.clone(), b""
        for left in range(matcher.tokens_to_finish, 0, -1):
            legal = mask(closing, left, vocabulary)
            assert legal, f"stranded with {left} left after {text!r} under {schema}"
            token = random.choice(sorted(legal))
            assert closing.advance(token)
            text += SPARSE[token]
            if closing.is_finished:
                break
        assert closing.is_accepting or closing.is_finished
        legal = {token for token in mask(matcher, None, vocabulary) if SPARSE[token]}
        if not legal:
            break
        assert matcher.advance(random.choice(sorted(legal)))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "minProperties": 3},
        {"type": "object", "minProperties": 12},
        {
            "type": "object",
            "minProperties": 2,
            "propertyNames": {"pattern": "^a"},
            "additionalProperties": {"type": "null"},
        },
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"type": ["integer", "string"]}},
        {
            "type": "object",
            "minProperties": 2,
            "properties": {"a": {"type": "object", "minProperties": 2}},
            "required": ["a"],
        },
    ],
)
@pytest.mark.parametrize("tokens", [SINGLE, TOKENS], ids=["bytes", "longer tokens"])
def test_keys_and_items_that_must_differ_are_paid_for(schema: Any, tokens: list[bytes]) -> None:
    """What comes may be just what the plan would have written next: then it needs another, and has room for it."""
    grammar = over(schema, tokens)
    assert grammar is not None
    vocabulary = grammar.automaton.vocabulary
    for seed in range(40):
        matcher, random, text = grammar.matcher(), Random(seed), b""
        for left in range(grammar.least_budget + seed % 3, 0, -1):
            legal = mask(matcher, left, vocabulary)
            assert legal, f"stranded after {text!r} with {left} tokens left"
            token = random.choice(sorted(legal))
            assert matcher.advance(token)
            text += tokens[token]
            if matcher.is_finished:
                break
        assert matcher.is_accepting or matcher.is_finished, text
        assert is_valid(schema, decode(text))


def least_by_brute_force(schema: Any) -> int:
    """The fewest tokens to a complete text: breadth first over everything that the reference allows."""
    reference = Reference(schema)
    layer, seen, count = {reference.start}, {reference.start}, 0
    while not any(reference.accepting(threads) for threads in layer):
        layer = {reference.feed(threads, token) for threads in layer for token in TOKENS if token}
        layer = {threads for threads in layer if threads} - seen
        seen |= layer
        count += 1
    return count


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "integer"},
        {"type": "integer", "minimum": 100},
        {"type": "string"},
        {"type": "string", "minLength": 4},
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}},
    ],
)
def test_least_budgets_of_small_schemas_are_near_the_true_least(schema: Any) -> None:
    """The stored plan is allowed to be longer; on these it is not by more than two tokens."""
    least = least_by_brute_force(schema)
    assert least <= compiled(schema).matcher().tokens_to_finish <= least + 2


def test_a_budget_of_zero_allows_only_the_end() -> None:
    """And that only where the text is complete."""
    matcher = compiled({"type": "integer"}).matcher()
    assert mask(matcher, 0) == set()
    assert take(matcher, b"1")
    assert mask(matcher, 0) == {END}


def test_the_mask_says_whether_the_budget_took_anything() -> None:
    """fill_mask returns True iff the budget excluded a token that the grammar alone allows."""
    matcher = compiled({"type": "array", "items": {"type": "integer"}}).matcher()
    row = blank_row()
    assert matcher.fill_mask(row, matcher.tokens_to_finish) is True
    assert matcher.fill_mask(row, 10_000) is False
    assert matcher.fill_mask(row) is False


def test_a_long_string_is_closed_in_time() -> None:
    """A wide budget leaves strings free; a narrow one closes all that is open."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string", "minLength": 3}}}}
    matcher = compiled(schema).matcher()
    assert take(matcher, b'{"a": ["aab", "')
    text, left = b'{"a": ["aab", "', matcher.tokens_to_finish
    random = Random(5)
    while not matcher.is_accepting:
        token = random.choice(sorted(mask(matcher, left)))
        assert matcher.advance(token)
        text, left = text + TOKENS[token], left - 1
    assert left >= 0
    assert len(json.loads(text)["a"]) == 2
