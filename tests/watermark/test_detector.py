"""p-values mean what they say, marked text is found, and edits cost what they must."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from benchmarks.toy_language import ToyLanguage
from watermark import (
    SCHEMES,
    Detector,
    Embedder,
    Key,
    KeyRing,
    Kind,
    Position,
    Standing,
    default_scheme,
    scheme,
)
from watermark.gathering import first_showings, gather
from watermark.tails import adjust

LANGUAGE = ToyLanguage(sharpness=2.0)
RING = KeyRing({"new": b"the key in use, 16+", "old": b"the key before that"})


def draws_of(seed: int) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: float(rng.random())


def marked(
    length: int, seed: int, *, name: str = "gumbel", greedy: bool = False, key: Key | None = None
) -> list[Position]:
    embedder = Embedder(scheme(name), RING.key() if key is None else key)
    return LANGUAGE.write(length, draws_of(seed), embedder, greedy=greedy)


@pytest.fixture(scope="module")
def unmarked() -> list[list[Position]]:
    """250 texts of 30 to 90 tokens that no key had a part in; phrases recur within and between them."""
    return [LANGUAGE.write(30 + number % 61, draws_of(number)) for number in range(250)]


def p_of(name: str, key: Key, text: list[Position], uniform: float) -> float:
    """With the steps of discrete statistics split at `uniform`."""
    each = scheme(name)
    gathered = gather(text, each)
    draws = each.scores(gathered.tokens, gathered.contexts, key)
    fresh = first_showings(draws)
    return float(np.exp(each.log_randomised_tail(float(draws.scores[fresh].sum()), len(fresh), uniform)))


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_p_is_uniform_on_unmarked_text_over_keys(name: str, unmarked: list[list[Position]]) -> None:
    """A key for each text, Kolmogorov-Smirnov: exact for every scheme."""
    draw = draws_of(1)
    values = [p_of(name, Key.derive(bytes([n]), id=str(n)), text, draw()) for n, text in enumerate(unmarked[:200])]
    assert stats.kstest(values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", ["gumbel", "kgw"])
def test_p_is_uniform_on_unmarked_text_for_every_key(name: str, unmarked: list[list[Position]]) -> None:
    """One key and all texts, which share phrases: no key's rate is above nominal beyond doubt (Clopper-Pearson).

    Self-hash and Unigram cannot promise this: their draws are pairs and single tokens, which recur in every text.
    """
    draw = draws_of(2)
    by_key = [[p_of(name, Key.derive(bytes([n]), id=str(n)), text, draw()) for text in unmarked] for n in range(5)]
    assert stats.kstest(np.concatenate(by_key), "uniform").pvalue > 1e-3
    for values in by_key:
        for alpha in (1e-1, 1e-2):
            hits = int((np.array(values) <= alpha).sum())
            assert stats.binomtest(hits, len(values)).proportion_ci(0.998, "exact").low <= alpha


def test_the_plain_p_of_a_discrete_statistic_is_never_too_small(unmarked: list[list[Position]]) -> None:
    """Without the split it errs on the safe side."""
    detector = Detector(scheme("kgw"), [Key.derive(b"z", id="z")])
    values = np.array([detector.score(text).p_value for text in unmarked])
    for alpha in (0.5, 0.1, 0.02):
        assert stats.binomtest(int((values <= alpha).sum()), len(values), alpha, "greater").pvalue > 1e-3


def test_counting_repeats_would_break_the_null() -> None:
    """Why they are dropped: one phrase said thirty times is one draw, not thirty."""
    phrase = [Position(token, (1, 2, 3, token), Kind.PROSE) for token in range(5)]
    detection = Detector(scheme("gumbel"), RING).score(phrase * 30)
    assert (detection.eligible, detection.scored) == (150, 5)
    assert [token.standing for token in detection.tokens[5:]] == [Standing.REPEATED] * 145


@pytest.mark.parametrize(
    ("name", "greedy"), [("gumbel", False), ("kgw", True), ("kgw-selfhash", True), ("synthid", False)]
)
def test_marked_text_is_found_under_its_key_and_no_other(name: str, greedy: bool) -> None:
    """150 tokens of a language of moderate entropy; the best and the rest are far apart."""
    text = marked(150, 1, name=name, greedy=greedy)
    new, old = Detector(scheme(name), RING).score_each(text)
    assert (new.key_id, old.key_id) == ("new", "old")
    assert new.log_p < np.log(1e-9)
    assert old.log_p > np.log(1e-3)
    assert Detector(scheme(name), RING).score(text) == new


def test_unigram_text_is_found_in_any_order() -> None:
    """The one scheme that survives a shuffle."""
    embedder = Embedder(scheme("unigram"), RING.key())
    text = ToyLanguage(size=1000, sharpness=1.0).write(300, draws_of(2), embedder)
    shuffled = [text[i] for i in np.random.default_rng(0).permutation(len(text))]
    straight, mixed = (Detector(scheme("unigram"), [RING.key()]).score(each) for each in (text, shuffled))
    assert straight.log_p == pytest.approx(mixed.log_p)
    assert straight.log_p < np.log(1e-6)


def test_power_grows_with_the_number_of_choices() -> None:
    """Share found at 1e-5, over 40 texts each: few, most, all."""
    detector = Detector(scheme("gumbel"), [RING.key()])
    found = [
        np.mean([detector.score(marked(length, seed)).log_p < np.log(1e-5) for seed in range(40)])
        for length in (8, 25, 80)
    ]
    assert found[0] < 0.5
    assert found[1] > 0.8
    assert found[2] == 1.0


def test_a_tenants_text_is_not_found_with_anothers_keys() -> None:
    """Keys of two tenants of one ring are unrelated."""
    text = marked(100, 3, key=RING.key(tenant="a"))
    own, other = (Detector(scheme("gumbel"), RING, tenant).score(text) for tenant in ("a", "b"))
    assert own.log_p < np.log(1e-9)
    assert other.log_p > np.log(1e-3)


def test_several_keys_and_schemes_are_paid_for() -> None:
    """Šidák: 1 − (1 − p)^tries; 4 tries here."""
    detector = Detector([default_scheme(greedy=False), default_scheme(greedy=True)], RING)
    detection = detector.score(LANGUAGE.write(60, draws_of(77)))
    assert detection.adjusted == pytest.approx(1 - (1 - detection.p_value) ** 4)


def test_the_correction_is_right_at_both_ends() -> None:
    """Tiny p are multiplied; p = 1 stays 1."""
    assert adjust(-1000.0, 10) == pytest.approx(-1000 + np.log(10))
    assert np.exp(adjust(np.log(1e-12), 3)) == pytest.approx(3e-12)
    assert adjust(0.0, 5) == pytest.approx(0.0, abs=1e-9)
    assert adjust(-0.5, 1) == -0.5
    assert adjust(-np.inf, 7) == -np.inf
    near = [adjust(x, 10) for x in (-29.99, -30.01)]
    assert near[0] - near[1] == pytest.approx(0.02, abs=1e-6)


def test_the_adjusted_p_of_unmarked_text_is_uniform_too(unmarked: list[list[Position]]) -> None:
    """The least of four p-values, corrected."""
    ring = KeyRing({str(n): bytes([n]) * 16 for n in range(4)})
    values = [Detector(scheme("gumbel"), ring).score(text).adjusted for text in unmarked]
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_a_deletion_costs_only_the_contexts_it_touches() -> None:
    """Every tenth token gone: five contexts of four tokens lost each time, and the mark still stands."""
    text = marked(400, 5)
    kept = [position.token_id for place, position in enumerate(text) if place % 10]
    edited = [Position(token, tuple(kept[max(0, i - 4) : i]), Kind.PROSE) for i, token in enumerate(kept)]
    detector = Detector(scheme("gumbel"), [RING.key()])
    whole, cut = detector.score(text), detector.score(edited)
    assert whole.log_p < cut.log_p < np.log(1e-9)


def test_nothing_to_score_is_no_evidence() -> None:
    """Empty, or too short: p = 1 and z = 0."""
    for text in ([], [Position(5, ()), Position(6, (5,))]):
        detection = Detector(scheme("gumbel"), RING).score(text)
        assert (detection.p_value, detection.adjusted, detection.z, detection.scored) == (1.0, 1.0, 0.0, 0)
        assert all(token.standing is Standing.SHORT_CONTEXT for token in detection.tokens)


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_extra_context_changes_nothing(name: str) -> None:
    """The caller may hand over more than h tokens; both sides cut alike."""
    text = marked(60, 6, name=name)
    longer = [
        Position(each.token_id, (9, 9, *each.context), each.kind) if i >= 4 else each for i, each in enumerate(text)
    ]
    detectors = Detector(scheme(name), [RING.key()])
    assert detectors.score(text).log_p == detectors.score(longer).log_p


def test_underflow_is_no_obstacle() -> None:
    """Two thousand free tokens: p is 0 in floating point, its logarithm is not."""
    free = ToyLanguage(size=1000, sharpness=0.5)
    detection = Detector(scheme("gumbel"), [RING.key()]).score(
        free.write(400, draws_of(8), Embedder(scheme("gumbel"), RING.key()))
    )
    assert detection.p_value == 0.0
    assert -np.inf < detection.log_p < -1000
