"""The one door to numba for this room: compiled loops without the GIL, cached on disk, typed.

Kernels take and return plain arrays and numbers. No fast-math: the order of additions is what makes a token's result
independent of its neighbours (`cpu_attention`); only a·b + c may be contracted into one rounding.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at first call (cached on disk), release the GIL while running."""
    compile_: Any = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy", fastmath={"contract"})
    return cast("Callable[P, R]", compile_(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, for small functions called by other kernels."""
    compile_: Any = numba.njit(
        cache=True, nogil=True, inline="always", boundscheck=False, error_model="numpy", fastmath={"contract"}
    )
    return cast("Callable[P, R]", compile_(function))
