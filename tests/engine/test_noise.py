"""The noise is a function of seed and position, known answers included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from engine.noise import philox, uniform, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    """The vectors that come with the reference implementation of the SC 2011 paper."""
    assert philox(np.array(counter, np.uint32), np.array(key, np.uint32)).tolist() == expected


def test_the_same_place_gives_the_same_number() -> None:
    assert uniform(7, 3) == uniform(7, 3)
    assert uniform(7, 3) == uniform(7 + 2**64, 3)
    assert len({uniform(7, 3), uniform(7, 4), uniform(8, 3)}) == 3


def test_numbers_are_uniform_over_positions_and_over_seeds() -> None:
    """Kolmogorov-Smirnov at a false-alarm rate of 1e-4 each; seeds fixed."""
    many = np.arange(20_000, dtype=np.uint64)
    one = np.zeros_like(many)
    assert stats.kstest(uniforms(one, many), "uniform").pvalue > 1e-4
    assert stats.kstest(uniforms(many, one), "uniform").pvalue > 1e-4
