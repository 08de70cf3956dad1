"""The tensor form gives the same integers and the same choices as the compiled one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark import SCHEMES, Key, SchemeError, prf, scheme, tensors

KEY = Key.derive(b"the tensors' key", id="k")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), st.integers(1, 90))
def test_words_are_the_same_bit_by_bit(seeds: list[int], vocabulary: int) -> None:
    """Seeds above 2^63 too, and vocabularies that end inside a block."""
    words = tensors.all_words(tensors.seeds_tensor([[np.uint64(seed)] for seed in seeds])[:, 0], vocabulary)
    ids = np.arange(vocabulary, dtype=np.int32)
    assert words.tolist() == [prf.words(np.uint64(seed), ids).tolist() for seed in seeds]


def test_philox_gives_the_known_answer_of_random123() -> None:
    """The digits of pi."""
    counter = tuple(torch.tensor([word]) for word in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344))
    key = tensors.seeds_tensor([[np.uint64(0xA4093822 | 0x299F31D0 << 32)]])[:, 0]
    block = tensors.philox((counter[0], counter[1], counter[2], counter[3]), key)
    assert [int(word) for word in block] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


CASES = [(name, False) for name in SCHEMES] + [(name, True) for name, each in SCHEMES.items() if each.marks_greedy]


@pytest.mark.parametrize(("name", "greedy"), CASES)
def test_a_batch_chooses_what_each_row_chooses_alone(name: str, greedy: bool) -> None:
    """Every scheme, flat rows and peaked ones, with illegal tokens; the promise agrees too."""
    each = scheme(name)
    rng = np.random.default_rng(1)
    logits = (rng.normal(size=(40, 300)) * rng.choice([0.5, 2.0, 6.0], size=(40, 1))).astype(np.float32)
    logits[rng.random(size=logits.shape) < 0.3] = -np.inf
    uniforms = rng.random(40)
    contexts = [(row, 5)[: each.widths[0]] for row in range(40)]
    seeds = tensors.seeds_tensor([each.seeds(context, KEY) for context in contexts])
    tokens, figures = tensors.choose(each, torch.from_numpy(logits), seeds, torch.from_numpy(uniforms), greedy=greedy)
    for row, (token, told) in enumerate(zip(tokens.tolist(), figures.tolist(), strict=True)):
        chosen = each.as_choice(token, *told)
        ids = np.flatnonzero(np.isfinite(logits[row])).astype(np.int32)
        alone = each.choose(ids, logits[row][ids], contexts[row], KEY, float(uniforms[row]), greedy=greedy)
        assert chosen.index == ids[alone.index]
        assert chosen.expected == pytest.approx(alone.expected, rel=5e-3)
        assert chosen.spread == pytest.approx(alone.spread, rel=2e-2)
        assert chosen.marked


@pytest.mark.parametrize("name", SCHEMES)
def test_a_row_does_not_depend_on_its_batch(name: str) -> None:
    """First alone, then among others."""
    each = scheme(name)
    logits = torch.randn(5, 100, generator=torch.Generator().manual_seed(1))
    seeds = tensors.seeds_tensor([each.seeds((n, 7)[: each.widths[0]], KEY) for n in range(5)])
    uniforms = torch.full((5,), 0.5, dtype=torch.float64)
    together = tensors.choose(each, logits, seeds, uniforms, greedy=False)[0]
    alone = [tensors.choose(each, logits[i : i + 1], seeds[i : i + 1], uniforms[:1], greedy=False)[0] for i in range(5)]
    assert together.tolist() == [int(each) for each in alone]


@pytest.mark.parametrize("name", ["gumbel", "synthid"])
def test_schemes_that_key_only_noise_have_nothing_to_choose_at_temperature_0(name: str) -> None:
    """The caller takes the best candidate, unmarked."""
    with pytest.raises(SchemeError, match="temperature 0"):
        tensors.choose(scheme(name), torch.zeros(1, 4), torch.zeros(1, 1), torch.zeros(1), greedy=True)


@pytest.mark.gpu
def test_words_on_a_gpu_equal_those_of_the_host() -> None:
    """131,072 tokens, 8 seeds."""
    seeds = [np.uint64(2**64 - 1 - n) for n in range(8)]
    words = tensors.all_words(tensors.seeds_tensor([[seed] for seed in seeds], "cuda")[:, 0], 131_072).cpu()
    ids = np.arange(131_072, dtype=np.int32)
    assert (words.numpy() == np.stack([prf.words(seed, ids) for seed in seeds])).all()
