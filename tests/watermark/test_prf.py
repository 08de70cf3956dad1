"""The PRF gives the published answers, and the same answer whichever way a word is asked for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.siphash import siphash_2_4
from watermark import prf

KEY = np.frombuffer(bytes(range(16)), dtype="<u8")
PI = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))
ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (*PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    """Random123's kat_vectors, philox4x32 with 10 rounds."""
    c0, c1, c2, c3 = (np.uint64(word) for word in counter)
    block = prf.philox((c0, c1, c2, c3), np.uint64(key[0] | key[1] << 32))
    assert tuple(int(word) for word in block) == expected


@pytest.mark.parametrize(("length", "expected"), [(0, 0x726FDB47DD0E0E31), (8, 0x93F5F5799A932462)])
def test_siphash_gives_the_known_answers_of_its_authors(length: int, expected: int) -> None:
    """Reference vectors: key 00…0f, message 00, 01, 02, …"""
    message = np.frombuffer(bytes(range(length)), dtype="<u8")
    assert int(prf.siphash(message, KEY)) == expected


def test_the_siphash_oracle_agrees_with_the_paper() -> None:
    """Appendix A: 15 bytes under key 00…0f."""
    assert siphash_2_4(bytes(range(15)), bytes(range(16))) == 0xA129CA6149BE45E5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.binary(min_size=16, max_size=16))
def test_siphash_equals_the_byte_by_byte_oracle(message: list[int], key: bytes) -> None:
    """Up to 320 bytes, where the length byte has wrapped."""
    words = np.array(message, dtype="<u8")
    assert int(prf.siphash(words, np.frombuffer(key, dtype="<u8"))) == siphash_2_4(words.tobytes(), key)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30))
def test_a_word_is_the_same_alone_in_a_list_and_in_any_order(seed: int, tokens: list[int]) -> None:
    """The blocks that a list shares are an optimisation only."""
    together = prf.words(np.uint64(seed), np.array(tokens, dtype=np.int32))
    backwards = prf.words(np.uint64(seed), np.array(tokens[::-1], dtype=np.int32))[::-1]
    pairs = prf.word_pairs(np.full(len(tokens), seed, dtype=np.uint64), np.array(tokens, dtype=np.int64))
    alone = [int(prf.words(np.uint64(seed), np.array([token], dtype=np.int32))[0]) for token in tokens]
    assert together.tolist() == backwards.tolist() == pairs.tolist() == alone


def test_contexts_of_other_widths_domains_and_keys_have_other_seeds() -> None:
    """Nothing is padded away: (5,), (0, 5) and (5, 0) are three contexts."""
    contexts = [np.array(tokens, dtype=np.int64) for tokens in ([], [0], [5], [0, 5], [5, 0], [5, 0, 0])]
    keys = (KEY, KEY[::-1].copy())
    seeds = {int(prf.context_seed(context, key, domain)) for context in contexts for key in keys for domain in (1, 2)}
    assert len(seeds) == len(contexts) * 4


def test_seeds_of_a_packed_batch_equal_those_of_each_row() -> None:
    """The padding behind a short row takes no part."""
    rows = np.array([[1, 2, 3], [4, 9, 9], [7, 8, 9]], dtype=np.int64)
    widths = np.array([3, 1, 2], dtype=np.int64)
    packed = prf.seeds(rows, widths, KEY, 1)
    assert packed.tolist() == [
        int(prf.context_seed(row[:width], KEY, 1)) for row, width in zip(rows, widths, strict=True)
    ]


def test_every_bit_of_a_word_is_fair() -> None:
    """SynthID reads single bits: 2^17 words, each bit within five deviations of a half."""
    words = prf.words(np.uint64(12345), np.arange(2**17, dtype=np.int32))
    shares = [float(((words >> np.uint32(bit)) & 1).mean()) for bit in range(32)]
    assert max(abs(share - 0.5) for share in shares) < 5 * 0.5 / 2**8.5


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**20), st.integers(65, 700), st.integers(1, 6))
def test_many_words_at_once_are_those_made_one_by_one(seed: int, first: int, count: int, step: int) -> None:
    """The vector form, on spans that begin and end inside a block."""
    ids = np.arange(first, first + count * step, step, dtype=np.int32)
    pairs = prf.word_pairs(np.full(count, seed, dtype=np.uint64), ids.astype(np.int64))
    assert prf.words(np.uint64(seed), ids).tolist() == pairs.tolist()
