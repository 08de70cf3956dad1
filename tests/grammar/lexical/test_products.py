"""Automata run beside each other tell of each word which of them accept it; and which labels never run out."""

from itertools import product as words_of

from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.frames.languages import Machine, endless_labels, few_words, product
from grammar.lexical import Dfa, compile_regex

PATTERNS = ["[abé]*", "(ab)*", "a?b?", "[^a]*", "a{2,3}b*", "é+|a", "(a|b)*a(a|b)", ""]
WORDS = ["".join(word) for length in range(5) for word in words_of("abé", repeat=length)]
languages = st.one_of(st.sampled_from(PATTERNS).map(compile_regex), st.just(Dfa.empty()))


def labelled_by_code(parts: list[Dfa]) -> Machine:
    """The label of a word: which parts accept it, as a number; only words of the first."""
    return product(parts, lambda told: sum(yes << i for i, yes in enumerate(told)) if told[0] else -1)


def label(machine: Machine, word: str) -> int:
    if machine.is_empty:
        return -1
    state = 0
    for byte in word.encode():
        state = machine.step(state, byte)
        if state < 0:
            return -1
    return int(machine.labels[state])


@settings(deadline=None)
@given(st.lists(languages, min_size=1, max_size=4))
def test_a_product_tells_all_parts(parts: list[Dfa]) -> None:
    machine = labelled_by_code(parts)
    for word in WORDS:
        told = [part.accepts(word.encode()) for part in parts]
        assert label(machine, word) == (sum(yes << i for i, yes in enumerate(told)) if told[0] else -1)


@settings(deadline=None)
@given(st.lists(languages, min_size=1, max_size=3))
def test_a_label_is_endless_exactly_if_its_words_cannot_be_listed(parts: list[Dfa]) -> None:
    machine = labelled_by_code(parts)
    endless = endless_labels(machine)
    for each in range(1 << len(parts)):
        assert (few_words(machine, each, 1000) is None) == (each in endless)
