"""A marked passage is found where it stands, and unmarked text holds none more often than stated."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from benchmarks.toy_language import ToyLanguage
from watermark import Embedder, Key, Kind, Position, scheme
from watermark.scan import marked_passages

LANGUAGE = ToyLanguage(sharpness=2.0)
KEY = Key.derive(b"the scanner's key", id="k")
GUMBEL = scheme("gumbel")


def draws_of(seed: int) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: float(rng.random())


def joined(*parts: list[Position]) -> list[Position]:
    """One text: contexts run across the seams, as a reader of the whole sees them."""
    tokens = [position.token_id for part in parts for position in part]
    return [Position(token, tuple(tokens[max(0, i - 4) : i]), Kind.PROSE) for i, token in enumerate(tokens)]


@pytest.mark.parametrize("name", ["gumbel", "kgw"])
def test_a_marked_passage_inside_ten_times_as_much_text_is_found(name: str) -> None:
    """Within a third of its length on either side."""
    each = scheme(name)
    passage = LANGUAGE.write(80, draws_of(1), Embedder(each, KEY), greedy=name == "kgw")
    text = joined(LANGUAGE.write(500, draws_of(2)), passage, LANGUAGE.write(300, draws_of(3)))
    (found,) = marked_passages(text, each, KEY)
    assert abs(found.first - 500) < 27
    assert abs(found.last - 580) < 27
    assert found.p_value < 1e-5


def test_two_passages_are_told_apart() -> None:
    """In reading order, each with its own p."""
    one, two = (LANGUAGE.write(60, draws_of(seed), Embedder(GUMBEL, KEY)) for seed in (4, 5))
    text = joined(one, LANGUAGE.write(400, draws_of(6)), two)
    first, second = marked_passages(text, GUMBEL, KEY)
    assert first.last < 90
    assert second.first > 400


def test_unmarked_text_yields_a_passage_no_more_often_than_alpha() -> None:
    """150 texts at alpha = 0.1: the search is paid for."""
    texts = [joined(LANGUAGE.write(100, draws_of(1000 + number))) for number in range(150)]
    hits = sum(bool(marked_passages(text, GUMBEL, KEY, alpha=0.1)) for text in texts)
    assert stats.binomtest(hits, 150, 0.1, "greater").pvalue > 1e-3


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_text_too_short_to_hold_a_window_is_its_own_window(length: int) -> None:
    """Nothing is found, nothing breaks."""
    assert marked_passages(LANGUAGE.write(length, draws_of(9)), GUMBEL, KEY) == ()


def test_scanning_for_several_keys_is_paid_for() -> None:
    """The same passage, its p three times as large."""
    passage = LANGUAGE.write(60, draws_of(10), Embedder(GUMBEL, KEY))
    (one,), (three,) = (marked_passages(passage, GUMBEL, KEY, tries=tries) for tries in (1, 3))
    assert three.log_p - one.log_p == pytest.approx(np.log(3))
