"""Context-free constraints: every mask is that of the slow reference, whatever the recursion; every walk can end."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grammar import Grammar, GrammarTooLarge, UnsatisfiableConstraint, Vocabulary, compile_ebnf, load_grammar
from tests.grammar.walking import mask
from tests.oracles.context_free import ContextFree, Productions
from tests.strategies import grammars

TOKENS = [b"", b"a", b"b", b"c", b"ab", b"bb", b"cab", b"aaa", b"bc", b"", b"abc", b"a"]
END = 0
VOCABULARY = Vocabulary(TOKENS, [END])
randoms = st.integers(0, 1 << 30).map(Random)

AMBIGUOUS: Productions = {"start": [["start", "start"], [b"a"], [b"b", "start", b"c"]]}
HIDDEN_LEFT: Productions = {"start": [["one", "start", b"b"], [b"a"]], "one": [[], [b"c"]]}
MUTUAL: Productions = {
    "start": [["one", b"a"], [b"c"]],
    "one": [["start", b"b"], ["two"]],
    "two": [["one", b"c"], [b"a"]],
}
NESTED_IF: Productions = {"start": [[b"a", "start"], [b"a", "start", b"b", "start"], [b"c"]]}
PALINDROMES: Productions = {"start": [[b"a", "start", b"a"], [b"b", "start", b"b"], [], [b"a"]]}
RIGHT_AND_LEFT: Productions = {"start": [["start", b"a", "start"], [b"b", "start"], ["start", b"c"], []]}


def compiled(grammar: ContextFree) -> Grammar | None:
    """The grammar in both spellings, which are one; None if nothing is derived, on which the reference agrees."""
    try:
        found = compile_ebnf(grammars.lark(grammar), VOCABULARY)
    except UnsatisfiableConstraint:
        assert "start" not in grammar.productive
        with pytest.raises(UnsatisfiableConstraint):
            compile_ebnf(grammars.gbnf(grammar), VOCABULARY, start="start")
        return None
    assert "start" in grammar.productive
    return found


def expected(grammar: ContextFree, text: bytes) -> set[int]:
    """The legal tokens after `text`, by trying every one."""
    ends = {END} if grammar.complete(text) else set()
    return ends | {i for i, token in enumerate(TOKENS) if token and grammar.viable(text + token)}


@settings(max_examples=150, deadline=None)
@given(grammars.productions(), randoms)
@example(AMBIGUOUS, Random(1))
@example(HIDDEN_LEFT, Random(2))
@example(MUTUAL, Random(3))
@example(NESTED_IF, Random(4))
@example(PALINDROMES, Random(5))
@example(RIGHT_AND_LEFT, Random(6))
def test_masks_equal_the_reference_along_random_walks(productions: Productions, random: Random) -> None:
    """Left, right, hidden and mutual recursion, empty rules, ambiguity, in a budget of a few tokens."""
    reference = ContextFree(productions)
    grammar = compiled(reference)
    if grammar is None:
        return
    matcher, text = grammar.matcher(), b""
    for _ in range(6):
        legal = mask(matcher, None, VOCABULARY)
        assert legal == expected(reference, text), text
        assert matcher.is_accepting == (END in legal)
        going = sorted(legal - {END})
        if not going:
            break
        token = random.choice(going)
        assert matcher.advance(token)
        text += TOKENS[token]


@settings(max_examples=100, deadline=None)
@given(grammars.productions(), randoms, st.integers(0, 6))
@example(RIGHT_AND_LEFT, Random(6), 2)
def test_any_legal_walk_within_the_budget_ends_complete(productions: Productions, random: Random, spare: int) -> None:
    """From the start with at least tokens_to_finish, whatever legal tokens are taken."""
    reference = ContextFree(productions)
    grammar = compiled(reference)
    if grammar is None:
        return
    matcher, text = grammar.matcher(), b""
    budget = matcher.tokens_to_finish + spare
    while budget:
        legal = sorted(mask(matcher, budget, VOCABULARY) - {END})
        if not legal:
            break
        token = random.choice(legal)
        assert matcher.advance(token)
        text += TOKENS[token]
        budget -= 1
        assert matcher.tokens_to_finish <= budget
    assert matcher.is_accepting
    assert reference.complete(text)


@settings(max_examples=60, deadline=None)
@given(grammars.productions())
@example(PALINDROMES)
def test_every_short_word_is_accepted_in_both_spellings(productions: Productions) -> None:
    """All words up to five letters, letter by letter; and again from the plan."""
    reference = ContextFree(productions)
    grammar = compiled(reference)
    if grammar is None:
        return
    other = compile_ebnf(grammars.gbnf(reference), VOCABULARY, start="start")
    again = load_grammar(grammar.to_bytes(), VOCABULARY)
    for word in reference.words(grammars.ALPHABET, 5):
        for each in (grammar, other, again):
            matcher = each.matcher()
            assert all(matcher.advance(TOKENS.index(bytes([byte]))) for byte in word)
            assert matcher.is_accepting


def states_after(grammar: Grammar, text: bytes) -> int:
    """How many states the automaton has after this text was read and every mask on the way was made."""
    matcher = grammar.matcher()
    for byte in text:
        mask(matcher, None, VOCABULARY)
        assert matcher.advance(TOKENS.index(bytes([byte]))), (matcher.text, byte)
    return grammar.automaton.tables.states


@pytest.mark.parametrize(
    ("productions", "text"),
    [
        ({"start": [["start", b"a", "start"], [b"b", "start", b"c"], [b"c"]]}, b"bcc" + b"abcc" * 30),
        ({"start": [["start", "start"], [b"a"]]}, b"a" * 120),
        ({"start": [[b"b", "start", b"c"], [b"a"]]}, b"b" * 100 + b"a" + b"c" * 100),
        ({"start": [[b"b", "start"], [b"a"]]}, b"b" * 200 + b"a"),
        ({"start": [["start", b"b"], [b"a"]]}, b"a" + b"b" * 200),
    ],
)
def test_states_do_not_grow_with_the_text(productions: Productions, text: bytes) -> None:
    """Deep nesting and long ambiguous chains come back to the states that were there."""
    grammar = compiled(ContextFree(productions))
    assert grammar is not None
    assert states_after(grammar, text) < 60


def test_deep_ambiguity_ends_in_its_typed_error() -> None:
    """Each further level of a dangling else keeps all the levels above it apart."""
    grammar = compiled(ContextFree(NESTED_IF))
    assert grammar is not None
    with pytest.raises(GrammarTooLarge, match="ambiguous"):
        states_after(grammar, b"a" * 300 + b"c" + b"bc" * 3)
