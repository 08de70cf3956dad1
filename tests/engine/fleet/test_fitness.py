"""Who is slow: one among many, not all at once."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from engine.fleet.fitness import Fitness, FitnessRules, _median_without

RULES = FitnessRules()


def judged(**seconds: float) -> Fitness:
    fitness = Fitness(RULES)
    for name, each in seconds.items():
        for _ in range(RULES.observations):
            fitness.observe(name, each, 1)
    fitness.judge()
    return fitness


def test_one_that_lags_behind_the_others_stands_out() -> None:
    """Row 46: 500 ms more a step."""
    fitness = judged(a=0.02, b=0.025, c=0.52)
    assert [fitness.pace(name) > 3 for name in "abc"] == [False, False, True]


def test_nobody_is_slow_when_all_are() -> None:
    assert judged(a=0.5, b=0.6, c=0.55).spared(1.0) == set()


def test_many_times_nothing_is_still_nothing() -> None:
    """A factor alone would blame whoever takes 3 ms where others take 1 ms."""
    assert judged(a=0.001, b=0.004).pace("b") == 1.0


def test_one_replica_alone_has_nobody_to_be_compared_with() -> None:
    assert judged(a=9.0).pace("a") == 1.0


def test_little_is_said_of_those_hardly_seen() -> None:
    fitness = judged(a=0.01)
    fitness.observe("b", 5.0, 1)
    fitness.judge()
    assert fitness.pace("b") == 1.0


def test_a_slow_one_is_probed_now_and_then() -> None:
    fitness = judged(a=0.01, b=1.0)
    assert fitness.spared(100.0) == set()
    fitness.probed("b", 100.0)
    assert fitness.spared(100.0 + RULES.probe_s / 2) == {"b"}
    assert fitness.spared(100.0 + 2 * RULES.probe_s) == set()


def test_recovery_is_noticed() -> None:
    fitness = judged(a=0.01, b=1.0)
    for _ in range(40):
        fitness.observe("b", 0.01, 1)
    fitness.judge()
    assert fitness.pace("b") == 1.0


def test_what_is_gone_is_forgotten() -> None:
    fitness = judged(a=0.01, b=1.0)
    fitness.forget("b")
    fitness.judge()
    assert fitness.pace("b") == 1.0


@given(st.lists(st.floats(0, 10), min_size=2, max_size=9))
def test_the_median_of_the_others_is_that_of_the_library(values: list[float]) -> None:
    ordered = sorted(values)
    for index, value in enumerate(ordered):
        assert _median_without(ordered, value) == median([*ordered[:index], *ordered[index + 1 :]])
