"""The engine's one door to numba: compiled loops without the GIL, cached on disk, typed.

Floating point may be reassociated (that is what lets sums become vector instructions) but NaN and infinity keep their
meaning in `kernel`, for a row with a NaN must be seen; `nan_free` is for the few reductions that LLVM only vectorises
without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")

_KEEPS_NAN = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call (cached on disk), release the GIL while running."""
    compile_: Any = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath=_KEEPS_NAN)
    return cast("Callable[P, R]", compile_(function))


def nan_free(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, for reductions whose result is undefined if a NaN is among the values."""
    compile_: Any = numba.njit(cache=True, nogil=True, boundscheck=False, fastmath=_KEEPS_NAN | {"nnan"})
    return cast("Callable[P, R]", compile_(function))


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, without any licence over floating point."""
    compile_: Any = numba.njit(cache=True, nogil=True, boundscheck=False)
    return cast("Callable[P, R]", compile_(function))
