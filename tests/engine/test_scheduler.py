"""Scheduler, pages and loop under random arrivals, cancellations and sizes, against each request alone."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.batch import StepBatch
from engine.messages import FinishReason, Generate
from tests.engine.houses import Answer, House, drive, house, note, request
from tests.engine.slots import SlotRunner

PAGES = 14


class WatchedRunner(SlotRunner):
    """Checks what a step may never do."""

    def run(self, batch: StepBatch) -> Any:
        assert len(batch.token_ids) <= self.most_tokens, "a step holds more tokens than its budget"
        assert len(set(batch.slots.tolist())) == len(batch.slots), "two tokens go to one place"
        written = {int(slot) // self.info.page_size for slot in batch.slots}
        for row, length in zip(batch.page_table, batch.context_lengths.tolist(), strict=True):
            pages = row[: -(-length // self.info.page_size)].tolist()
            assert len(set(pages)) == len(pages), "a sequence has one page twice"
        for page in written:
            holders = sum(int(page in row) for row in batch.page_table)
            assert holders == 1 or page == 0, "a page is written while another sequence reads it"
        return super().run(batch)

    most_tokens = 0


@st.composite
def requests_of_one_prompt(draw: st.DrawFn) -> tuple[int, Generate]:
    """How many, and which; beginnings are shared between them."""
    rest = draw(st.lists(st.integers(1, 3), min_size=1, max_size=12))
    made = request(
        prompt=[*range(1, 1 + draw(st.integers(0, 10))), *rest],
        max_tokens=draw(st.integers(1, 12)),
        temperature=draw(st.sampled_from([0.0, 0.9])),
        prompt_logprobs=draw(st.sampled_from([None, None, 0])),
    )
    tenant, priority = draw(st.sampled_from("ab")), draw(st.integers(0, 1))
    return draw(st.integers(1, 3)), msgspec.structs.replace(made, tenant=tenant, priority=priority)


class EngineMachine(RuleBasedStateMachine):
    """Requests arrive, steps run, clients go away; whatever is left at the end must have got what it gets alone."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[str, Generate] = {}
        self.answers: dict[str, Answer] = {}
        self.house: House = house()
        self.decoding_before: set[str] = set()

    @initialize(most_tokens=st.integers(4, 20), most=st.integers(1, 4), sharing=st.booleans())
    def begin(self, most_tokens: int, most: int, sharing: bool) -> None:
        runner = WatchedRunner(pages=PAGES)
        runner.most_tokens = max(most_tokens, most)
        self.house = house(runner, max_batch_tokens=most_tokens, max_sequences=most, max_waiting=6, sharing=sharing)

    @rule(one=requests_of_one_prompt())
    def arrive(self, one: tuple[int, Generate]) -> None:
        """As many candidates of one prompt as are asked for (n > 1)."""
        count, made = one
        for candidate in range(count):
            name = f"r{len(self.wanted)}"
            sampling = msgspec.structs.replace(made.sampling, seed=candidate)
            self.wanted[name] = msgspec.structs.replace(made, request_id=name, sampling=sampling)
            self.answers[name] = Answer()
            note(self.answers, self.house.loop.generate(self.wanted[name]))

    @precondition(lambda self: not self.house.loop.is_idle)
    @rule(count=st.integers(1, 4))
    def step(self, count: int) -> None:
        for _ in range(count):
            decoding = {one.request_id for one in self.house.scheduler.running if one.decoding}
            preempted, served = self.house.scheduler.preemptions, set()
            events = self.house.loop.step()
            note(self.answers, events)
            served = {event.request_id for event in events}
            if self.house.scheduler.preemptions == preempted:
                assert decoding <= served, "a decoding sequence waited for a step"

    @precondition(lambda self: not self.house.loop.is_idle)
    @rule(which=st.integers(0, 100))
    def go_away(self, which: int) -> None:
        open_ = [name for name, answer in self.answers.items() if answer.finish is None and answer.failure is None]
        name = open_[which % len(open_)]
        self.house.loop.abort(name)
        del self.answers[name], self.wanted[name]
        self.wanted[f"gone{len(self.wanted)}-{name}"] = request()  # keeps names unique

    @invariant()
    def books_balance(self) -> None:
        scheduler = self.house.scheduler
        scheduler.pool.check()
        held = {page for one in scheduler.running for page in one.pages}
        assert scheduler.pool.held == len(held), "pages are held by nobody"
        assert not any(one.pages for one in scheduler.waiting), "who waits holds no pages"
        assert len(scheduler.running) <= scheduler._max_sequences

    def teardown(self) -> None:
        for _ in range(2000):
            if self.house.loop.is_idle:
                break
            note(self.answers, self.house.loop.step())
            self.books_balance()
        assert self.house.loop.is_idle, "some request never ends"
        assert self.house.scheduler.pool.held == 0
        for name, answer in self.answers.items():
            if answer.failure is None:
                alone = drive(house(SlotRunner(pages=PAGES), sharing=False), [self.wanted[name]])[name]
                assert answer.tokens == alone.tokens
                assert answer.finish is not None
                assert answer.finish.reason in (FinishReason.EOS, FinishReason.LENGTH)


EngineMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestEngine = EngineMachine.TestCase


def finished_order(made: House) -> list[str]:
    order: list[str] = []
    while not made.loop.is_idle:
        order += [event.request_id for event in made.loop.step() if getattr(event, "finish", None) is not None]
    return order


def test_tenants_get_the_same_however_many_requests_each_sends() -> None:
    """Ten of one tenant against two of another, all alike: the two are done by the time four of the ten are."""
    made = house(SlotRunner(pages=64), max_sequences=1, max_waiting=20, sharing=False)
    for index in range(10):
        one = request(f"many{index}", [1, 2, 3], max_tokens=4, ignore_eos=True)
        made.loop.generate(msgspec.structs.replace(one, tenant="many"))
    for index in range(2):
        one = request(f"few{index}", [1, 2, 3], max_tokens=4, ignore_eos=True)
        made.loop.generate(msgspec.structs.replace(one, tenant="few"))
    order = finished_order(made)
    assert order.index("few1") <= 4


def test_a_tenant_gains_nothing_by_staying_away() -> None:
    """Who comes back is served in turn, and not for all the time that it did not ask."""
    made = house(SlotRunner(pages=64), max_sequences=1, max_waiting=40, sharing=False)
    for index in range(8):
        one = request(f"busy{index}", [1, 2], max_tokens=4, ignore_eos=True)
        made.loop.generate(msgspec.structs.replace(one, tenant="busy"))
    for _ in range(12):
        made.loop.step()
    for index in range(8):
        one = request(f"late{index}", [1, 2], max_tokens=4, ignore_eos=True)
        made.loop.generate(msgspec.structs.replace(one, tenant="late"))
    order = finished_order(made)
    assert [name[:4] for name in order[:6]].count("late") <= 4


def test_a_long_prompt_does_not_hold_up_those_who_decode() -> None:
    """It comes in chunks of what the step has left; each decoding sequence gets its token in each step."""
    made = house(SlotRunner(pages=64), max_batch_tokens=6, max_sequences=4)
    answers = {name: Answer() for name in ("a", "b", "long")}
    for name in ("a", "b"):
        note(answers, made.loop.generate(request(name, [1, 2], max_tokens=30, ignore_eos=True)))
    while not all(answers[name].ids for name in ("a", "b")):
        note(answers, made.loop.step())
    note(answers, made.loop.generate(request("long", [3] * 40, max_tokens=2)))
    before = [len(answers[name].ids) for name in ("a", "b")]
    for _ in range(5):
        note(answers, made.loop.step())
    assert [len(answers[name].ids) for name in ("a", "b")] == [count + 5 for count in before]
    assert not answers["long"].ids, "forty tokens at four a step"


def test_whoever_is_more_urgent_keeps_its_pages() -> None:
    """Out of pages, the least urgent gives way, and goes on later with the same tokens."""
    made = house(SlotRunner(pages=8), max_sequences=2)
    answers = {"low": Answer(), "high": Answer()}
    note(answers, made.loop.generate(request("low", [1] * 4, max_tokens=20, ignore_eos=True)))
    high = msgspec.structs.replace(request("high", [2] * 4, max_tokens=20, ignore_eos=True), priority=5)
    note(answers, made.loop.generate(high))
    ended: list[str] = []
    while not made.loop.is_idle:
        events = made.loop.step()
        note(answers, events)
        ended += [event.request_id for event in events if getattr(event, "finish", None) is not None]
    assert made.scheduler.preemptions > 0
    assert ended == ["high", "low"]
    assert len(answers["low"].ids) == len(answers["high"].ids) == 20
