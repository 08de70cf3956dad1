"""The embedder marks what it may, keeps its promises, and can be rebuilt from what was emitted."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from benchmarks.toy_language import ToyLanguage
from watermark import Choice, Detector, Embedder, Key, Kind, Reason, Report, default_scheme, scheme
from watermark.draw import plain_draw

KEY = Key.derive(b"yet another key, known to all", id="test")
LANGUAGE = ToyLanguage()
IDS = LANGUAGE.ids


def noise(seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    while True:
        yield float(rng.random())


def test_a_short_context_is_drawn_with_the_requests_own_noise() -> None:
    """The first h tokens of a value differ from request to request; the seed keeps its meaning."""
    embedder = Embedder(scheme("gumbel"), KEY)
    logits = LANGUAGE.logits([5])
    for context in [(), (5,)]:
        for uniform in (0.1, 0.5, 0.9):
            choice = embedder.choose(IDS, logits, context, Kind.VALUE, uniform, greedy=False)
            assert choice == Choice(int(plain_draw(logits, uniform, False)), marked=False)
        assert not embedder.marks(context, Kind.VALUE)
    assert embedder.marks((5, 5), Kind.VALUE)
    assert not embedder.marks((5, 5), Kind.PROSE)


def test_only_the_last_h_tokens_of_a_context_count() -> None:
    """The caller may pass more."""
    embedder = Embedder(scheme("gumbel"), KEY)
    logits = LANGUAGE.logits([5])
    indices = {
        embedder.choose(IDS, logits, (*before, 7, 8), Kind.VALUE, 0.5, greedy=False).index
        for before in ((), (1,), (2, 3))
    }
    assert len(indices) == 1
    assert embedder.seeds((1, 7, 8), Kind.VALUE) == (scheme("gumbel").seed((7, 8), KEY),)


def test_a_context_that_was_used_is_drawn_unmarked() -> None:
    """Else text that returns to a context would go round for ever."""
    embedder = Embedder(scheme("gumbel"), KEY)
    logits = LANGUAGE.logits([5])
    first = embedder.choose(IDS, logits, (7, 8), Kind.VALUE, 0.5, greedy=False)
    assert first.marked
    assert embedder.marks((7, 8), Kind.VALUE), "choosing alone changes nothing: a draft may be rejected"
    embedder.observe(int(IDS[first.index]), (7, 8), Kind.VALUE, first)
    assert not embedder.marks((9, 7, 8), Kind.VALUE)
    again = embedder.choose(IDS, logits, (7, 8), Kind.VALUE, 0.5, greedy=False)
    assert again == Choice(int(plain_draw(logits, 0.5, False)), marked=False)


def test_a_loop_is_left_again() -> None:
    """A language of two tokens that repeat: marked text has the entropy of unmarked text."""
    loop = ToyLanguage(size=2, sharpness=0.0)
    embedder = Embedder(scheme("gumbel"), KEY)
    draws = noise(1)
    tokens = [each.token_id for each in loop.write(400, lambda: next(draws), embedder)]
    assert 0.4 < np.mean(tokens) < 0.6
    assert embedder.report().eligible == 400


def test_the_history_is_bounded_and_forgets_the_oldest() -> None:
    """Memory does not grow with the response."""
    embedder = Embedder(scheme("gumbel"), KEY, history_limit=3)
    for token in range(4):
        embedder.observe(token, (token, token), Kind.VALUE)
    assert embedder.marks((0, 0), Kind.VALUE)
    assert not any(embedder.marks((token, token), Kind.VALUE) for token in (1, 2, 3))


@pytest.mark.parametrize("greedy", [False, True])
def test_generation_goes_on_after_a_replay_as_if_it_had_never_stopped(greedy: bool) -> None:
    """Killed after 60 tokens, rebuilt from what was emitted: the same 60 follow."""
    whole = LANGUAGE.write(120, draws_of(3), Embedder(default_scheme(greedy=greedy), KEY), greedy=greedy)
    rebuilt = Embedder(default_scheme(greedy=greedy), KEY)
    for position in whole[:60]:
        rebuilt.observe(position.token_id, position.context, position.kind)
    uniforms = noise(3)
    kept = [next(uniforms) for _ in range(120)][60:]
    written = [each.token_id for each in whole[:60]]
    for uniform in kept:
        context = tuple(written[-4:])
        choice = rebuilt.choose(IDS, LANGUAGE.logits(written), context, Kind.PROSE, uniform, greedy=greedy)
        rebuilt.observe(choice.index, context, Kind.PROSE, choice)
        written.append(choice.index)
    assert written == [each.token_id for each in whole]
    report = rebuilt.report()
    assert (report.applied, report.eligible) == (True, 120)


def draws_of(seed: int) -> Callable[[], float]:
    """The noise of one request as a function."""
    uniforms = noise(seed)
    return lambda: next(uniforms)


def test_a_rejected_draft_leaves_no_trace() -> None:
    """Asking for positions that are not emitted changes neither choices nor the report."""
    quiet, busy = (Embedder(scheme("gumbel"), KEY) for _ in range(2))
    written: list[int] = []
    for _ in range(50):
        context, logits = tuple(written[-4:]), LANGUAGE.logits(written)
        busy.choose(IDS, LANGUAGE.logits([3]), (9, 9, 9, len(written)), Kind.PROSE, 0.3, greedy=False)
        choices = [each.choose(IDS, logits, context, Kind.PROSE, 0.5, greedy=False) for each in (quiet, busy)]
        assert choices[0] == choices[1]
        for each in (quiet, busy):
            each.observe(choices[0].index, context, Kind.PROSE, choices[0])
        written.append(choices[0].index)
    assert quiet.report() == busy.report()


def test_unigram_makes_no_promise() -> None:
    """Its list is used up as the text goes on."""
    embedder = Embedder(scheme("unigram"), KEY)
    LANGUAGE.write(20, draws_of(1), embedder)
    report = embedder.report()
    assert (report.applied, report.expected_p) == (True, None)


@pytest.mark.parametrize(
    ("name", "greedy", "sharpness"),
    [
        ("gumbel", False, 1.0),
        ("gumbel", False, 4.0),
        ("kgw", True, 2.0),
        ("kgw", False, 2.0),
        ("kgw-selfhash", True, 2.0),
        ("synthid", False, 3.0),
    ],
)
def test_the_promised_p_is_the_mean_that_detection_finds(name: str, greedy: bool, sharpness: float) -> None:
    """log expected_p within 10 % of the mean log p, over keys and texts."""
    language = ToyLanguage(sharpness=sharpness)
    promised, found = [], []
    for number in range(60):
        key = Key("k", None, np.array([number, 5], dtype=np.uint64))
        embedder = Embedder(scheme(name), key)
        text = language.write(60, draws_of(number), embedder, greedy=greedy)
        expected = embedder.report().expected_p
        assert expected is not None
        promised.append(np.log(expected))
        found.append(Detector(scheme(name), [key]).score(text).log_p)
    error = np.std(found) / 60**0.5
    assert np.mean(promised) == pytest.approx(np.mean(found), rel=0.1, abs=2 * error)


def test_the_report_says_why_there_is_no_mark() -> None:
    """Nothing to choose, too short, or a scheme that has nothing to offer at temperature 0."""
    assert Report.unmarked(Reason.DISABLED) == Report(applied=False, reason=Reason.DISABLED)
    embedder = Embedder(scheme("gumbel"), KEY)
    assert embedder.report() == Report(False, "gumbel", "test", 0, Reason.NO_FREE_CHOICE, None)
    embedder.observe(1, (), Kind.VALUE, Choice(0, False))
    assert embedder.report() == Report(False, "gumbel", "test", 1, Reason.TOO_SHORT, None)
    choice = embedder.choose(IDS, LANGUAGE.logits([1, 2]), (1, 2), Kind.VALUE, 0.5, greedy=True)
    embedder.observe(3, (1, 2), Kind.VALUE, choice)
    assert embedder.report() == Report(False, "gumbel", "test", 2, Reason.GREEDY, None)


def test_the_report_and_the_choice_hold_no_secret() -> None:
    """What is returned to a client: names, counts and one expectation over keys, which two keys share."""
    reports = []
    for secret in (b"one", b"two"):
        embedder = Embedder(scheme("kgw"), Key.derive(secret, id="k"))
        # Forced tokens follow: both texts are the same, so that only the key differs.
        for place in range(40):
            choice = embedder.choose(IDS, LANGUAGE.logits([place, 1]), (place, 1), Kind.VALUE, 0.5, greedy=True)
            embedder.observe(7, (place, 1), Kind.VALUE, choice)
        reports.append(embedder.report())
    assert reports[0] == reports[1]
