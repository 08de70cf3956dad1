"""Green lists: near ties only, an honest promise, and seeds that survive what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import Key, prf, scheme
from watermark.draw import Ids, Logits
from watermark.schemes import Contexts
from watermark.schemes.kgw import Kgw

KEY = Key.derive(b"another key, known to all", id="test")


def row_of(seed: int, count: int, spread: float) -> tuple[Ids, Logits]:
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(5000, size=count, replace=False)).astype(np.int32)
    return ids, (rng.normal(size=count) * spread).astype(np.float32)


def greens(of: Kgw, ids: Ids, context: tuple[int, ...]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """As a detector would see each candidate."""
    contexts = Contexts.of([context] * len(ids))
    return of.scores(ids.astype(np.int64), contexts, KEY).scores.astype(np.bool_)


@pytest.mark.parametrize("name", ["kgw", "kgw-selfhash", "unigram"])
def test_the_greedy_choice_is_the_likeliest_green_near_tie_or_else_the_best(name: str) -> None:
    """By a search over all candidates."""
    each = scheme(name, delta=1.5)
    assert isinstance(each, Kgw)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0.3, 1.0, 6.0]))
    def check(seed: int, count: int, spread: float) -> None:
        ids, logits = row_of(seed, count, spread)
        context = (seed % 97, seed % 89)[: each.h(0)]  # type: ignore[arg-type]
        green = greens(each, ids, context)
        ties = [i for i in range(count) if green[i] and float(logits[i]) > float(logits.max()) - 1.5]
        expected = max(ties, key=lambda i: logits[i]) if ties else int(np.argmax(logits))
        assert each.choose(ids, logits, context, KEY, 0.5, greedy=True).index == expected

    check()


def test_a_clearly_preferred_token_is_never_displaced() -> None:
    """At temperature 0, whatever the colours."""
    each = scheme("kgw", delta=2.0)
    ids, logits = row_of(1, 50, 1.0)
    logits[17] = logits.max() + np.float32(2.5)
    assert {each.choose(ids, logits, (n, 1), KEY, 0.5, greedy=True).index for n in range(200)} == {17}


def test_a_draw_follows_the_softmax_with_green_near_ties_raised() -> None:
    """The inverse CDF at 20,000 even steps counts probabilities."""
    each = Kgw(gamma=0.25, delta=2.0)
    ids, logits = row_of(2, 30, 1.5)
    near = logits > logits.max() - 2.0
    biased = logits + 2.0 * (near & greens(each, ids, (4, 5)))
    expected = np.exp(biased - biased.max()) / np.exp(biased - biased.max()).sum()
    counts = np.zeros(30)
    for step in range(20_000):
        counts[each.choose(ids, logits, (4, 5), KEY, (step + 0.5) / 20_000, greedy=False).index] += 1
    assert np.abs(counts / 20_000 - expected).max() < 2e-4


@pytest.mark.parametrize("gamma", [0.25, 0.5])
@pytest.mark.parametrize("shape", ["two", "few", "many", "lone"])
def test_the_promised_chance_of_green_is_the_average_over_keys(gamma: float, shape: str) -> None:
    """1,500 contexts stand for keys; each one's own chance is summed exactly over its biased softmax."""
    logits = {
        "two": np.array([1.0, 0.5, -4.0]),
        "few": np.array([1.0, 0.8, 0.1, -0.5, -3.0, -3.1]),
        "many": np.random.default_rng(3).normal(size=200),
        "lone": np.array([3.0, 0.0, 0.0, -1.0]),
    }[shape].astype(np.float32)
    each = Kgw(gamma=gamma, delta=2.0)
    ids = np.arange(len(logits), dtype=np.int32)
    promised = each.choose(ids, logits, (1, 1), KEY, 0.5, greedy=False).expected
    near = logits > logits.max() - 2.0
    chances = []
    for number in range(1500):
        green = greens(each, ids, (number, 2))
        weights = np.exp(logits + 2.0 * (near & green))
        chances.append(weights[green].sum() / weights.sum())
    assert np.mean(chances) == pytest.approx(promised, abs=4 * np.std(chances) / 1500**0.5 + 0.01)


def test_the_share_of_green_tokens_is_gamma() -> None:
    """Independent coins, not an exact split."""
    for gamma in (0.1, 0.25, 0.5):
        share = greens(Kgw(gamma=gamma), np.arange(20_000, dtype=np.int32), (1, 2)).mean()
        assert share == pytest.approx(gamma, abs=4 * 0.5 / 20_000**0.5)


def test_the_self_hash_finds_the_same_colour_when_a_token_between_is_edited() -> None:
    """Mostly: the winning pair survives unless its anchor is gone or the new token wins."""
    each = scheme("kgw-selfhash")
    tokens = np.arange(2000, dtype=np.int64)
    before = each.scores(tokens, Contexts.of([(7, 8, 9)] * 2000), KEY)
    after = each.scores(tokens, Contexts.of([(7, 55, 9)] * 2000), KEY)
    shorter = each.scores(tokens, Contexts.of([(7, 9)] * 2000), KEY)
    # Candidate itself, three tokens before: the least of 4 words stays with probability 3/4 · 4/5 … by symmetry.
    assert (before.units == after.units).mean() == pytest.approx(3 / 5, abs=0.05)
    assert (before.units == shorter.units).mean() == pytest.approx(3 / 4, abs=0.05)
    same = before.units == after.units
    assert (before.scores[same] == after.scores[same]).all()


def test_the_left_hash_finds_no_trace_when_its_context_is_edited() -> None:
    """The price of contexts: colours of other contexts are unrelated."""
    ids = np.arange(4000, dtype=np.int32)
    agreement = (greens(Kgw(), ids, (7, 8)) == greens(Kgw(), ids, (7, 9))).mean()
    assert agreement == pytest.approx(0.5, abs=0.04)


def test_a_unigram_list_is_the_same_everywhere_and_counts_each_token_once() -> None:
    """A draw is a token, not a position."""
    each = scheme("unigram")
    draws = each.scores(np.array([5, 6, 5], dtype=np.int64), Contexts.of([(), (), ()]), KEY)
    assert draws.units.tolist() == [5, 6, 5]
    assert draws.scores[0] == draws.scores[2]


def test_colours_compare_whole_numbers() -> None:
    """Green iff the word is below gamma · 2³², at both ends of the range."""
    ids = np.arange(1000, dtype=np.int32)
    words = prf.words(Kgw().seed((1, 2), KEY), ids)
    assert greens(Kgw(gamma=0.5), ids, (1, 2)).tolist() == [int(word) < 2**31 for word in words]
