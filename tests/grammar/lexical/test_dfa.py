"""The automaton as a value: equal languages are equal, the algebra is set algebra, closings are shortest."""

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import GrammarTooLarge
from grammar.lexical import Dfa, Limits, compile_regex, literal_language, union_all, universe

WORDS = ["".join(letters).encode() for length in range(6) for letters in product("ab", repeat=length)]

regexes = st.recursive(
    st.sampled_from(["a", "b", "[ab]", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        inner.map(lambda item: f"(?:{item})*"),
        inner.map(lambda item: f"(?:{item}){{1,2}}"),
    ),
    max_leaves=8,
)


def words(dfa: Dfa) -> set[bytes]:
    """The short words of the language."""
    return {word for word in WORDS if dfa.accepts(word)}


@given(regexes, regexes)
@settings(max_examples=60, deadline=None)
def test_the_operations_are_those_of_sets(one: str, other: str) -> None:
    """Union, intersection and difference, on every short word."""
    first, second = compile_regex(one), compile_regex(other)
    assert words(first.union(second)) == words(first) | words(second)
    assert words(first.intersect(second)) == words(first) & words(second)
    assert words(first.difference(second)) == words(first) - words(second)
    assert words(first.complement(universe())) == set(WORDS) - words(first)


@given(regexes, regexes)
@settings(max_examples=60, deadline=None)
def test_equal_languages_are_equal_values(one: str, other: str) -> None:
    """De Morgan's law holds as equality of values, hashes and fingerprints."""
    first, second = compile_regex(one), compile_regex(other)
    left = universe().difference(first.union(second))
    right = first.complement(universe()).intersect(second.complement(universe()))
    assert left == right
    assert hash(left) == hash(right)
    assert left.fingerprint == right.fingerprint


@given(regexes)
@settings(max_examples=60, deadline=None)
def test_the_shortest_completion_is_least_and_its_tail_is_the_next_states_own(regex: str) -> None:
    """The suffix property that closing plans rest on."""
    dfa = compile_regex(regex)
    least = min((word for word in words(dfa)), key=lambda word: (len(word), word), default=None)
    assert least is None or dfa.shortest() == least
    state, rest = 0, dfa.shortest()
    while rest:
        assert len(rest) == dfa.distance[state]
        state, rest = dfa.step(state, rest[0]), rest[1:]
        assert dfa.shortest(state) == rest


@given(regexes)
@settings(max_examples=40, deadline=None)
def test_every_state_can_still_be_finished(regex: str) -> None:
    """Trimmed: no state is a trap."""
    dfa = compile_regex(regex)
    assert all(dfa.accepting[dfa.run(dfa.shortest(state), state)] for state in range(dfa.states))


@pytest.mark.parametrize(
    ("regex", "longest"), [("", 0), ("a|bcd", 3), ("a*", None), ("(?:ab?){2}", 4), (r"[\s\S]", 4), ("(?:a|ab)c*", None)]
)
def test_finite_languages_know_their_longest_word(regex: str, longest: int | None) -> None:
    """In bytes; None where there is none."""
    dfa = compile_regex(regex)
    assert dfa.longest == longest
    assert dfa.is_finite == (longest is not None)


def test_the_empty_language_has_no_states() -> None:
    """And behaves under the operations."""
    empty = Dfa.empty()
    assert empty.is_empty
    assert not empty.accepts(b"")
    assert empty == compile_regex("(?!)") == union_all([])
    assert empty.union(Dfa.epsilon()) == Dfa.epsilon() == compile_regex("")
    assert empty.intersect(universe()) == empty
    assert empty.longest is None


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("aé€😀\u0000\U0010ffff".encode(), True),
        (b"\xc0\xaf", False),  # overlong
        (b"\xe0\x80\x80", False),
        (b"\xed\xa0\x80", False),  # a surrogate
        (b"\xf4\x90\x80\x80", False),  # past the last code point
        (b"\x80", False),
        (b"\xe2\x82", False),
    ],
)
def test_the_universe_is_well_formed_utf8(text: bytes, well_formed: bool) -> None:
    """No more, no less."""
    assert universe().accepts(text) == well_formed


def test_a_product_over_its_limit_is_refused() -> None:
    """With the error of the room."""
    first, second = compile_regex("(?:a{31})*"), compile_regex("(?:a{37})*")
    with pytest.raises(GrammarTooLarge):
        first.intersect(second, Limits(max_states=100))


@given(st.sets(st.text(max_size=5), max_size=12), st.lists(st.text(max_size=5), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_set_of_literals_is_its_own_language(members: set[str], others: list[str]) -> None:
    """Exactly the members, and the same value as their alternation."""
    encoded = {word.encode() for word in members}
    dfa = literal_language(encoded)
    assert all(dfa.accepts(word) for word in encoded)
    assert all(dfa.accepts(word.encode()) == (word in members) for word in others)
    if members:
        assert dfa == compile_regex("|".join(re.escape(word) for word in members).replace("\\\n", "\n"))


def test_ten_thousand_literals_fold_into_few_states() -> None:
    """Common heads and tails are shared."""
    assert literal_language(f"item-{number}".encode() for number in range(10_000)).states < 20
