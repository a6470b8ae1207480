"""Compiled loops. One place says how, so that every kernel has the same semantics."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

_ROUNDING_ONLY = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be reordered so that they vectorise; NaN and infinity keep their meaning."""


def jit(function: F) -> F:
    """Compile on first call and keep the result on disk. `NUMBA_BOUNDSCHECK=1` checks every index."""
    compiled = numba.njit(cache=True, nogil=True, fastmath=_ROUNDING_ONLY, error_model="numpy")(function)
    return cast(F, compiled)
