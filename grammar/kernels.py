"""The one door to numba: compiled loops without the GIL, cached on disk, typed.

Kernels take and return plain arrays and numbers. With NUMBA_DISABLE_JIT=1 they run as ordinary Python, which is how
coverage sees them, so a kernel may use nothing that differs between the two (no overflow on purpose, no object mode).

What is on disk is stamped with the meaning of the kernel, of those that it calls and of the constants that it reads:
numba itself looks at the age of the kernel's own file only, and would go on with what another file said once.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from types import CodeType, FunctionType
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
    return cast("Callable[P, R]", _stamped(compile_(function), function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `kernel`, for small functions called by other kernels."""
    compile_: Any = numba.njit(cache=True, nogil=True, inline="always", boundscheck=False)
    return cast("Callable[P, R]", _stamped(compile_(function), function))


@cache
def meaning(function: Callable[..., Any]) -> str:
    """A digest of what a function computes: its code, the constants that it reads, and the kernels that it calls."""
    plain = cast("FunctionType", function)
    digest = hashlib.blake2b(digest_size=16)
    _add_code(digest, plain.__code__)
    for name in sorted(plain.__code__.co_names):
        value = plain.__globals__.get(name)
        called = getattr(value, "py_func", None)
        if called is not None:
            digest.update(meaning(called).encode())
        elif isinstance(value, (int, float, bytes)):
            digest.update(f"{name}={value!r}".encode())
    return digest.hexdigest()


def _add_code(digest: Any, code: CodeType) -> None:
    digest.update(code.co_code + repr((code.co_names, code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _add_code(digest, constant)
        elif not isinstance(constant, str):  # but for what it says of itself
            digest.update(repr(constant).encode())


def _stamped(compiled: Any, function: Callable[..., Any]) -> Any:
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if file is not None:  # Interpreted functions are kept nowhere.
        file._source_stamp = (file._source_stamp, meaning(function))
    return compiled


def fixed(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """A read-only view. A kernel is compiled once for arrays that may be written and once for others: what comes from
    either kind of place is passed on through this, so that the second is not compiled in the middle of a request."""
    view = array.view()
    view.setflags(write=False)
    return view
