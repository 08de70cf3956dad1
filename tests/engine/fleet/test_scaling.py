"""How many replicas: quick to grow, slow to shrink, and never while it is unknown what the last change will bring."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.fleet.scaling import PrefillRate, ScalingRules, ScalingState, Signal, decide, pressure

RULES = ScalingRules(least=2, most=16, first_token_s=2.0, rise_s=15.0, fall_s=300.0)
BUSY = Signal(queued_tokens=6000, prefill_rate=1000.0)
IDLE = Signal(prefill_rate=1000.0)


def after(signals: list[Signal], replicas: int, seconds: float, rules: ScalingRules = RULES) -> int:
    """The number wanted when the same has been said for so long, once a second."""
    state = ScalingState()
    for second in range(int(seconds) + 1):
        state, wanted = decide(state, replicas, signals, float(second), rules)
        if wanted != replicas:
            return wanted
    return replicas


def test_each_of_the_three_numbers_is_a_reason() -> None:
    """1200 tokens at 1000 a second are twice the 0.6 s that a request may queue."""
    assert pressure([Signal(queued_tokens=1200, prefill_rate=1000)], RULES) == 2.0
    assert pressure([Signal(page_share=0.85)], RULES) == 1.0
    assert pressure([Signal(queue_s=0.3)], RULES) == 0.5


def test_a_queue_counts_against_the_speed_of_the_whole_fleet() -> None:
    assert pressure([Signal(queued_tokens=1200, prefill_rate=1000), IDLE], RULES) == 1.0


def test_more_are_called_for_once_pressure_has_lasted() -> None:
    assert after([BUSY] * 4, 4, RULES.rise_s - 1) == 4
    assert after([BUSY] * 4, 4, RULES.rise_s) == 8


def test_a_burst_is_no_reason() -> None:
    state = ScalingState()
    for second in range(200):
        signals = [BUSY if second % 10 else IDLE] * 4
        state, wanted = decide(state, 4, signals, float(second), RULES)
        assert wanted == 4


def test_fewer_suffice_after_a_long_calm_and_go_a_step_at_a_time() -> None:
    assert after([IDLE] * 10, 10, RULES.fall_s - 1) == 10
    assert after([IDLE] * 10, 10, RULES.fall_s) == 9


def test_those_on_their_way_are_counted() -> None:
    """Two of four are there, and busy: that is what the other two come for."""
    assert after([BUSY, BUSY], 4, 600) == 4
    assert after([IDLE, IDLE], 4, 3600) == 4


@given(
    st.lists(
        st.builds(Signal, st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 60), st.floats(0, 1), st.floats(0, 1e5)),
        max_size=20,
    ),
    st.integers(0, 40),
    st.floats(0, 1e4),
)
def test_the_bounds_hold(signals: list[Signal], replicas: int, seconds: float) -> None:
    state = ScalingState(high_since=0.0, low_since=0.0)
    _, wanted = decide(state, replicas, signals, seconds, RULES)
    assert RULES.least <= wanted <= RULES.most


def test_a_fleet_does_not_shrink_to_the_edge_of_what_it_can_carry() -> None:
    """Nothing waits, but half of its speed is taken."""
    half = Signal(busy=0.5, prefill_rate=1000.0)
    assert after([half] * 4, 4, 3600) == 4
    assert after([Signal(busy=0.1, prefill_rate=1000.0)] * 4, 4, 3600) == 3


def test_the_share_of_the_speed_is_known_when_nothing_waits() -> None:
    rate = PrefillRate(memory=1.0)
    for second, computed, waiting in ((0, 0, 900), (1, 400, 500), (2, 600, 0)):
        rate.note(float(second), computed, waiting)
    assert (rate.tokens_per_s, rate.busy) == (400.0, 0.5)


def test_the_speed_is_measured_while_prompts_wait() -> None:
    rate = PrefillRate(memory=1.0)
    for second, computed, waiting in ((0, 0, 0), (1, 50, 900), (2, 450, 500), (3, 900, 0), (9, 900, 0)):
        rate.note(float(second), computed, waiting)
    assert rate.tokens_per_s == 400.0


def test_an_engine_that_begins_anew_is_not_of_negative_speed() -> None:
    rate = PrefillRate()
    rate.note(0.0, 5000, 100)
    rate.note(1.0, 10, 100)
    assert rate.tokens_per_s == 0.0
