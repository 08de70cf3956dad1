"""engine.speculation.drafting: one request's chain of guesses, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest

import grammar
from engine.speculation import Drafter, Source, Speculator
from engine.speculation.lookup import LONGEST
from tests.engine.houses import drafter
from tests.engine.test_constrained import TOKENS, VOCABULARY, encode

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GRAMMAR = grammar.compile_json_schema(SCHEMA, VOCABULARY, property_order="schema", whitespace="spaced")


def spelled(guesses: Speculator) -> str:
    return b"".join(TOKENS[guess.token] for guess in guesses.guesses).decode()


def at(text: str) -> grammar.Matcher:
    matcher = GRAMMAR.matcher()
    for token in encode(text):
        assert matcher.advance(token)
    return matcher


def everyone(most: int = 16) -> Drafter:
    return drafter(TOKENS, encode, most)


def trusting() -> Speculator:
    """Of an engine that has seen every guess come true."""
    shared = everyone(30)
    for length in range(1, LONGEST + 1):
        for _ in range(100):
            shared.rates.learn((Source.NGRAM, length), came_true=True)
    return shared.speculator()


def test_forced_text_is_guessed_and_the_matcher_stays_where_it_was() -> None:
    matcher, speculator = GRAMMAR.matcher(), everyone().speculator()
    speculator.guess([7], matcher, 16)
    assert spelled(speculator) == '{"name": "'
    assert matcher.text == b""
    assert {guess.source for guess in speculator.guesses} == {Source.GRAMMAR}


def test_a_value_is_looked_up_and_cut_where_the_grammar_refuses() -> None:
    """The prompt goes on with a line break, which no JSON string may hold as it is."""
    text = encode("of age 12\nfrom Riga\nand so on") + encode('{"name": "f')
    speculator = trusting()
    speculator.guess(text, at('{"name": "f'), 16)
    assert spelled(speculator) == "rom Riga"
    assert {guess.source for guess in speculator.guesses} == {Source.NGRAM}


def test_a_chain_goes_from_a_looked_up_end_into_forced_text() -> None:
    text = encode('said "Riga"') + encode('{"name": "R')
    speculator = trusting()
    speculator.guess(text, at('{"name": "R'), 30)
    assert spelled(speculator) == 'iga", "age": '
    sources = [guess.source for guess in speculator.guesses]
    assert sources[0] is Source.NGRAM
    assert sources[-1] is Source.GRAMMAR


def test_heads_say_the_likeliest_token_that_is_legal_and_give_way_to_forced_text() -> None:
    speculator = everyone().speculator()
    illegal, legal = TOKENS.index(b"\n"), TOKENS.index(b"ab")
    speculator.foresee([[(illegal, 0.7), (legal, 0.2)], [(legal, 0.95)], [(illegal, 0.9)]])
    speculator.guess([7], at('{"name": "'), 16)
    assert spelled(speculator) == "abab"
    assert {guess.source for guess in speculator.guesses} == {Source.HEADS}
    speculator.guess([7], at('{"name": "'), 16)
    assert speculator.guesses == [], "they spoke of the step before"
    speculator.foresee([[(legal, 0.9)]])
    speculator.guess([7], GRAMMAR.matcher(), 16)
    assert spelled(speculator) == '{"name": "'


def test_where_a_copied_value_ends_is_learned_from_the_mark_behind_it() -> None:
    """Values that stand before a comma end there; the chain then goes on with forced text."""
    shared = everyone(30)
    text = encode("from Riga, of") + encode('{"name": "R')
    for _ in range(40):
        speculator = shared.speculator()
        speculator.guess(text, at('{"name": "R'), 30)
        verified = len(speculator.take(30))
        speculator.learn([*encode("iga"), TOKENS.index(b'", "')], verified)
    speculator = shared.speculator()
    speculator.guess(text, at('{"name": "R'), 30)
    assert spelled(speculator) == 'iga", "age": '
    assert shared.rates.chance((Source.ENDINGS, 1 + TOKENS.index(b","))) > 0.6


def test_chances_fall_along_the_chain_and_the_limit_is_kept() -> None:
    speculator = everyone(5).speculator()
    speculator.guess([65, 66, 67] * 20, None, 100)
    chances = [guess.chance for guess in speculator.guesses]
    assert len(chances) == 5
    assert chances == sorted(chances, reverse=True)
    speculator.guess([65, 66, 67] * 20, None, 2)
    assert len(speculator.guesses) == 2
    speculator.guess([65, 66, 67] * 20, None, 0)
    assert speculator.guesses == []


def test_an_end_token_is_never_guessed() -> None:
    speculator = everyone().speculator()
    speculator.guess([65, 0, 65], None, 10)
    assert speculator.guesses == []


def test_guesses_that_fail_are_given_up_and_tried_again_now_and_then() -> None:
    speculator, rng = everyone().speculator(), np.random.default_rng(0)
    text, verified = rng.integers(60, 64, 50).tolist(), []
    for _ in range(400):
        speculator.guess(text, None, 10)
        likely = sum(guess.chance > 0.3 for guess in speculator.guesses)
        taken = speculator.take(max(likely, int(speculator.is_due())))
        drawn = int(rng.integers(70, 170))  # never what was guessed
        speculator.learn([drawn], len(taken))
        text = [*text, 60 + drawn % 4]
        verified.append(len(taken))
    assert sum(verified[:40]) > sum(verified[-200:]) > 0
    assert max(verified[-200:]) == 1


def test_only_what_was_verified_and_reached_is_judged() -> None:
    speculator = everyone().speculator()
    speculator.guess([65, 66, 67, 68] * 3, None, 4)
    guesses = [guess.token for guess in speculator.guesses]
    before = everyone().rates.chance(speculator.guesses[2].kind)
    taken = speculator.take(3)
    assert taken == guesses[:3]
    speculator.learn([guesses[0], 99], 3)
    (report,) = speculator.report()
    assert (report.proposer, report.proposed, report.accepted) == ("ngram", 3, 1)
    assert before == pytest.approx(everyone().rates.chance((Source.NGRAM, 8)))
