"""What a grammar keeps is bounded, however much is generated with it, and what it never used costs nothing."""

import json
import resource
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from grammar import (
    Grammar,
    GrammarError,
    Vocabulary,
    compile_ebnf,
    compile_json_schema,
    compile_structural_tags,
    compile_tools,
    load_grammar,
)
from grammar.options import GrammarLimits
from tests.grammar.walking import TOKENS, VOCABULARY, mask

RECURSIVE = {
    "type": "object",
    "properties": {"a": {"$ref": "#"}, "b": {"type": "array", "items": {"$ref": "#"}}, "c": {"type": "string"}},
    "additionalProperties": {"type": ["integer", "boolean"]},
}
LIST = {
    "type": "array",
    "minItems": 40,
    "items": {"properties": {"name": {"enum": ["a", "b"]}}, "additionalProperties": {"type": ["integer", "boolean"]}},
}
LIMIT = 2 << 20
TOOL = {"type": "function", "function": {"name": "f", "parameters": RECURSIVE}}
TAGS = {
    "type": "structural_tag",
    "structures": [{"begin": "<a>", "schema": RECURSIVE, "end": "</a>"}],
    "triggers": ["<a"],
}


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def generate(grammar: Grammar, random: Random, tokens: int) -> int:
    """One random text of about so many tokens, then closed as planned; the number of tokens taken."""
    matcher = grammar.matcher()
    taken = 0
    while not matcher.is_accepting or taken == 0:
        legal = mask(matcher, matcher.tokens_to_finish if taken >= tokens else None)
        assert matcher.advance(random.choice([t for t in legal if TOKENS[t]]))
        taken += 1
    assert isinstance(json.loads(matcher.text), dict)
    return taken


def test_a_long_random_generation_does_not_grow_the_process() -> None:
    """Texts of a recursive schema, far more than the limit could hold: the grammar stays near its limit."""
    grammar = compile_json_schema(RECURSIVE, VOCABULARY, limits=GrammarLimits(bytes=LIMIT))
    random, taken, most = Random(1), 0, 0
    while taken < 4_000:
        taken += generate(grammar, random, 60)
    before = resident()
    while taken < 24_000:
        taken += generate(grammar, random, 60)
        most = max(most, grammar.nbytes)
    assert most < 4 * LIMIT
    assert resident() - before < 48 << 20


def test_what_a_sparse_vocabulary_can_spell_is_remembered_within_the_limit() -> None:
    """Every text leaves promises behind; they count, and with them the grammar is made anew."""
    letters = [bytes([byte]) for byte in b'{}[]",:abc01']
    vocabulary = Vocabulary([*letters, b'":', b'{"', b""], [len(letters) + 2])
    schema = {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2}
    grammar = compile_json_schema(schema, vocabulary, limits=GrammarLimits(bytes=1 << 20))
    first, random, most, counted = grammar.closing, Random(1), 0, 0
    for _ in range(120):
        matcher = grammar.matcher()
        for left in range(matcher.tokens_to_finish + 12, 0, -1):
            legal = [token for token in mask(matcher, left, vocabulary) if vocabulary.tokens[token]]
            if not legal:
                break
            assert matcher.advance(random.choice(legal))
        assert matcher.is_accepting
        most, counted = max(most, grammar.nbytes), max(counted, grammar.closing.nbytes)
    assert counted > 100_000
    assert grammar.closing is not first
    assert most < 4 << 20


def test_a_matcher_under_way_survives_that_its_grammar_is_made_anew() -> None:
    """It goes on with the tables that it began with, and so does its clone."""
    grammar = compile_json_schema(RECURSIVE, VOCABULARY, limits=GrammarLimits(bytes=LIMIT))
    early = grammar.matcher()
    for byte in b'{"x":1,"':
        assert early.advance(TOKENS.index(bytes([byte])))
    old, random = grammar.automaton, Random(2)
    while grammar.automaton is old:
        generate(grammar, random, 60)
    for matcher in (early.clone(), early):
        again = matcher.clone()
        assert again.advance(TOKENS.index(b"x"))
        assert not again.advance(TOKENS.index(b'"'))
        for byte in b'y":2}':
            assert matcher.advance(TOKENS.index(bytes([byte])))
        assert matcher.is_accepting


def _steps(make: Callable[[GrammarLimits], Grammar], steps: int, seed: int) -> tuple[int, int]:
    """One text under a tiny limit beside the same without one: how often the first moved, and the most it kept."""
    small, large = make(GrammarLimits(bytes=1 << 16)), make(GrammarLimits())
    random, matcher, peer, moved, most = Random(seed), small.matcher(), large.matcher(), 0, 0
    held = small.automaton
    for step in range(steps):
        left = None if step < steps - 200 else max(matcher.tokens_to_finish, steps - step)
        legal = sorted(mask(matcher, left))
        assert left is not None or legal == sorted(mask(peer))
        going_on = [token for token in legal if TOKENS[token]]
        if not going_on:
            break
        token = random.choice(going_on)
        assert matcher.advance(token)
        assert peer.advance(token)
        moved, held, most = moved + (small.automaton is not held), small.automaton, max(most, small.nbytes)
    while not matcher.is_accepting:
        before = matcher.tokens_to_finish
        token = next(t for t in sorted(mask(matcher, before)) if TOKENS[t])
        assert matcher.advance(token)
        assert peer.advance(token)
        assert matcher.tokens_to_finish < before
    assert peer.is_accepting
    return moved, most


def test_one_text_goes_on_beyond_every_limit_and_memory_stays_bounded() -> None:
    """Its automaton is made anew under way, with the same masks, the same end and no promise broken."""
    moved, most = _steps(lambda limits: compile_json_schema(LIST, VOCABULARY, limits=limits), 700, 1)
    assert moved > 1
    assert most < 8 << 20


@pytest.mark.parametrize(
    "make",
    [
        lambda limits: compile_ebnf('start: "(" (start | "[" start "]" | /[a-z]+/)* ")"', VOCABULARY, limits=limits),
        lambda limits: compile_tools([TOOL], VOCABULARY, choice="required", limits=limits),
        lambda limits: compile_structural_tags(TAGS, VOCABULARY, limits=limits),
    ],
    ids=["rules", "tools", "tags"],
)
def test_rules_tools_and_tags_are_made_anew_too(make: Callable[[GrammarLimits], Grammar]) -> None:
    """As above, for what is no JSON Schema."""
    moved, most = _steps(make, 1200, 3)
    assert moved > 0
    assert most < 8 << 20


def test_a_thousand_grammars_live_side_by_side() -> None:
    """Each takes what it uses: some kilobytes, not a reserved region."""
    before = resident()
    kept = [compile_json_schema({"properties": {f"name{i}": {"type": "integer"}}}, VOCABULARY) for i in range(1000)]
    assert resident() - before < 400 << 20
    assert max(grammar.nbytes for grammar in kept) < 1 << 20


def test_tables_and_plans_come_back_from_bytes_or_are_refused() -> None:
    """The same masks from stored tables; a flipped bit, another version or another vocabulary is an error."""
    stored = VOCABULARY.tables_to_bytes()
    again = Vocabulary(TOKENS, VOCABULARY.eos_token_ids)
    again.use_tables(stored)
    for schema in ({}, RECURSIVE, {"pattern": "^[a-z]{2,5}$"}):
        plan = compile_json_schema(schema, VOCABULARY).to_bytes()
        ours, theirs = load_grammar(plan, again).matcher(), load_grammar(plan, VOCABULARY).matcher()
        for byte in b'{"':
            assert mask(ours) == mask(theirs)
            assert ours.advance(TOKENS.index(bytes([byte])))
            assert theirs.advance(TOKENS.index(bytes([byte])))
    other = Vocabulary(TOKENS[:-1], VOCABULARY.eos_token_ids)
    damaged = bytearray(stored)
    damaged[len(stored) // 2] ^= 1
    for vocabulary, data in (
        (other, stored),
        (again, bytes(damaged)),
        (again, stored[:-1]),
        (again, b""),
        (again, plan),
    ):
        with pytest.raises(GrammarError):
            vocabulary.use_tables(data)
    with pytest.raises(GrammarError):
        load_grammar(plan[:-1], VOCABULARY)
