"""Speculation changes the number of steps and nothing else: every token, log-prob and ending is as without it."""

from __future__ import annotations

import json
from collections.abc import Sequence as Items
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import grammar
from engine.batch import StepBatch
from engine.continued import Continued
from engine.grammars import GrammarStore
from engine.messages import ErrorCode, Finish, Generate, Mark, Plan
from engine.model.heads import Foreseen
from engine.sequence import Sequence
from engine.speculation.speculation import Seer
from tests.engine.houses import Answer, House, drafter, drive, house, request
from tests.engine.slots import SlotRunner
from tests.engine.test_constrained import TOKENS, VOCABULARY, encode
from tests.strategies.schemas import core, objects

PROMPT = encode('Anna is 12 and true to her name, "ab". Anna is 12 and 121212. ab ab ab é é')
OPTIONS: dict[str, str] = {"property_order": "schema", "whitespace": "spaced"}


class CopyingRunner(SlotRunner):
    """A model that likes to go on as its text went on when the last token stood there before."""

    def __init__(self, pages: int = 200) -> None:
        super().__init__(width=len(TOKENS), pages=pages, page_size=8)

    def _row(self, batch: StepBatch, token: int) -> NDArray[np.float32]:
        row = super()._row(batch, token).copy()
        context = self._context(batch, token)
        for at in range(len(context) - 2, -1, -1):
            if context[at] == context[-1]:
                row[context[at + 1]] += 10
                break
        return row

    def _context(self, batch: StepBatch, token: int) -> list[int]:
        sequence = int(np.searchsorted(batch.query_starts, token, side="right")) - 1
        length = int(batch.positions[token]) + 1
        pages = batch.page_table[sequence, : -(-length // self.info.page_size)]
        context: list[int] = self.cache[pages].reshape(-1)[:length].tolist()
        return context


def made(
    *grammars: grammar.Grammar,
    guesses: int,
    pages: int = 200,
    runner: SlotRunner | None = None,
    seer: Seer | None = None,
    drafting: SlotRunner | None = None,
) -> House:
    store = GrammarStore(lambda data: grammar.load_grammar(data, VOCABULARY), 1 << 30)
    for each in grammars:
        store.add(Plan(each.fingerprint, each.to_bytes()))
    return house(
        runner or CopyingRunner(pages),
        spelling=TOKENS,
        grammars=store,
        max_batch_tokens=40,
        drafter=drafter(TOKENS, encode, guesses) if guesses else None,
        seer=seer,
        drafting=drafting,
    )


class Foretelling:
    """Heads that know what one request will say; now and then they are wrong."""

    def __init__(self, runner: SlotRunner, answer: list[int], prompt: int) -> None:
        self.runner, self.answer, self.prompt, self.asked = runner, answer, prompt, 0

    def look(self, rows: Items[int]) -> Foreseen:
        self.asked += 1
        batch = self.runner.batches[-1]
        behind = int(batch.positions[batch.logit_rows[rows[0]]]) + 2 - self.prompt  # of the token drawn from the row
        rest = self.answer[behind : behind + 3]
        tokens = np.full((len(rows), 3, 2), 70, np.int64)
        if self.asked % 4:
            tokens[0, : len(rest), 0] = rest
        return Foreseen(tokens, np.full(tokens.shape, 0.8, np.float32))


def alike(plain: Answer, guessing: Answer) -> None:
    assert plain.tokens == guessing.tokens
    assert plain.failure == guessing.failure
    assert _told(plain.finish) == _told(guessing.finish)


def _told(finish: Finish | None) -> Finish | None:
    return None if finish is None else msgspec.structs.replace(finish, passes=0, guessed=[])


samplings = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 50),
        "max_tokens": st.integers(20, 60),
        "temperature": st.sampled_from([0.0, 0.7, 1.0]),
        "top_p": st.sampled_from([1.0, 0.8]),
        "repetition_penalty": st.sampled_from([1.0, 1.2]),
        "frequency_penalty": st.sampled_from([0.0, 0.4]),
        "min_tokens": st.integers(0, 20),
        "top_logprobs": st.sampled_from([0, 2]),
        "stop": st.sampled_from([(), (b"12",), (b'"', b"ab")]),
        "stop_token_ids": st.sampled_from([(), (PROMPT[3],)]),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(samplings, min_size=1, max_size=4), st.booleans(), st.sampled_from([1, 3, 16]))
def test_free_text_is_the_same(wanted: list[dict[str, Any]], marked: bool, guesses: int) -> None:
    requests = [request(f"r{place}", PROMPT[place:], **each) for place, each in enumerate(wanted)]
    if marked:
        requests = [msgspec.structs.replace(each, mark=Mark(scheme="gumbel", key_id="test")) for each in requests]
    plain, guessing = drive(made(guesses=0), requests), drive(made(guesses=guesses), requests)
    for each in requests:
        alike(plain[each.request_id], guessing[each.request_id])


@settings(max_examples=40, deadline=None)
@given(st.one_of(core(), objects(core(1))), st.lists(samplings, min_size=1, max_size=3), st.booleans())
def test_text_under_any_schema_is_the_same(schema: Any, wanted: list[dict[str, Any]], marked: bool) -> None:
    try:
        constraint = grammar.compile_json_schema(schema, VOCABULARY, **OPTIONS)
    except grammar.GrammarError:
        return
    requests = [
        Generate(
            request_id=f"r{place}",
            prompt=PROMPT[place:],
            sampling=request(**each).sampling,
            grammar=constraint.fingerprint,
            mark=Mark(scheme="gumbel", key_id="test") if marked else None,
        )
        for place, each in enumerate(wanted)
    ]
    plain, guessing = drive(made(constraint, guesses=0), requests), drive(made(constraint, guesses=16), requests)
    for each in requests:
        alike(plain[each.request_id], guessing[each.request_id])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_sequences_that_give_way_are_the_same_and_nobody_gives_way_to_a_guess(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are pages for two of four requests at their full length."""
    requests = [
        request(f"r{place}", PROMPT[place:], max_tokens=60, seed=place, temperature=temperature, ignore_eos=True)
        for place in range(4)
    ]
    plain, guessing = made(guesses=0, pages=32), made(guesses=16, pages=32)
    scheduler, preempt = guessing.scheduler, guessing.scheduler.preempt

    def checked(sequence: Sequence) -> None:
        size = scheduler.pool.page_size
        assert sum(-(-len(one.tokens) // size) for one in scheduler.running) > scheduler.pool.count
        preempt(sequence)

    monkeypatch.setattr(scheduler, "preempt", checked)
    without, with_guesses = drive(plain, requests), drive(guessing, requests)
    for each in requests:
        alike(without[each.request_id], with_guesses[each.request_id])
    assert plain.scheduler.preemptions > 0
    assert scheduler.preemptions > 0


def test_a_resumed_request_goes_on_the_same() -> None:
    whole = drive(made(guesses=16), [request("r", PROMPT, max_tokens=50, temperature=1.0, seed=3)])["r"]
    for cut in (1, 7, 20):
        again = request("r", PROMPT, max_tokens=50, temperature=1.0, seed=3)
        rest = drive(made(guesses=16), [msgspec.structs.replace(again, emitted=whole.ids[:cut])])["r"]
        assert rest.ids == whole.ids[cut:]


@pytest.mark.parametrize("jump", [False, True])
def test_over_all_lives_each_pass_brings_one_token_and_those_that_were_guessed(*, jump: bool) -> None:
    """Wherever the engine dies, the end tells of all lives as it would have told of one."""
    constraint = grammar.compile_json_schema(SCHEMA, VOCABULARY, **OPTIONS)
    wanted = request("r", PROMPT, max_tokens=60, temperature=1.0, seed=3)
    wanted = msgspec.structs.replace(wanted, grammar=constraint.fingerprint, jump=jump)
    whole = drive(made(constraint, guesses=16), [wanted])["r"]
    assert whole.finish is not None
    for cut in range(1, len(whole.outputs)):
        lives = Continued(wanted, 0.0)
        for outputs in (
            whole.outputs[:cut],
            drive(made(constraint, guesses=16), [_after(wanted, whole, cut)])["r"].outputs,
        ):
            lives.sent(0.0)
            told = [lives.take(output, 0.0) for output in outputs][-1].finish
            if told is None:
                lives.lost(0.0)
        assert told is not None
        assert lives.emitted == whole.ids
        assert told.jumped_tokens == whole.finish.jumped_tokens
        assert (told.jumped_tokens > 0) == jump
        if not jump:  # of tokens jumped over, a pass brings more; one that ends with a guess brings no token besides
            assert told.passes + sum(each.accepted for each in told.guessed) - len(whole.ids) in {0, 1}


def _after(wanted: Generate, whole: Answer, cut: int) -> Generate:
    """What a life is asked for whose predecessor was heard of `cut` times."""
    ids = [token.token_id for output in whole.outputs[:cut] for token in output.tokens]
    return msgspec.structs.replace(wanted, emitted=ids)


def test_what_came_of_the_guesses_is_told() -> None:
    wanted = request("r", PROMPT, max_tokens=60, ignore_eos=True)
    plain, guessing = drive(made(guesses=0), [wanted])["r"].finish, drive(made(guesses=16), [wanted])["r"].finish
    assert plain is not None
    assert guessing is not None
    assert (plain.passes, plain.guessed) == (60, [])
    (report,) = guessing.guessed
    assert report.proposer == "ngram"
    assert guessing.passes + report.accepted == 60, "each pass brings one token, and those that were guessed"
    assert report.accepted > 20
    assert report.accepted <= report.proposed


def test_a_guess_stops_at_the_last_token_that_may_follow() -> None:
    """No position is verified behind which nothing would be drawn."""
    the_house = made(guesses=16)
    drive(the_house, [request("r", PROMPT, max_tokens=12, ignore_eos=True)])
    runner = the_house.runner
    assert isinstance(runner, CopyingRunner)
    assert max(int(batch.context_lengths.max()) for batch in runner.batches) <= len(PROMPT) + 11


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_heads_that_see_ahead_save_passes_and_change_nothing(temperature: float) -> None:
    wanted = request("r", encode("Anna"), max_tokens=60, temperature=temperature, seed=4, ignore_eos=True)
    plain = drive(made(guesses=0), [wanted])["r"]
    runner = CopyingRunner()
    seen = drive(made(guesses=16, runner=runner, seer=Foretelling(runner, plain.ids, 4)), [wanted])["r"]
    alike(plain, seen)
    assert seen.finish is not None
    reports = {each.proposer: each for each in seen.finish.guessed}
    assert reports["heads"].accepted > 20
    assert seen.finish.passes < 35


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "maximum": 999}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("guesses", [1, 3, 16])
@pytest.mark.parametrize("stop", [(), (b"age",)])
def test_jumping_takes_forced_text_as_it_is_usually_spelled(guesses: int, stop: tuple[bytes, ...]) -> None:
    """Whatever a pass has room for; where the model would have spelled it so, nothing changes."""
    constraint = grammar.compile_json_schema(SCHEMA, VOCABULARY, **OPTIONS)
    usual = encode('{"name": "')[:-1]
    others = 0
    for seed in range(6):
        plain = msgspec.structs.replace(
            request("r", PROMPT, seed=seed, temperature=1.0, max_tokens=60, stop=stop), grammar=constraint.fingerprint
        )
        jumping = msgspec.structs.replace(plain, jump=True)
        first = drive(made(constraint, guesses=16), [jumping])["r"]
        again = drive(made(constraint, guesses=guesses), [jumping])["r"]
        assert first.tokens == again.tokens
        assert first.ids[: len(usual)] == usual
        assert first.finish is not None
        assert first.finish.jumped_tokens >= len(usual)
        json.loads(b"".join(TOKENS[token] for token in first.ids))
        drawn = drive(made(constraint, guesses=16), [plain])["r"]
        others += drawn.ids[: len(usual)] != usual
        resumed = drive(made(constraint, guesses=16), [msgspec.structs.replace(jumping, emitted=first.ids[:2])])["r"]
        assert resumed.ids == first.ids[2:]
    assert others, "the imaginary model spells otherwise when it may"


def test_what_is_jumped_over_goes_by_the_text_alone() -> None:
    """However far drafts reach and wherever a life ends: else a token more or less would shift all later draws."""
    names = ("xy", "name", "age", "true", "null", "false")
    schema = {**SCHEMA, "properties": {name: {"type": "string", "maxLength": 8} for name in names}, "required": names}
    constraint = grammar.compile_json_schema(json.loads(json.dumps(schema)), VOCABULARY, **OPTIONS)
    prompt = encode('"ab", "ab", "ab", "12", "12", "ab", "ab" ')
    for seed in (0, 1, 13):
        wanted = request("r", prompt, seed=seed, temperature=1.0, max_tokens=150)
        wanted = msgspec.structs.replace(wanted, grammar=constraint.fingerprint, jump=True)
        whole, *others = (drive(made(constraint, guesses=guesses), [wanted])["r"] for guesses in (16, 1, 3))
        assert whole.finish is not None
        assert whole.finish.jumped_tokens > 5
        for other in others:
            assert other.ids == whole.ids
            assert other.finish is not None
            assert other.finish.jumped_tokens == whole.finish.jumped_tokens
        for cut in range(1, len(whole.outputs)):
            after = _after(wanted, whole, cut)
            assert after.emitted + drive(made(constraint, guesses=16), [after])["r"].ids == whole.ids


def test_jumping_keeps_the_budget() -> None:
    constraint = grammar.compile_json_schema(SCHEMA, VOCABULARY, **OPTIONS)
    for spare in range(3):
        wanted = request("r", PROMPT, temperature=1.0, max_tokens=constraint.least_budget + spare)
        wanted = msgspec.structs.replace(wanted, grammar=constraint.fingerprint, jump=True)
        answer = drive(made(constraint, guesses=16), [wanted])["r"]
        json.loads(b"".join(TOKENS[token] for token in answer.ids))
        assert len([token for token in answer.ids if token]) <= constraint.least_budget + spare


def test_an_engine_that_does_not_guess_cannot_jump() -> None:
    wanted = msgspec.structs.replace(request("r", PROMPT), jump=True)
    failure = drive(made(guesses=0), [wanted])["r"].failure
    assert failure is not None
    assert failure.code is ErrorCode.BAD_REQUEST


class Nearly(CopyingRunner):
    """A draft model: the served one, with noise on its logits.

    Shared pages may hold tokens that were decoded without it; it reads whatever stands there, and guesses worse.
    """

    def _row(self, batch: StepBatch, token: int) -> NDArray[np.float32]:
        np.maximum(self.cache, 0, out=self.cache)
        row = super()._row(batch, token)
        return row + np.roll(row, 7) * np.float32(0.15)


@settings(max_examples=25, deadline=None)
@given(st.lists(samplings, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_a_draft_model_changes_nothing(wanted: list[dict[str, Any]], marked: bool, under_schema: bool) -> None:
    """With and without a grammar, in company, marked or not, and where pages run out."""
    constraint = grammar.compile_json_schema(SCHEMA, VOCABULARY, **OPTIONS)
    requests = [
        msgspec.structs.replace(
            request(f"r{place}", PROMPT[place:], **each),
            grammar=constraint.fingerprint if under_schema else None,
            mark=Mark(scheme="gumbel", key_id="test") if marked else None,
        )
        for place, each in enumerate(wanted)
    ]
    plain = drive(made(constraint, guesses=0, pages=32), requests)
    drafted = drive(made(constraint, guesses=16, pages=32, drafting=Nearly(32)), requests)
    for each in requests:
        alike(plain[each.request_id], drafted[each.request_id])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_model_that_is_the_model_itself_is_always_right(temperature: float) -> None:
    """Same logits, same noise: each of its guesses is what is drawn, so its cache holds what it should."""
    requests = [
        request(f"r{place}", [9 + place, 8, 7], max_tokens=40, seed=place, temperature=temperature, ignore_eos=True)
        for place in range(3)
    ]
    plain, drafting = drive(made(guesses=0), requests), CopyingRunner()
    drafted = drive(made(guesses=16, drafting=drafting), requests)
    for each in requests:
        alike(plain[each.request_id], drafted[each.request_id])
        finish = drafted[each.request_id].finish
        assert finish is not None
        (report,) = [one for one in finish.guessed if one.proposer == "model"]
        assert report.accepted == report.proposed > 10
        assert finish.passes < 20
