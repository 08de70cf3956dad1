"""What every scheme promises, whatever it does inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import SCHEMES, Key, Kind, SchemeError, default_scheme, scheme
from watermark.draw import Ids, Logits
from watermark.schemes import Contexts, Scheme

NAMES = sorted(SCHEMES)
KEY = Key.derive(b"a test key, known to all", id="test")
KIND = Kind.VALUE


def candidates(seed: int, count: int, spread: float) -> tuple[Ids, Logits]:
    """Some ids of a large vocabulary, ascending, with random logits."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(5000, size=count, replace=False)).astype(np.int32)
    return ids, (rng.normal(size=count) * spread).astype(np.float32)


def context_for(of: Scheme, seed: int) -> tuple[int, ...]:
    """A full context."""
    return tuple(int(token) for token in np.random.default_rng(seed).integers(0, 5000, of.h(KIND)))


rows = st.tuples(st.integers(0, 2**31), st.integers(1, 80), st.sampled_from([0.3, 2.0, 12.0]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("greedy", [False, True])
def test_a_choice_is_one_of_the_candidates_and_always_the_same(name: str, greedy: bool) -> None:
    """A function of the row, the context, the key and the uniform number; nothing else."""
    each = scheme(name)

    @settings(max_examples=30, deadline=None)
    @given(rows, st.floats(0, 1, exclude_max=True))
    def check(row: tuple[int, int, float], uniform: float) -> None:
        ids, logits = candidates(*row)
        context = context_for(each, row[0])
        choice = each.choose(ids, logits, context, KEY, uniform, greedy=greedy)
        assert 0 <= choice.index < len(ids)
        assert choice == each.choose(ids.copy(), logits.copy(), list(context), KEY, uniform, greedy=greedy)

    check()


@pytest.mark.parametrize(
    ("name", "greedy"), [("gumbel", False), ("kgw", True), ("kgw-selfhash", True), ("unigram", True)]
)
def test_the_order_of_candidates_does_not_matter_where_nothing_is_drawn(name: str, greedy: bool) -> None:
    """Gumbel's race and the greedy pick look at the set; so a sorted or a filtered row gives the same token."""
    each = scheme(name)

    @settings(max_examples=30, deadline=None)
    @given(rows)
    def check(row: tuple[int, int, float]) -> None:
        ids, logits = candidates(*row)
        order = np.random.default_rng(row[0]).permutation(len(ids))
        context = context_for(each, row[0])
        straight = each.choose(ids, logits, context, KEY, 0.5, greedy=greedy)
        shuffled = each.choose(ids[order], logits[order], context, KEY, 0.5, greedy=greedy)
        assert ids[straight.index] == ids[order][shuffled.index]

    check()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("greedy", [False, True])
def test_candidates_below_the_window_never_matter(name: str, greedy: bool) -> None:
    """The sampler may leave them out."""
    each = scheme(name)
    window = each.window(greedy=greedy)
    for seed in range(40):
        ids, logits = candidates(seed, 60, 12.0)
        context = context_for(each, seed)
        kept = logits >= logits.max() - window
        full = each.choose(ids, logits, context, KEY, 0.37, greedy=greedy)
        cut = each.choose(ids[kept], logits[kept], context, KEY, 0.37, greedy=greedy)
        assert ids[full.index] == ids[kept][cut.index]


@pytest.mark.parametrize("name", NAMES)
def test_the_detector_sees_what_the_chooser_did(name: str) -> None:
    """Over many marked choices the mean score is the promised one, and not the null's."""
    each = scheme(name)
    greedy = name == "kgw"
    tokens, contexts, promised = [], [], []
    for seed in range(1500):
        ids, logits = candidates(seed, 40, 1.0)
        context = context_for(each, seed)
        choice = each.choose(ids, logits, context, KEY, np.random.default_rng(seed + 1).random(), greedy=greedy)
        assert choice.marked
        tokens.append(int(ids[choice.index]))
        contexts.append(context)
        promised.append((choice.expected, choice.spread))
    draws = each.scores(np.array(tokens, dtype=np.int64), Contexts.of(contexts), KEY)
    mean, variance = np.sum(promised, axis=0)
    null_mean, null_variance = (1500 * moment for moment in each.null_moments)
    # One fixed list colours 5,000 tokens once and for all: the scores of Unigram are not independent over choices.
    slack = 4.0 if name != "unigram" else 8.0
    assert abs(draws.scores.sum() - mean) < slack * np.sqrt(variance) + 0.01 * mean
    assert draws.scores.sum() - null_mean > 10 * np.sqrt(null_variance)


@pytest.mark.parametrize("name", NAMES)
def test_other_keys_and_contexts_show_the_null(name: str) -> None:
    """Scores of 4,000 arbitrary tokens have the stated mean and variance."""
    each = scheme(name)
    rng = np.random.default_rng(5)
    tokens = rng.permutation(4000).astype(np.int64)
    contexts = Contexts.of([tuple(int(token) for token in rng.integers(0, 9000, each.h(KIND))) for _ in tokens])
    draws = each.scores(tokens, contexts, KEY)
    mean, variance = each.null_moments
    assert len(np.unique(draws.units)) == len(tokens)
    assert abs(draws.scores.mean() - mean) < 4 * np.sqrt(variance / len(tokens))
    assert draws.scores.var() == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_percentiles_run_from_zero_to_one_with_the_score(name: str) -> None:
    """For pictures."""
    each = scheme(name)
    rng = np.random.default_rng(6)
    contexts = Contexts.of([tuple(int(token) for token in rng.integers(0, 9000, each.h(KIND))) for _ in range(500)])
    scores = np.sort(each.scores(np.arange(500, dtype=np.int64), contexts, KEY).scores)
    shown = each.percentile(scores)
    assert (np.diff(shown) >= 0).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_no_choices_make_no_scores(name: str) -> None:
    """An empty text is not an error."""
    draws = scheme(name).scores(np.empty(0, dtype=np.int64), Contexts.of([]), KEY)
    assert len(draws.units) == len(draws.scores) == 0


def test_contexts_are_narrower_in_values_than_in_prose() -> None:
    """Values are short: two tokens of context leave more to mark than four."""
    for name in ("kgw", "gumbel", "synthid"):
        assert (scheme(name).h(Kind.VALUE), scheme(name).h(Kind.PROSE)) == (2, 4)
    assert scheme("unigram").h(Kind.PROSE) == 0


def test_the_default_marks_sampled_and_greedy_requests_alike() -> None:
    """Noise is keyed where there is noise, near ties where there is none."""
    assert default_scheme(greedy=False).name == "gumbel"
    assert default_scheme(greedy=True).name == "kgw"
    assert default_scheme(greedy=True).marks_greedy


@pytest.mark.parametrize(
    ("name", "parameters", "complaint"),
    [
        ("nothing", {}, "known: kgw, kgw-selfhash, unigram, gumbel, synthid"),
        ("gumbel", {"delta": 2.0}, "does not take"),
        ("kgw", {"gamma": 1.0}, "below 1; got 1.0"),
        ("kgw", {"delta": 0.0}, "above 0 and at most 10; got 0.0"),
        ("kgw", {"delta": float("nan")}, "got nan"),
        ("synthid", {"layers": 33}, "from 1 to 32"),
        ("synthid", {"layers": 2.5}, "got 2.5"),
    ],
)
def test_wrong_names_and_parameters_are_refused(name: str, parameters: dict[str, float], complaint: str) -> None:
    """With what would have been accepted."""
    with pytest.raises(SchemeError, match=complaint):
        scheme(name, **parameters)


def test_schemes_that_share_a_key_have_unrelated_seeds() -> None:
    """Else a text marked by one would carry half the evidence of the other."""
    assert len({int(scheme(name).seed((1, 2), KEY)) for name in NAMES}) == len(NAMES)
