"""engine.speculation.rates: chances learned for all, for a grammar, for a request."""

from __future__ import annotations

import numpy as np
import pytest

from engine.speculation import Rates, Source

KIND = (Source.NGRAM, 2)


def test_a_rate_approaches_what_is_seen() -> None:
    rates, rng = Rates(), np.random.default_rng(0)
    for _ in range(400):
        rates.learn(KIND, came_true=bool(rng.random() < 0.8))
    assert rates.chance(KIND) == pytest.approx(0.8, abs=0.12)


def test_a_newcomer_leans_on_its_parent_and_soon_goes_by_its_own() -> None:
    parent = Rates()
    for _ in range(200):
        parent.learn(KIND, came_true=True)
    child = Rates(parent)
    assert child.chance(KIND) == pytest.approx(parent.chance(KIND))
    for _ in range(30):
        child.learn(KIND, came_true=False)
    assert child.chance(KIND) < 0.3
    assert Rates(parent).chance(KIND) > child.chance(KIND), "others saw more than this one request"


def test_kinds_are_told_apart() -> None:
    rates = Rates()
    before = rates.chance((Source.GRAMMAR, 0))
    for _ in range(50):
        rates.learn(KIND, came_true=False)
    assert rates.chance(KIND) < 0.1
    assert rates.chance((Source.GRAMMAR, 0)) == before
