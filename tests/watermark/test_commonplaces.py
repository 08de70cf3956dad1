"""Shared phrases make one key's false positives wrong; leaving them out makes them right and keeps the mark."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.toy_language import ToyLanguage
from watermark import (
    Choice,
    Commonplaces,
    CommonplacesError,
    Detector,
    Embedder,
    Key,
    Kind,
    Position,
    Positions,
    Standing,
    scheme,
)

GUMBEL = scheme("gumbel")
LANGUAGE = ToyLanguage(sharpness=2.0)
PHRASE = list(range(190, 200))


def draws_of(seed: int) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: float(rng.random())


def text_of(seed: int, embedder: Embedder | None = None) -> list[Position]:
    """A phrase that all texts begin with, then 20 tokens of the text's own."""
    own = LANGUAGE.write(20, draws_of(seed), embedder, start=[seed % 200, 7])
    tokens = PHRASE + [position.token_id for position in own]
    shared = [Position(token, tuple(PHRASE[max(0, i - 4) : i]), Kind.PROSE) for i, token in enumerate(PHRASE)]
    assert len(tokens) == 30
    return shared + own


def test_what_many_texts_say_is_left_out_and_what_one_says_stays() -> None:
    """The phrase goes; of the rest of a new text, 16 tokens with a whole context, nearly all stay."""
    common = Commonplaces.of([text_of(seed) for seed in range(100)], GUMBEL, share=0.2)
    kept = common.without(text_of(1000), GUMBEL)
    assert 14 <= len(kept) <= 16
    assert all(position.token_id not in PHRASE or position.context[-1:] != (189,) for position in kept)


def test_a_phrase_in_two_texts_of_few_is_no_commonplace_by_chance() -> None:
    """One text alone never makes one."""
    assert not Commonplaces.of([text_of(1)], GUMBEL).sayings


def test_the_spread_of_p_between_keys_shrinks_to_that_of_chance() -> None:
    """Mean log p of 60 unmarked texts under each of 30 keys: far apart with the phrase, close without."""
    common = Commonplaces.of([text_of(seed) for seed in range(100, 200)], GUMBEL, share=0.05)
    texts = [text_of(seed) for seed in range(60)]
    keys = [Key.derive(bytes([n]), id=str(n)) for n in range(30)]
    spreads = [
        np.std([np.mean([Detector(GUMBEL, [key]).score(text).log_p for text in judged]) for key in keys])
        for judged in (texts, [common.without(text, GUMBEL) for text in texts])
    ]
    assert spreads[1] < 0.6 * spreads[0]
    assert spreads[1] < 2.0 / 60**0.5


def test_a_context_at_which_something_was_left_out_is_not_scored_later() -> None:
    """The mark was spent there: what follows the same words again was drawn without it."""
    common = Commonplaces((2, 4), frozenset({(Kind.VALUE, (1, 2), 3)}))
    text = [Position(3, (1, 2)), Position(9, (1, 2)), Position(9, (2, 3)), Position(5, (1, 2))]
    detection = Detector(GUMBEL, [Key.derive(b"secret", id="k")]).score(text, leave_out=common.leave_out)
    standings = [token.standing for token in detection.tokens]
    assert standings == [Standing.COMMONPLACE, Standing.REPEATED, Standing.SCORED, Standing.REPEATED]
    assert common.without(text, GUMBEL) == [text[2]]


def test_the_promise_is_what_a_detector_that_leaves_them_out_finds() -> None:
    """A phrase at the end, of which nothing is promised."""
    common = Commonplaces.of([text_of(seed) for seed in range(100, 200)], GUMBEL, share=0.05)
    promised, found = [], []
    for number in range(60):
        key = Key.derive(bytes([number]), id="k")
        embedder = Embedder(GUMBEL, key, commonplaces=common)
        text = LANGUAGE.write(20, draws_of(number), embedder, start=[number % 200, 7])
        for place, position in enumerate(text_of(0)[:10]):
            choice = Choice(0, place >= 4, expected=9.0, spread=1.0)  # which would be much evidence
            embedder.observe(position.token_id, position.context, Kind.PROSE, choice)
        promised.append(np.log(embedder.report().expected_p or 1.0))
        found.append(Detector(GUMBEL, [key]).score([*text, *text_of(0)[:10]], leave_out=common.leave_out).log_p)
    assert np.mean(promised) == pytest.approx(np.mean(found), rel=0.1, abs=2 * np.std(found) / 60**0.5)


def test_a_text_of_commonplaces_alone_is_marked_and_promises_nothing() -> None:
    """Whoever reads the report learns both."""
    common = Commonplaces((2, 4), frozenset({(Kind.VALUE, (1, 2), 3)}))
    embedder = Embedder(GUMBEL, Key.derive(b"secret", id="k"), commonplaces=common)
    embedder.observe(3, (1, 2), Kind.VALUE, Choice(0, True, expected=2.0, spread=1.0))
    report = embedder.report()
    assert (report.applied, report.eligible, report.expected_p) == (True, 1, 1.0)


def test_the_mark_is_found_without_the_commonplaces() -> None:
    """They held none of it."""
    key = Key.derive(b"secret", id="k")
    common = Commonplaces.of([text_of(seed) for seed in range(100, 200)], GUMBEL, share=0.05)
    text = text_of(3, Embedder(GUMBEL, key))
    whole, cut = (Detector(GUMBEL, [key]).score(each).log_p for each in (text, common.without(text, GUMBEL)))
    assert cut < whole < np.log(1e-3)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """And holds ids only."""
    common = Commonplaces.of([text_of(seed) for seed in range(30)], GUMBEL, share=0.2)
    assert common.sayings
    path = tmp_path / "commonplaces.json"
    path.write_text(common.to_json("words"))
    assert Commonplaces.from_file(path, "words") == common


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "cannot read"),
        ("[]", "no file of commonplaces"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1, "vocabulary": "other", "widths": [2, 4], "sayings": []}', "another tokenizer"),
        ('{"format": 1, "vocabulary": "words", "widths": [2, 4], "sayings": [[9, 1, 2]]}', "no file of commonplaces"),
        ('{"format": 1, "vocabulary": "words", "widths": [2], "sayings": []}', "no file of commonplaces"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """By name and reason."""
    path = tmp_path / "commonplaces.json"
    path.write_text(text)
    with pytest.raises(CommonplacesError, match=complaint) as caught:
        Commonplaces.from_file(path, "words")
    assert str(path) in str(caught.value)


def test_two_lists_are_one_and_other_widths_are_none() -> None:
    """What either holds is left out, for schemes that read as wide as the lists."""
    first, second = (Commonplaces.of([text_of(s) for s in range(n, n + 9)], GUMBEL, share=0.3) for n in (0, 50))
    both = first | second
    assert both.sayings == first.sayings | second.sayings
    said = next(position for position in text_of(0) if both.holds(position))
    assert both.leave_out(Positions.of([said]), GUMBEL).all()
    assert not both.leave_out(Positions.of([said]), scheme("unigram")).any()
    with pytest.raises(CommonplacesError, match="do not mix"):
        _ = first | Commonplaces.of([text_of(0)] * 3, scheme("unigram"))
