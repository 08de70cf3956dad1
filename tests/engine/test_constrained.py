"""Generation under a grammar: always complete and valid, inside its budget, and the same with drafts as without."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

import grammar
from engine.batch import StepBatch
from engine.grammars import GrammarStore
from engine.mask_helper import MaskHelper
from engine.messages import ErrorCode, Finish, FinishReason, Generate, Mark, Plan
from tests.engine.houses import Answer, House, drafter, drive, house, request
from tests.engine.slots import SlotRunner, logits_of

# No backslash: the strings of this vocabulary have no escapes, so that texts stay readable.
WORDS = ["name", "age", "true", "false", "null", '": ', '", "', '{"', '"}', '": "', "12", "ab", "é", "  "]
TOKENS = [
    b"",
    *(b"" if byte == 92 else bytes([byte]) for byte in range(256)),
    *(word.encode() for word in WORDS),
    b"",
    b"",
]
VOCABULARY = grammar.Vocabulary(TOKENS, [0])
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 999},
        "ok": {"type": "boolean"},
    },
    "required": ["name", "age", "ok"],
    "additionalProperties": False,
}
GRAMMAR = grammar.compile_json_schema(SCHEMA, VOCABULARY, property_order="schema", whitespace="spaced")


def encode(text: str) -> list[int]:
    """The longest token at each point."""
    data, ids = text.encode(), list[int]()
    by_length = sorted(((token, index) for index, token in enumerate(TOKENS) if token), key=lambda item: -len(item[0]))
    while data:
        token, index = next((token, index) for token, index in by_length if data.startswith(token))
        ids.append(index)
        data = data[len(token) :]
    return ids


class TellingRunner(SlotRunner):
    """A model that has a text in mind: the usual tokenisation of `text` is far likelier than all else."""

    def __init__(self, text: str) -> None:
        super().__init__(width=len(TOKENS), pages=64, page_size=8)
        self.ids = encode(text)

    def _row(self, batch: StepBatch, token: int) -> NDArray[np.float32]:
        row = super()._row(batch, token)
        said = int(batch.positions[token]) - 2  # behind a prompt of three
        if 0 <= said < len(self.ids):
            row[self.ids[said]] += 30
        return row


def made(runner: SlotRunner | None = None, *, drafts: bool = True, helper: MaskHelper | None = None) -> House:
    """A house whose engine has the grammar."""
    store = GrammarStore(lambda data: grammar.load_grammar(data, VOCABULARY), 1 << 30)
    store.add(Plan(GRAMMAR.fingerprint, GRAMMAR.to_bytes()))
    return house(
        runner or SlotRunner(width=len(TOKENS), pages=64, page_size=8),
        spelling=TOKENS,
        grammars=store,
        max_batch_tokens=40,
        drafter=drafter(TOKENS, encode) if drafts else None,
        helper=helper,
    )


def constrained(name: str = "r", **sampling: Any) -> Generate:
    return msgspec.structs.replace(
        request(name, **{"max_tokens": 80, "temperature": 1.0, **sampling}), grammar=GRAMMAR.fingerprint
    )


def text_of(answer: Answer) -> str:
    return b"".join(TOKENS[token] for token in answer.ids).decode()


@pytest.mark.parametrize("seed", range(6))
def test_what_comes_out_is_valid_and_ends_by_itself(seed: int) -> None:
    answer = drive(made(), [constrained(seed=seed)])["r"]
    jsonschema.validate(json.loads(text_of(answer)), SCHEMA)
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.EOS


@pytest.mark.parametrize("spare", [0, 1, 7])
def test_the_budget_is_kept_however_small(spare: int) -> None:
    budget = GRAMMAR.least_budget + spare
    for seed in range(5):
        answer = drive(made(), [constrained(seed=seed, max_tokens=budget)])["r"]
        jsonschema.validate(json.loads(text_of(answer)), SCHEMA)
        assert len([token for token in answer.ids if token]) <= budget
        assert answer.finish is not None
        assert answer.finish.closed_by_budget or spare == 7


def test_a_budget_that_is_too_small_is_refused_with_the_least_one() -> None:
    failure = drive(made(), [constrained(max_tokens=GRAMMAR.least_budget - 1)])["r"].failure
    assert failure is not None
    assert failure.code is ErrorCode.BUDGET_TOO_SMALL
    assert str(GRAMMAR.least_budget) in failure.message


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_drafts_change_nothing_but_the_number_of_steps(temperature: float, penalty: float) -> None:
    text = '{"name": "abé", "age": 1212, "ok": true}'
    wanted = [
        constrained(f"r{seed}", seed=seed, temperature=temperature, frequency_penalty=penalty) for seed in range(3)
    ]
    for runner in (SlotRunner(width=len(TOKENS), pages=64, page_size=8), TellingRunner(text)):
        plain, guessing = made(runner, drafts=False), made(runner)
        without, with_drafts = drive(plain, wanted), drive(guessing, wanted)
        for one in wanted:
            assert without[one.request_id].tokens == with_drafts[one.request_id].tokens
    assert guessing.loop.stats().steps < 0.8 * plain.loop.stats().steps, "the telling model writes what was guessed"


def test_marked_output_is_the_same_with_drafts_and_after_a_resumption() -> None:
    marked = msgspec.structs.replace(constrained(seed=3), mark=Mark(scheme="gumbel", key_id="test"))
    without, with_drafts = drive(made(drafts=False), [marked])["r"], drive(made(), [marked])["r"]
    assert without.tokens == with_drafts.tokens
    assert _without_guesses(without.finish) == _without_guesses(with_drafts.finish)
    for cut in (3, 9, len(without.ids) - 1):
        resumed = drive(made(), [msgspec.structs.replace(marked, emitted=without.ids[:cut])])["r"]
        assert resumed.ids == without.ids[cut:]
        assert resumed.finish is not None
        assert resumed.finish.mark.eligible == (without.finish.mark.eligible if without.finish else None)


def _without_guesses(finish: Finish | None) -> Finish:
    assert finish is not None
    return msgspec.structs.replace(finish, passes=0, guessed=[])


def test_only_string_content_is_eligible_for_the_mark() -> None:
    marked = msgspec.structs.replace(constrained(seed=5), mark=Mark(scheme="gumbel", key_id="test"))
    answer = drive(made(), [marked])["r"]
    text, inside = "", list[bool]()
    for token in answer.tokens:
        head = text.split('": "')
        inside.append(len(head) == 2 and '"' not in head[1])
        text += TOKENS[token.token_id].decode("utf-8", "replace")
    assert not any(token.eligible and not stands for token, stands in zip(answer.tokens, inside, strict=True))


def test_masks_filled_beside_the_forward_pass_are_the_same() -> None:
    """By a helper thread, with drafts, budgets, marks and free requests; what fails in it fails its own request."""
    wanted = [constrained(f"r{seed}", seed=seed, max_tokens=30 + seed) for seed in range(4)]
    wanted[2] = msgspec.structs.replace(wanted[2], mark=Mark(scheme="gumbel", key_id="test"))
    wanted.append(request("free", [5, 6], max_tokens=20, min_tokens=15, temperature=1.0))
    alone = drive(made(), wanted)
    with ThreadPoolExecutor(1) as thread:
        beside = drive(made(helper=MaskHelper(thread, worth_s=0.0)), wanted)
    for one in wanted:
        assert beside[one.request_id].tokens == alone[one.request_id].tokens
        assert beside[one.request_id].finish == alone[one.request_id].finish


def test_a_stop_string_closes_the_text_instead_of_cutting_it() -> None:
    found = 0
    for seed in range(8):
        free = drive(made(), [constrained(seed=seed)])["r"]
        stopped = drive(made(), [constrained(seed=seed, stop=(b'"age',))])["r"]
        jsonschema.validate(json.loads(text_of(stopped)), SCHEMA)
        assert len(stopped.ids) <= len(free.ids)
        assert stopped.finish is not None
        assert (stopped.finish.reason, stopped.finish.stop) == (FinishReason.STOP, b'"age')
        found += len(stopped.ids) < len(free.ids)
    assert found, "some text had more to say"


def test_log_probs_under_the_constraint() -> None:
    answer = drive(made(), [constrained(seed=1)])["r"]
    for token in answer.tokens:
        assert token.constrained_logprob == pytest.approx(token.logprob - np.log(token.legal_mass), abs=1e-4)
        assert not token.forced or token.constrained_logprob == pytest.approx(0.0, abs=1e-5)
        assert token.logprob <= 0.0
        assert token.constrained_logprob <= 0.0


def test_legal_mass_is_that_of_the_grammars_own_mask() -> None:
    """In company, with budgets and drafts: each row got the mask of its own position."""
    wanted = [constrained(f"r{seed}", seed=seed, max_tokens=30 + seed) for seed in range(4)]
    row = np.zeros(VOCABULARY.words, np.int32)
    for name, answer in drive(made(), wanted).items():
        matcher, context = GRAMMAR.matcher(), [1, 2, 3]
        for token in answer.tokens:
            matcher.fill_mask(row)
            legal = np.unpackbits(row.view(np.uint8), bitorder="little")[: len(TOKENS)].astype(bool)
            said = logits_of(context, len(TOKENS)).astype(np.float64)
            mass = np.exp(said[legal]).sum() / np.exp(said).sum()
            assert token.legal_mass == pytest.approx(mass, rel=1e-5), name
            assert matcher.advance(token.token_id)
            context.append(token.token_id)


def test_a_grammar_goes_when_nobody_uses_it_and_the_limit_is_reached() -> None:
    store = GrammarStore(lambda data: grammar.load_grammar(data, VOCABULARY), 0)
    store.add(Plan(GRAMMAR.fingerprint, GRAMMAR.to_bytes()))
    store.open(GRAMMAR.fingerprint)
    other = grammar.compile_choice(["yes", "no"], VOCABULARY)
    store.add(Plan(other.fingerprint, other.to_bytes()))
    assert len(store) == 2, "one is in use, the other was just brought"
    store.close(GRAMMAR.fingerprint)
    store.evict()
    assert len(store) == 1
