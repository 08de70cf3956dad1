"""Numbers that no release may change: text marked under them would be found no more."""

import numpy as np
import pytest

from watermark import Key, Kind, prf, scheme, tensors

SECRET = bytes(range(32))
KEY = Key.derive(SECRET, id="vector")
TOKENS = np.array([0, 5, 131_071], dtype=np.int32)
WORDS = {
    "kgw": (0xF1A8CD5027E6D9F7, [0xAD681EF4, 0x44751561, 0x9461EF24]),
    "unigram": (0x8771756E4923ADA5, [0x7C00DE0F, 0x7FD5EECA, 0x92E8BDDB]),
    "gumbel": (0x6A253CABF7064009, [0xD0213F92, 0xA79F9618, 0x30420C4A]),
    "synthid": (0x26911334D5A8762F, [0x26E4E039, 0x5FC927DB, 0x4B24189C]),
}


def test_keys_of_the_ring_and_of_a_tenant() -> None:
    """HKDF of the same secret."""
    assert [int(word) for word in KEY.words] == [0x62061D84EB4F3F3F, 0x6879C86F5E45C0C6]
    tenant = Key.derive(SECRET, id="vector", tenant="acme")
    assert [int(word) for word in tenant.words] == [0xCD06F990735E86BD, 0x72D4FED959AD2B35]


@pytest.mark.parametrize("name", list(WORDS))
def test_seed_and_words_of_a_context(name: str) -> None:
    """Prose after the tokens 11, 22, 33, 44; alone, among the whole vocabulary, and as tensors."""
    each, (seed, words) = scheme(name), WORDS[name]
    context = (11, 22, 33, 44)[: each.h(Kind.PROSE)]
    assert int(each.seed(context, KEY)) == seed
    assert prf.words(np.uint64(seed), TOKENS).tolist() == words
    assert prf.words(np.uint64(seed), np.arange(131_072, dtype=np.int32))[TOKENS].tolist() == words
    every = tensors.all_words(tensors.seeds_tensor([[np.uint64(seed)]])[:, 0], 131_072)
    assert every[0, TOKENS.tolist()].tolist() == words
