# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803 - Triton names compile-time arguments in capitals
"""The keyed function inside kernels, run by Triton's interpreter: the same integers, and noise that is near enough."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from watermark import prf, triton_words
from watermark.schemes.gumbel import noise_of

# Triton decides at its import, so the tests below need a process of their own.
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
inner = pytest.mark.skipif(not _INTERPRETED, reason="run by the test above, with the interpreter")


@pytest.mark.skipif(_INTERPRETED, reason="this is the inner run")
def test_the_interpreter_agrees_with_the_host() -> None:
    """Runs the tests below in a process where Triton interprets."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:]


@triton.jit
def _words(seeds, out, first, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    words = triton_words.words(tl.load(seeds + row), first, BLOCK)
    tl.store(out + row * BLOCK + tl.arange(0, BLOCK), words.to(tl.int64))


@triton.jit
def _noises(words, exact, rough, BLOCK: tl.constexpr):
    place = tl.arange(0, BLOCK)
    word = tl.load(words + place).to(tl.uint32)
    tl.store(exact + place, triton_words.noise(word))
    tl.store(rough + place, triton_words.rough_noise(word))


@inner
def test_words_are_the_same_bit_by_bit() -> None:
    """Whole blocks from any multiple of four, under seeds that fill 64 bits."""
    seeds = [np.uint64(0), np.uint64(2**64 - 1), np.uint64(0x0123456789ABCDEF)]
    for first in (0, 1028):
        out = torch.zeros((3, 256), dtype=torch.int64)
        _words[(3,)](torch.from_numpy(np.array(seeds).view(np.int64)), out, first, BLOCK=256)
        ids = np.arange(first, first + 256, dtype=np.int32)
        assert (out.numpy() == np.stack([prf.words(seed, ids) for seed in seeds])).all()


@inner
def test_noise_is_the_host_s_and_rough_noise_is_near_it() -> None:
    """At both ends, in the middle, and where float32 begins to round: within what the race allows for."""
    edges = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 3 * 2**29, *(2**32 - 2**n for n in range(1, 27))]
    words = torch.tensor(edges)
    exact, rough = torch.zeros(32, dtype=torch.float64), torch.zeros(32)
    _noises[(1,)](words, exact, rough, BLOCK=32)
    wanted = [float(noise_of(np.uint64(word))) for word in words.tolist()]
    assert exact.tolist() == pytest.approx(wanted, rel=1e-14, abs=1e-14)
    assert rough.tolist() == pytest.approx(wanted, abs=1e-5)
