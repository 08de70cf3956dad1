"""The one place where this room meets numba's compiler: `compiled` turns a function of arrays and numbers into
machine code.

numba ships no types, so the decorator keeps the function's own signature for the type checker. Kernels are cached on
disk and release the GIL; fast-math stays off, since a mark that rounds differently on another machine would be lost.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile with numba on first use (from the disk cache where it is known)."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
