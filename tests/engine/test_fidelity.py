"""Constrained sampling is the model's own distribution renormalised, and the watermark leaves facts alone."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import grammar
from engine.batch import StepBatch
from engine.drawing import Drawn, Row, Rule
from engine.grammars import GrammarStore
from engine.messages import Generate, Mark, Plan, Sampling
from engine.sampler import CpuSampler
from tests.engine.houses import House, drafter, drive, house, request
from tests.engine.slots import SlotRunner, logits_of
from tests.oracles.renormalised import distribution

LETTERS = [bytes([byte]) for byte in sorted(set(b'{"abc":, truefalsexyzk12}'))]
TOKENS = [b"", *LETTERS, b"ab", b"bc", b"abc", b"tr", b"ue", b'{"', b'": ', b'": "', b'", "', b'"}', b"12", b'e, "']
VOCABULARY = grammar.Vocabulary(TOKENS, [0])
PROMPT = [1, 2, 3]
DRAWS = 2500
FALSE_ALARM = 1e-4
_OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"enum": ["ab", "abc", "x", True, 12]}},
    "required": ["a"],
    "additionalProperties": False,
}
_OBJECTS = [json.dumps({"a": value}).encode() for value in ("ab", "abc", "x", True, 12)]
CASES = {
    "choice": (
        grammar.compile_choice(["a", "ab", "abc", "b", "bcbc"], VOCABULARY),
        [b"a", b"ab", b"abc", b"b", b"bcbc"],
    ),
    "regex": (
        grammar.compile_regex("(ab|b){1,2}c?", VOCABULARY),
        [
            (b"".join(parts) + tail)
            for count in (1, 2)
            for parts in itertools.product([b"ab", b"b"], repeat=count)
            for tail in (b"", b"c")
        ],
    ),
    "schema": (
        grammar.compile_json_schema(_OBJECT, VOCABULARY, property_order="schema", whitespace="spaced"),
        _OBJECTS,
    ),
}


def encode(text: str) -> list[int]:
    """The longest token at each point."""
    data, ids = text.encode(), list[int]()
    by_length = sorted(((spelt, token) for token, spelt in enumerate(TOKENS) if spelt), key=lambda item: -len(item[0]))
    while data:
        spelt, token = next(item for item in by_length if data.startswith(item[0]))
        ids.append(token)
        data = data[len(spelt) :]
    return ids


class Nearly(SlotRunner):
    """A draft model that is often wrong: the imaginary one with its logits mixed up a little."""

    def _row(self, batch: StepBatch, token: int) -> NDArray[np.float32]:
        np.maximum(self.cache, 0, out=self.cache)  # shared pages may hold what was decoded without it
        row = super()._row(batch, token)
        return row + np.roll(row, 3) * np.float32(0.3)


def made(*grammars: grammar.Grammar, drafts: bool = True, drafting: bool = False) -> House:
    """A house with these grammars and an imaginary model; guesses by lookup and grammar, or by another model too."""
    store = GrammarStore(lambda data: grammar.load_grammar(data, VOCABULARY), 1 << 30)
    for each in grammars:
        store.add(Plan(each.fingerprint, each.to_bytes()))
    return house(
        SlotRunner(width=len(TOKENS), pages=512, page_size=8),
        spelling=TOKENS,
        grammars=store,
        max_batch_tokens=400,
        max_sequences=50,
        drafter=drafter(TOKENS, encode) if drafts else None,
        drafting=Nearly(width=len(TOKENS), pages=512, page_size=8) if drafting else None,
    )


def under(constraint: grammar.Grammar, name: str, **sampling: Any) -> Generate:
    settings = {"max_tokens": 60, "temperature": 1.0, **sampling}
    return msgspec.structs.replace(request(name, PROMPT, **settings), grammar=constraint.fingerprint)


@pytest.mark.parametrize(
    ("case", "who"),
    [
        *itertools.product(CASES, ("nobody", "grammar and lookup")),
        ("choice", "a draft model"),
        ("regex", "a draft model"),
    ],
)
def test_whole_outputs_have_the_renormalised_distribution(case: str, who: str) -> None:
    """Chi-square over every token sequence that can come out; whoever guesses changes nothing, right or wrong."""
    constraint, language = CASES[case]
    wanted = distribution(language, TOKENS, 0, lambda said: logits_of([*PROMPT, *said], len(TOKENS)).astype(np.float64))
    assert sum(wanted.values()) == pytest.approx(1.0)
    the_house = made(constraint, drafts=who != "nobody", drafting=who == "a draft model")
    counts, guessed = Counter[tuple[int, ...]](), Counter[bool]()
    for first in range(0, DRAWS, 50):
        answers = drive(the_house, [under(constraint, str(seed), seed=seed) for seed in range(first, first + 50)])
        counts.update(tuple(token for token in answer.ids if token) for answer in answers.values())
        for each in (each for answer in answers.values() if answer.finish for each in answer.finish.guessed):
            guessed.update({True: each.accepted, False: each.proposed - each.accepted})
    assert set(counts) <= set(wanted)
    if who == "a draft model":
        assert guessed[True] > DRAWS / 10
        assert guessed[False] > DRAWS / 10
    common = [ids for ids, chance in wanted.items() if chance * DRAWS >= 5]
    assert len(common) > 3
    observed = [counts[ids] for ids in common]
    expected = [wanted[ids] * DRAWS for ids in common]
    observed.append(DRAWS - sum(observed))
    expected.append(DRAWS - sum(expected))
    assert stats.chisquare(observed, expected).pvalue > FALSE_ALARM


@given(st.integers(0, 2**32), st.sets(st.integers(0, 39), min_size=2))
def test_a_mask_never_changes_the_odds_between_legal_tokens(seed: int, legal: set[int]) -> None:
    """log-prob under the mask minus the model's own is the same for every legal token: minus the log of their mass."""
    logits = (np.random.default_rng(seed).standard_normal(40) * 3).astype(np.float32)
    mask = np.zeros((1, 2), np.uint32)
    for token in legal:
        mask[0, token >> 5] |= np.uint32(1 << (token & 31))
    rule = Rule.of(Sampling(max_tokens=1, seed=0))
    rows = [Row(rule, 0, mask=0, drawn_from=0, known=token) for token in legal]
    sampler = CpuSampler(40)
    sampler.measure(torch.from_numpy(np.repeat(logits[None], len(rows), axis=0)), rows, mask.view(np.int32))
    for index, token in enumerate(legal):
        drawn = sampler.draw(index)
        assert isinstance(drawn, Drawn)
        assert drawn.token_id == token
        assert drawn.constrained_logprob - drawn.logprob == pytest.approx(-np.log(drawn.legal_mass), abs=1e-4)


FACTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "k": {"enum": ["ab", "abc", "x"]},
        "a": {"type": "string", "minLength": 6, "maxLength": 12},
        "b": {"type": "integer", "minimum": 1, "maximum": 222},
        "c": {"type": "boolean"},
        "x": {"enum": ["y", "z", "yz"]},
    },
    "required": ["k", "a", "b", "c", "x"],
    "additionalProperties": False,
}
FACTS_GRAMMAR = grammar.compile_json_schema(FACTS, VOCABULARY, property_order="schema", whitespace="spaced")
SCHEMES = [("gumbel", 1.0), ("kgw", 0.0), ("kgw-selfhash", 0.7), ("synthid", 1.0), ("unigram", 0.0)]


@pytest.mark.parametrize(("scheme", "temperature"), SCHEMES)
def test_outside_free_text_the_mark_changes_no_token(scheme: str, temperature: float) -> None:
    """At each such place an unmarked request that has said the same goes on with the same token."""
    the_house = made(FACTS_GRAMMAR)
    eligible = facts = 0
    for seed in range(2):
        plain = under(FACTS_GRAMMAR, "r", seed=seed, temperature=temperature)
        marked = msgspec.structs.replace(plain, mark=Mark(scheme=scheme, key_id="test", tenant=str(seed)))
        answer = drive(the_house, [marked])["r"]
        for place, token in enumerate(answer.tokens):
            if token.eligible:
                eligible += 1
                continue
            facts += 1
            again = drive(the_house, [msgspec.structs.replace(plain, emitted=answer.ids[:place])])["r"]
            assert again.ids[0] == token.token_id, place
            assert again.tokens[0].logprob == token.logprob
    assert eligible
    assert facts > 20


@pytest.mark.parametrize(("scheme", "temperature"), [("gumbel", 1.0), ("kgw", 1.0)])
def test_marked_and_unmarked_runs_agree_on_facts(scheme: str, temperature: float) -> None:
    """Paired by seed, each pair under a key of its own: fields before the text are equal, and those behind it, which
    may depend on what the text says, come out as often either way (McNemar's test, exactly)."""
    the_house, pairs = made(FACTS_GRAMMAR), 200
    requests = [under(FACTS_GRAMMAR, f"u{seed}", seed=seed, temperature=temperature) for seed in range(pairs)]
    requests += [
        msgspec.structs.replace(each, request_id=f"m{seed}", mark=Mark(scheme=scheme, key_id="test", tenant=str(seed)))
        for seed, each in enumerate(requests)
    ]
    values: dict[str, Any] = {}
    for first in range(0, len(requests), 50):
        for name, answer in drive(the_house, requests[first : first + 50]).items():
            values[name] = json.loads(b"".join(TOKENS[token] for token in answer.ids))
    each = [(values[f"u{seed}"], values[f"m{seed}"]) for seed in range(pairs)]
    assert all(unmarked["k"] == marked["k"] for unmarked, marked in each)
    assert sum(unmarked["a"] != marked["a"] for unmarked, marked in each) > pairs / 2, "the text is marked"
    claims: list[Callable[[Any], bool]] = [
        lambda value: value["c"],
        lambda value: value["b"] > 99,
        lambda value: value["x"] == "yz",
        lambda value: value["x"] == "y",
    ]
    for says in claims:
        only_one = [(says(unmarked), says(marked)) for unmarked, marked in each if says(unmarked) != says(marked)]
        if only_one:
            assert stats.binomtest(sum(first for first, _ in only_one), len(only_one)).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("scheme", "temperature"), SCHEMES)
def test_returned_log_probs_tell_nothing_of_the_key(scheme: str, temperature: float) -> None:
    """They are those of a model that is read the same text and knows of no mark, alternatives included."""
    the_house = made()
    wanted = request("m", PROMPT, max_tokens=40, temperature=temperature, ignore_eos=True, top_logprobs=5)
    marked = drive(the_house, [msgspec.structs.replace(wanted, mark=Mark(scheme=scheme, key_id="test"))])["m"]
    assert marked.finish is not None
    assert marked.finish.mark.applied
    read = drive(the_house, [request("r", [*PROMPT, *marked.ids], max_tokens=1, prompt_logprobs=5)])["r"]
    prompt = read.outputs[0].prompt
    assert prompt is not None
    for token, again in zip(marked.tokens, prompt[len(PROMPT) :], strict=True):
        assert token.logprob == pytest.approx(again.logprob, abs=1e-6)
        assert token.alternatives == again.alternatives
        assert token.legal_mass == 1.0
