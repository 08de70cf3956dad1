"""Marked text is spelled as the tokenizer spells it, and nothing else about its distribution changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer as BpeTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from engine.canonical import Canonical
from engine.drawing import Drawn, Marking, Row, Rule
from engine.messages import Sampling
from engine.sampler import CpuSampler
from engine.tokenizer import Tokenizer
from watermark import Embedder, Key, Kind, scheme

TOKENIZER = Tokenizer.load("models/formwork-mini")
CANONICAL = Canonical(TOKENIZER.encode, TOKENIZER.vocabulary_bytes)
WIDTH = 40
LOGITS = (np.random.default_rng(1).standard_normal(WIDTH) * 1.5).astype(np.float32)
UNUSUAL = frozenset(int(token) for token in np.argsort(-LOGITS)[[0, 2, 7]])
FALSE_ALARM = 1e-4
DRAWS = 4000


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_the_tokenizers_own_spelling_is_kept(text: str) -> None:
    """Whatever the text: every token follows those before it."""
    ids = TOKENIZER.encode(text)
    assert all(CANONICAL.follows(ids[:place], token) for place, token in enumerate(ids))


def test_a_word_in_other_pieces_is_not_kept() -> None:
    """Two tokens that the tokenizer would join."""
    spelling = {spelt: token for token, spelt in enumerate(TOKENIZER.vocabulary_bytes) if spelt.isalpha()}
    joined = [word for word in spelling if len(word) > 4 and word[:3] in spelling and word[3:] in spelling][:50]
    assert joined
    for word in joined:
        assert not CANONICAL.follows([spelling[word[:3]]], spelling[word[3:]])
        assert CANONICAL.follows([], spelling[word])


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Canonical, Canonical]:
    """A tokenizer whose words begin with their blank, and two judges: one that knows where words begin."""
    backend = BpeTokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([Path("docs/engine.md").read_text(encoding="utf-8")], trainer)
    folder = tmp_path_factory.mktemp("words")
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer.load(folder)
    spelled = tokenizer.vocabulary_bytes
    assert len(tokenizer.word_starts) > 100
    knowing = Canonical(tokenizer.encode, spelled, tokenizer.word_starts)
    return tokenizer, knowing, Canonical(tokenizer.encode, spelled)


@given(data=st.data())
def test_to_know_where_words_begin_changes_no_answer(
    words: tuple[Tokenizer, Canonical, Canonical], data: st.DataObject
) -> None:
    """Text in the tokenizer's own pieces, then any token at all: judged as by reading all of the window."""
    tokenizer, knowing, reading = words
    text = data.draw(st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cs"]), max_size=20))
    before = tokenizer.encode(f"the engine {text} reads")
    before = before[: data.draw(st.integers(0, len(before)))]
    token = data.draw(st.integers(0, tokenizer.size - 1))
    assert knowing.follows(before, token) == reading.follows(before, token)


def test_a_closing_quote_is_spelled_with_what_is_forced_behind_it() -> None:
    """`{"` stands by itself, but not before a comma, which the tokenizer would spell together with the quote."""
    spelling = {spelt: token for token, spelt in enumerate(TOKENIZER.vocabulary_bytes)}
    joined, quote = spelling[b'{"'], spelling[b'", "']
    assert CANONICAL.follows([], joined)
    assert CANONICAL.stays([], joined, b"title")
    assert not CANONICAL.stays([], joined, b', "title')
    assert CANONICAL.stays([spelling[b"{"]], quote, b"title")


@pytest.mark.parametrize("unclear", [b"\xc3", b"", b" "])
def test_what_cannot_be_judged_is_kept(unclear: bytes) -> None:
    """Half a character, an end token, and a blank that the next token may take in."""
    canonical = Canonical(lambda _text: [1], [b"a", b"b", unclear])
    assert not canonical.follows([1], 0)
    assert canonical.follows([1], 2)


def drawn(
    scheme_name: str, draws: int, *, temperature: float = 1.0, keeps: object = None, short: bool = False
) -> list[int]:
    """What comes at one place under as many keys and seeds."""
    sampler, tokens = CpuSampler(WIDTH), []
    for number in range(draws):
        embedder = Embedder(scheme(scheme_name), Key("k", None, np.array([number, 9], np.uint64)))
        context = [] if short else [1, 2]
        marking = Marking(embedder, context, Kind.VALUE, keeps or (lambda token: token not in UNUSUAL))  # type: ignore[arg-type]
        row = Row(Rule.of(Sampling(max_tokens=1, seed=number, temperature=temperature)), 3, marking=marking)
        sampler.measure(torch.from_numpy(LOGITS[None].copy()), [row], np.zeros((1, 2), np.int32))
        result = sampler.draw(0)
        assert isinstance(result, Drawn)
        tokens.append(result.token_id)
    return tokens


@pytest.mark.parametrize(("name", "short"), [("gumbel", False), ("gumbel", True), ("kgw", True)])
def test_the_draw_is_the_models_own_among_usual_spellings(name: str, short: bool) -> None:
    """Chi-square, over keys where the key makes the noise and over seeds where the request does."""
    weights = np.exp(LOGITS.astype(np.float64))
    weights[list(UNUSUAL)] = 0.0
    wanted = DRAWS * weights / weights.sum()
    counts = np.bincount(drawn(name, DRAWS, short=short), minlength=WIDTH)
    assert counts[list(UNUSUAL)].sum() == 0
    common = wanted >= 5
    observed = [*counts[common], counts[~common].sum()]
    assert stats.chisquare(observed, [*wanted[common], wanted[~common].sum()]).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("name", "temperature"), [("kgw", 0.0), ("gumbel", 0.7)])
def test_what_is_no_usual_spelling_leaves_the_candidates_and_the_scheme_chooses_again(
    name: str, temperature: float
) -> None:
    """Token by token as the scheme itself would of the candidates that are left."""
    usual = np.argsort(-LOGITS)[3:]  # of the near ties some are left, and the best is not
    scaled = (LOGITS * np.float32(1.0 / (temperature or 1.0))).astype(np.float32)
    for number, token in enumerate(drawn(name, 60, temperature=temperature, keeps=lambda token: token in usual)):
        key, ids = Key("k", None, np.array([number, 9], np.uint64)), np.arange(WIDTH, dtype=np.int32)
        while True:
            choice = scheme(name).choose(ids, scaled[ids], [1, 2], key, 0.5, greedy=temperature == 0.0)
            chosen = int(ids[choice.index])
            if chosen in usual:
                break
            ids = ids[ids != chosen]
        assert token == chosen


def test_greedy_takes_the_best_usual_spelling_where_it_is_not_marked() -> None:
    """Gumbel has nothing to key at temperature 0."""
    best = max((token for token in range(WIDTH) if token not in UNUSUAL), key=lambda token: LOGITS[token])
    assert drawn("kgw", 1, temperature=0.0, short=True, keeps=lambda token: token == best) == [best]


@pytest.mark.parametrize("name", ["kgw", "gumbel"])
def test_greedy_text_too_is_spelled_as_usual_beyond_the_near_ties(name: str) -> None:
    """The likeliest usual spelling, however far below the best it lies."""
    tenth = int(np.argsort(-LOGITS)[10])
    assert LOGITS.max() - LOGITS[tenth] > 2
    assert drawn(name, 1, temperature=0.0, keeps=lambda token: token == tenth) == [tenth]


def test_nothing_is_stranded_where_no_spelling_is_usual() -> None:
    """The first choice is then taken: a preference never ends a generation."""
    assert drawn("gumbel", 5, keeps=lambda _token: False) == drawn("gumbel", 5, keeps=lambda _token: True)


def test_what_is_remembered_of_spellings_is_bounded() -> None:
    """Ten times as many windows as are kept: the first is decided anew, the last is not."""
    asked: list[str] = []

    def encode(text: str) -> list[int]:
        asked.append(text)
        return TOKENIZER.encode(text)

    canonical = Canonical(encode, TOKENIZER.vocabulary_bytes)
    plain = [token for token, spelt in enumerate(TOKENIZER.vocabulary_bytes) if spelt.isalpha()][:110]
    pairs = [(one, other) for one in plain for other in plain]
    for one, other in pairs:
        canonical.follows([one], other)
    before = len(asked)
    canonical.follows([pairs[-1][0]], pairs[-1][1])
    assert len(asked) == before
    canonical.follows([pairs[0][0]], pairs[0][1])
    assert len(asked) > before
