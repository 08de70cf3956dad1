"""Shared phrases make one key's false positives wrong; leaving them out makes them right and keeps the mark."""

from collections.abc import Callable

import numpy as np

from benchmarks.toy_language import ToyLanguage
from watermark import Detector, Embedder, Key, Kind, Position, scheme
from watermark.commonplaces import Commonplaces

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
    """The phrase goes, its first tokens too; the rest of a new text is all but untouched."""
    common = Commonplaces.of([text_of(seed) for seed in range(100)], GUMBEL, share=0.2)
    kept = common.without(text_of(1000))
    assert 18 <= len(kept) <= 20
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
        for judged in (texts, [common.without(text) for text in texts])
    ]
    assert spreads[1] < 0.6 * spreads[0]
    assert spreads[1] < 2.0 / 60**0.5


def test_the_mark_is_found_without_the_commonplaces() -> None:
    """They held none of it."""
    key = Key.derive(b"secret", id="k")
    common = Commonplaces.of([text_of(seed) for seed in range(100, 200)], GUMBEL, share=0.05)
    text = text_of(3, Embedder(GUMBEL, key))
    whole, cut = (Detector(GUMBEL, [key]).score(each).log_p for each in (text, common.without(text)))
    assert cut < whole < np.log(1e-3)
