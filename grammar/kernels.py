"""The one door to numba: compiled loops without the GIL, cached on disk, typed.

Kernels take and return plain arrays and numbers. With NUMBA_DISABLE_JIT=1 they run as ordinary Python, which is how
coverage sees them, so a kernel may use nothing that differs between the two (no overflow on purpose, no object mode).
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

P = ParamSpec("P")
R = TypeVar("R")
Scalar = TypeVar("Scalar", bound=np.generic)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call (cached on disk), release the GIL while running."""
    compile_: Any = numba.njit(cache=True, nogil=True, boundscheck=False)
    return cast("Callable[P, R]", compile_(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, for small functions called by other kernels."""
    compile_: Any = numba.njit(cache=True, nogil=True, inline="always", boundscheck=False)
    return cast("Callable[P, R]", compile_(function))


def fixed(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """A read-only view. A kernel is compiled once for arrays that may be written and once for others: what comes from
    either kind of place is passed on through this, so that the second is not compiled in the middle of a request."""
    view = array.view()
    view.setflags(write=False)
    return view
