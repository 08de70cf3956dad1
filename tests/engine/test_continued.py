"""What a request is told at its end is of all its lives."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.continued import Continued
from engine.errors import InternalError
from engine.messages import Finish, FinishReason, Generate, Guessed, Output, Sampling, Token


def asked(**fields: object) -> Generate:
    return Generate(request_id="r", prompt=[1], sampling=Sampling(max_tokens=99, seed=1), **fields)  # type: ignore[arg-type]


def output(first: int, count: int = 1, *, finish: Finish | None = None, closed: bool = False) -> Output:
    tokens = [Token(7, -1.0, -1.0, 1.0, forced=index % 2 == 0) for index in range(first, first + count)]
    return Output(request_id="r.1", first=first, tokens=tokens, finish=finish, closed_by_budget=closed)


def ended(**fields: object) -> Finish:
    return Finish(reason=FinishReason.EOS, **fields)  # type: ignore[arg-type]


def test_an_undisturbed_request_is_told_what_its_engine_said() -> None:
    continued = Continued(asked(), 10.0)
    continued.sent(10.0)
    continued.take(output(0, 2), 12.0)
    said = ended(queue_s=0.5, prefill_s=1.5, decode_s=3.0, passes=2, forced_tokens=1)
    assert continued.take(output(2, finish=said), 15.0).finish == said


def test_seconds_of_all_lives_and_of_the_time_between_them_add_up() -> None:
    """Together they are what passed, wherever it passed."""
    continued = Continued(asked(), 0.0)
    continued.sent(1.0)
    continued.take(output(0), 3.0)  # 2 s until the first token
    continued.take(output(1, closed=True), 5.0)
    continued.lost(8.0)  # 5 s of decoding
    continued.sent(12.0)  # 4 s in between
    continued.lost(13.0)  # 1 s without a token
    continued.sent(13.5)  # 0.5 s in between
    last = ended(queue_s=0.25, prefill_s=0.75, decode_s=2.0, passes=1, forced_tokens=1)
    finish = continued.take(output(2, finish=last), 16.5).finish
    assert finish is not None
    assert (finish.queue_s, finish.prefill_s, finish.decode_s) == (4.75, 3.75, 7.0)
    assert finish.passes == 3
    assert finish.forced_tokens == 2  # every other of three
    assert finish.closed_by_budget  # as the first life saw


def test_guesses_jumps_and_passes_of_all_lives_add_up() -> None:
    """What a life told last is what it counts for; how much was found in shared pages the first one said."""
    lives = [
        ([Guessed("ngram", 4, 1)], 2), ([], 0), ([Guessed("grammar", 3, 3), Guessed("ngram", 2, 2)], 5),
    ]  # fmt: skip
    continued = Continued(asked(), 0.0)
    for number, (guessed, jumped) in enumerate(lives):
        continued.sent(0.0)
        first = output(2 * number)
        continued.take(msgspec.structs.replace(first, guessed=guessed, jumped_tokens=jumped, cached_tokens=number), 0.0)
        continued.take(msgspec.structs.replace(output(2 * number + 1), jumped_tokens=jumped), 0.0)
        continued.lost(0.0)
    continued.sent(0.0)
    last = ended(passes=1, guessed=[Guessed("heads", 1, 0)], jumped_tokens=1, cached_tokens=9)
    finish = continued.take(output(6, finish=last), 0.0).finish
    assert finish is not None
    assert finish.guessed == [Guessed("ngram", 6, 3), Guessed("grammar", 3, 3), Guessed("heads", 1, 0)]
    assert (finish.jumped_tokens, finish.passes, finish.cached_tokens) == (8, 7, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=6))
def test_however_it_is_interrupted_nothing_is_counted_twice(lives: list[tuple[int, float, float]]) -> None:
    continued, now, position = Continued(asked(emitted=[3, 4]), 0.0), 0.0, 2
    started = None
    for count, each_s, pause_s in lives:
        now += pause_s
        continued.sent(now)
        started = now if started is None else started
        for _ in range(count):
            now += each_s
            continued.take(output(position), now)
            position += 1
        now += pause_s
        continued.lost(now)
    continued.sent(now)
    finish = continued.take(output(position, finish=ended(passes=1)), now).finish
    assert finish is not None
    assert started is not None
    assert finish.queue_s + finish.prefill_s + finish.decode_s == pytest.approx(now - started)
    assert finish.passes == position - 2 + 1
    assert continued.message(now).emitted == [3, 4] + [7] * (position - 2 + 1)


def test_a_gap_and_a_repeat_are_defects_of_ours() -> None:
    for first in (0, 2, 4):
        continued = Continued(asked(), 0.0)
        continued.sent(0.0)
        continued.take(output(0, 3), 1.0)
        with pytest.raises(InternalError, match="where 3 was due"):
            continued.take(output(first), 2.0)


def test_what_is_left_of_its_time_goes_with_it() -> None:
    continued = Continued(asked(deadline_s=5.0), 100.0)
    assert continued.due == 105.0
    assert continued.message(103.0, "r.2") == msgspec.structs.replace(asked(deadline_s=2.0), request_id="r.2")
    assert continued.message(200.0).deadline_s == 0.0
