"""Compiled loops. One place says how, so that every kernel has the same semantics."""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching

F = TypeVar("F", bound=Callable[..., object])

_ROUNDING_ONLY = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be reordered so that they vectorise; NaN and infinity keep their meaning."""

_OPTIONS: Any = {
    "cache": True,
    "nogil": True,
    "fastmath": _ROUNDING_ONLY,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,  # nothing calls a kernel by its address, and it takes a tenth of the time to compile
}

_ROOT = Path(__file__).parents[2]
_IMPORT = re.compile(r"^from (online_models[\w.]*) import (?:\(([^)]*)\)|(.*))", re.MULTILINE)


def jit(function: F) -> F:
    """Compile on first call and keep the result on disk. `NUMBA_BOUNDSCHECK=1` checks every index."""
    return _compiled(function, counts_references=True)


def jit_bare(function: F) -> F:
    """The same for one that makes no array: references to its arrays are not counted.

    Numba counts an array's at each call and each view, by an atomic operation: a third of what learning an event took.
    """
    return _compiled(function, counts_references=False)


def _compiled(function: F, *, counts_references: bool) -> F:
    # Said in either case: a function takes what is not said from the one that calls it.
    options: Any = {**_OPTIONS, "_nrt": counts_references}
    config: Any = numba.config
    others = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = ",".join(f"{__name__}.{place.__name__}" for place in _PLACES)
    try:
        compiled = numba.njit(**options)(function)
    finally:
        config.CACHE_LOCATOR_CLASSES = others
    return cast(F, compiled)


def stamp(path: Path) -> str:
    """Return a digest of a source file and of all that it imports of these models, directly or not.

    A compiled function contains those that it calls and the constants that it uses, of whatever file. Numba by itself
    looks at the function's own file only, and goes on with the old ones of the others.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            waiting += _read(source)[1]
    return hashlib.blake2b(b"".join(_read(source)[0] for source in sorted(found)), digest_size=16).hexdigest()


@cache
def _read(path: Path) -> tuple[bytes, tuple[Path, ...]]:
    """Return the digest of a file, and the files that it imports."""
    content = path.read_bytes()
    imported = []
    for package, several, one in _IMPORT.findall(content.decode()):
        folder = _ROOT / package.replace(".", "/")
        names = [name.split(" as ")[0].strip() for name in (several or one).split("#")[0].split(",")]
        modules = [folder.with_suffix(".py"), *(folder / f"{name}.py" for name in names)]
        imported += [module for module in modules if module.is_file()]
    return hashlib.blake2b(content).digest(), tuple(imported)


class _BySources:
    """What is compiled counts as long as none of its sources has changed."""

    _py_file: str

    def get_source_stamp(self) -> str:
        return stamp(Path(self._py_file))


class Chosen(_BySources, caching.UserProvidedCacheLocator):
    """In the folder that NUMBA_CACHE_DIR names."""


class Beside(_BySources, caching.InTreeCacheLocator):
    """Beside the source."""


class OfUser(_BySources, caching.UserWideCacheLocator):
    """In the user's folder, where the source's cannot be written."""


_PLACES: tuple[type[Any], ...] = (Chosen, Beside, OfUser)
