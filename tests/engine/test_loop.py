"""The loop: what a request gives does not depend on who else is there, and nothing is lost or leaked."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from engine.batch import StepBatch
from engine.messages import ErrorCode, FinishReason, Generate, Mark
from tests.engine.houses import Answer, drive, house, note, request
from tests.engine.slots import SlotRunner, logits_of
from watermark import SCHEMES


def greedy(prompt: list[int], count: int, width: int = 64) -> list[int]:
    """What the imaginary model says, step by step, without cache or batch."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(logits_of(tokens, width))))
        if tokens[-1] == 0:
            break
    return tokens[len(prompt) :]


def test_greedy_output_is_the_models_own() -> None:
    answer = drive(house(), [request(prompt=[5, 6, 7], max_tokens=20)])["r"]
    assert answer.ids == greedy([5, 6, 7], 20)


def test_log_probs_are_those_of_the_raw_logits() -> None:
    answer = drive(house(), [request(prompt=[5, 6], max_tokens=5, top_logprobs=4, temperature=0.7)])["r"]
    tokens = [5, 6]
    for token in answer.tokens:
        expected = torch.log_softmax(torch.from_numpy(logits_of(tokens, 64)), dim=-1)
        assert token.logprob == pytest.approx(float(expected[token.token_id]), abs=1e-5)
        assert token.constrained_logprob == token.logprob
        assert token.legal_mass == 1.0
        best = torch.topk(expected, 4)
        assert [one.token_id for one in token.alternatives] == best.indices.tolist()
        assert [one.logprob for one in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-5)
        tokens.append(token.token_id)


@pytest.mark.parametrize("count", [1, 2, 39])
def test_prompt_log_probs_come_once_with_the_first_output(count: int) -> None:
    prompt = list(range(1, 1 + count))
    answer = drive(house(), [request(prompt=prompt, prompt_logprobs=2, max_tokens=3)])["r"]
    first, *rest = answer.outputs
    assert first.prompt is not None
    assert all(output.prompt is None for output in rest)
    assert [token.token_id for token in first.prompt] == prompt
    assert first.prompt[0].logprob is None
    for index, token in enumerate(first.prompt[1:], 1):
        expected = torch.log_softmax(torch.from_numpy(logits_of(prompt[:index], 64)), dim=-1)
        assert token.logprob == pytest.approx(float(expected[prompt[index]]), abs=1e-5)
        assert len(token.alternatives) == 2


@st.composite
def requests(draw: st.DrawFn) -> list[Generate]:
    """Requests of all sizes that share beginnings, tenants and seeds, marked and unmarked."""
    count = draw(st.integers(1, 7))
    made = []
    for index in range(count):
        stem = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10][: draw(st.integers(0, 10))]
        prompt = stem + draw(st.lists(st.integers(1, 5), min_size=0 if stem else 1, max_size=14))
        one = request(
            f"r{index}",
            prompt,
            max_tokens=draw(st.integers(1, 12)),
            temperature=draw(st.sampled_from([0.0, 0.8, 1.0])),
            top_p=draw(st.sampled_from([1.0, 0.7])),
            top_k=draw(st.sampled_from([None, 5])),
            frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
            seed=draw(st.integers(0, 3)),
        )
        made.append(
            msgspec.structs.replace(
                one,
                tenant=draw(st.sampled_from(["a", "b"])),
                priority=draw(st.integers(0, 1)),
                mark=draw(st.sampled_from([None, *(Mark(scheme=name, key_id="test") for name in SCHEMES)])),
            )
        )
    return made


@given(requests(), st.integers(8, 20), st.integers(4, 20), st.integers(1, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_request_ends_as_if_it_were_alone(
    wanted: list[Generate], pages: int, max_batch_tokens: int, max_sequences: int, sharing: bool
) -> None:
    """Whatever the batch, the chunks, the shared pages and the preemptions."""
    together = drive(
        house(
            SlotRunner(pages=pages),
            max_batch_tokens=max_batch_tokens,
            max_sequences=max_sequences,
            sharing=sharing,
        ),
        wanted,
    )
    for one in wanted:
        alone = drive(house(SlotRunner(pages=pages), sharing=False), [one])[one.request_id]
        assert alone.finish is not None
        assert together[one.request_id].ids == alone.ids
        assert together[one.request_id].tokens == alone.tokens


@given(requests(), st.data())
@settings(max_examples=30, deadline=None)
def test_cancelling_gives_all_pages_back_and_disturbs_nobody(wanted: list[Generate], data: st.DataObject) -> None:
    made = house(SlotRunner(pages=12))
    answers = {one.request_id: Answer() for one in wanted}
    for one in wanted:
        note(answers, made.loop.generate(one))
    victim = data.draw(st.sampled_from(wanted)).request_id
    for _ in range(data.draw(st.integers(0, 6))):
        note(answers, made.loop.step())
    made.loop.abort(victim)
    while not made.loop.is_idle:
        note(answers, made.loop.step())
        made.scheduler.pool.check()
    assert made.scheduler.pool.held == 0
    for one in wanted:
        if one.request_id != victim:
            alone = drive(house(SlotRunner(pages=12), sharing=False), [one])[one.request_id]
            assert answers[one.request_id].ids == alone.ids


@pytest.mark.parametrize("steps", range(7))
def test_what_was_cancelled_holds_no_page_when_the_next_step_begins(steps: int) -> None:
    """Waiting, with its prompt in pieces, decoding: the process reads an abort between two steps."""
    made = house(SlotRunner(pages=12))
    made.loop.generate(request("r", list(range(1, 12)), max_tokens=20, ignore_eos=True))
    for _ in range(steps):
        made.loop.step()
    assert (made.scheduler.pool.held > 0) == (steps > 0)
    made.loop.abort("r")
    assert made.scheduler.pool.held == 0
    assert made.loop.is_idle


def test_pages_run_out_and_nothing_is_lost() -> None:
    made = house(SlotRunner(pages=8), max_sequences=4)
    wanted = [request(f"r{index}", [index + 1] * 3, max_tokens=20, ignore_eos=True) for index in range(4)]
    answers = drive(made, wanted)
    assert made.scheduler.preemptions > 0
    for one in wanted:
        assert len(answers[one.request_id].ids) == 20


def test_a_resumed_request_goes_on_behind_what_it_comes_with() -> None:
    whole = drive(house(), [request(max_tokens=12, temperature=1.0, seed=5, ignore_eos=True)])["r"]
    for cut in (1, 5, 11):
        part = msgspec.structs.replace(
            request(max_tokens=12, temperature=1.0, seed=5, ignore_eos=True), emitted=whole.ids[:cut]
        )
        answer = drive(house(), [part])["r"]
        assert answer.outputs[0].first == cut
        assert answer.ids == whole.ids[cut:]


def test_a_resumed_request_that_was_complete_ends_at_once() -> None:
    whole = drive(house(), [request(max_tokens=4)])["r"]
    answer = drive(house(), [msgspec.structs.replace(request(max_tokens=4), emitted=whole.ids)])["r"]
    assert answer.tokens == []
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.LENGTH


def test_the_second_of_two_equal_prompts_finds_its_pages() -> None:
    made = house(SlotRunner(pages=32))
    prompt = list(range(1, 31))
    first = drive(made, [request("one", prompt)])["one"].finish
    second = drive(made, [request("two", prompt)])["two"].finish
    assert first is not None
    assert second is not None
    assert (first.cached_tokens, second.cached_tokens) == (0, 29)


def test_candidates_of_one_prompt_that_arrive_together_share_it() -> None:
    made = house(SlotRunner(pages=40), max_batch_tokens=64)
    prompt = list(range(1, 31))
    answers = drive(made, [request(f"r{seed}", prompt, temperature=1.0, seed=seed) for seed in range(4)])
    cached = [answer.finish.cached_tokens for answer in answers.values() if answer.finish]
    assert cached == [0, 29, 29, 29]


def test_a_stop_string_ends_text_across_tokens() -> None:
    spelling = [b""] + [bytes([97 + index % 3]) for index in range(1, 64)]
    free = drive(house(spelling=spelling), [request(max_tokens=30, ignore_eos=True)])["r"]
    text = b"".join(spelling[token] for token in free.ids)
    stop = text[5:8]
    answer = drive(house(spelling=spelling), [request(max_tokens=30, ignore_eos=True, stop=(stop,))])["r"]
    assert answer.finish is not None
    assert (answer.finish.reason, answer.finish.stop) == (FinishReason.STOP, stop)
    ended = b"".join(spelling[token] for token in answer.ids)
    assert ended.endswith(stop)
    assert ended.count(stop) == 1


def test_a_stop_token_ends_text() -> None:
    free = drive(house(), [request(max_tokens=10, ignore_eos=True)])["r"]
    answer = drive(house(), [request(max_tokens=10, ignore_eos=True, stop_token_ids=(free.ids[4],))])["r"]
    assert answer.finish is not None
    assert answer.finish.stop == free.ids[4]


def test_the_end_token_is_not_drawn_before_min_tokens() -> None:
    for seed in range(20):
        answer = drive(house(SlotRunner(width=3)), [request(temperature=1.0, seed=seed, min_tokens=5)])["r"]
        assert 0 not in answer.ids[:5]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (request(prompt=[]), ErrorCode.BAD_REQUEST),
        (request(prompt=[64]), ErrorCode.BAD_REQUEST),
        (request(temperature=float("nan")), ErrorCode.BAD_REQUEST),
        (request(top_p=0.0), ErrorCode.BAD_REQUEST),
        (request(logit_bias={99: 1.0}), ErrorCode.BAD_REQUEST),
        (request(prompt=[1] * 64), ErrorCode.CONTEXT_LENGTH),
        (msgspec.structs.replace(request(), grammar="unheard-of"), ErrorCode.UNKNOWN_GRAMMAR),
        (msgspec.structs.replace(request(), mark=Mark(scheme="gumbel", key_id="no such key")), ErrorCode.BAD_REQUEST),
        (msgspec.structs.replace(request(), mark=Mark(scheme="nonsense", key_id="test")), ErrorCode.BAD_REQUEST),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_by_type(wrong: Generate, code: ErrorCode) -> None:
    failure = drive(house(), [wrong])["r"].failure
    assert failure is not None
    assert failure.code is code


def test_a_full_queue_refuses() -> None:
    made = house(max_waiting=2)
    answers = {f"r{index}": Answer() for index in range(3)}
    for name in answers:
        note(answers, made.loop.generate(request(name)))
    failure = answers["r2"].failure
    assert failure is not None
    assert failure.code is ErrorCode.OVERLOADED


def test_a_deadline_ends_its_request_only() -> None:
    made = house()
    answers = {"late": Answer(), "other": Answer()}
    note(answers, made.loop.generate(msgspec.structs.replace(request("late", max_tokens=30), deadline_s=1.0)))
    note(answers, made.loop.generate(request("other", [9], max_tokens=5)))
    note(answers, made.loop.step())
    made.clock.now = 2.0
    while not made.loop.is_idle:
        note(answers, made.loop.step())
    assert answers["late"].failure is not None
    assert answers["late"].failure.code is ErrorCode.DEADLINE
    assert answers["other"].ids == greedy([9], 5)


class PoisonedRunner(SlotRunner):
    """Gives NaN wherever token 63 was read."""

    def _row(self, batch: StepBatch, token: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        row = super()._row(batch, token)
        row[5] = np.nan if int(batch.token_ids[token]) == 63 else row[5]
        return row


def test_a_nan_ends_its_own_request_only() -> None:
    wanted = [request("ill", [4, 63], max_tokens=5), request("well", [7], max_tokens=5)]
    answers = drive(house(PoisonedRunner()), wanted)
    assert answers["ill"].failure is not None
    assert answers["ill"].failure.code is ErrorCode.NUMERIC
    assert answers["well"].ids == greedy([7], 5)


def test_a_drain_refuses_what_is_new_and_finishes_what_is_old() -> None:
    made = house()
    answers = {"old": Answer(), "new": Answer()}
    note(answers, made.loop.generate(request("old")))
    made.loop.drain()
    note(answers, made.loop.generate(request("new")))
    while not made.loop.is_idle:
        note(answers, made.loop.step())
    assert answers["old"].finish is not None
    assert answers["new"].failure is not None
    assert answers["new"].failure.code is ErrorCode.UNAVAILABLE


def test_a_marked_request_gives_the_same_tokens_in_any_company() -> None:
    marked = msgspec.structs.replace(
        request("marked", temperature=1.0, max_tokens=30, ignore_eos=True), mark=Mark(scheme="gumbel", key_id="test")
    )
    alone = drive(house(), [marked])["marked"]
    together = drive(
        house(SlotRunner(pages=24)), [request(f"r{index}", max_tokens=20) for index in range(3)] + [marked]
    )["marked"]
    assert alone.ids == together.ids
    assert alone.finish is not None
    assert alone.finish.mark.applied
    assert alone.finish.mark.eligible == 30
    resumed = drive(house(), [msgspec.structs.replace(marked, emitted=alone.ids[:13])])["marked"]
    assert resumed.ids == alone.ids[13:]


def test_fair_sharing_lets_a_quiet_tenant_pass_a_flood() -> None:
    made = house(max_sequences=1, sharing=False)
    flood = [msgspec.structs.replace(request(f"f{index}", max_tokens=6), tenant="flood") for index in range(6)]
    quiet = msgspec.structs.replace(request("quiet", max_tokens=6), tenant="quiet")
    order: list[str] = []
    for one in [*flood, quiet]:
        made.loop.generate(one)
    while not made.loop.is_idle:
        order += [event.request_id for event in made.loop.step() if not isinstance(event, type(None)) and event.finish]  # type: ignore[union-attr]
    assert order.index("quiet") <= 1


def test_decoding_tells_how_much_it_read() -> None:
    """Weights once a step and what the cache holds of each sequence; steps with prompts in them are not counted."""
    runner = SlotRunner()
    runner.info = msgspec.structs.replace(runner.info, weight_bytes=1000, token_bytes=10)
    made = house(runner)
    drive(made, [request(prompt=[1, 2, 3], max_tokens=3, ignore_eos=True)])
    assert made.loop.stats().decode_bytes == (1000 + 40) + (1000 + 50)


def test_the_time_between_tokens_is_counted_from_a_requests_second_on() -> None:
    """Steps a quarter of a second apart: three sequences, so three gaps of a quarter each step once all decode."""
    made = house(max_sequences=3)
    for index in range(3):
        made.loop.generate(request(str(index), prompt=[index, 1], max_tokens=4, ignore_eos=True))
    seen: list[dict[float, int]] = []
    while not made.loop.is_idle:
        made.clock.now += 0.25
        made.loop.step()
        seen.append(dict(made.loop.measures.gaps))
    assert seen == [{}, {0.25: 3}, {0.25: 3}, {0.25: 3}]


def test_a_higher_priority_goes_first() -> None:
    made = house(max_sequences=1)
    for index in range(3):
        made.loop.generate(msgspec.structs.replace(request(f"r{index}"), priority=index))
    first = made.loop.step()
    assert [event.request_id for event in first] == ["r2"]
