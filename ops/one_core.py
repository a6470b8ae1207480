"""Commands that compute on one core, so that costs are of one core and others have theirs."""

import os

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def use_one_core() -> None:
    """Keep libraries from threads of their own, unless the environment says how many. Before numpy is imported."""
    for name in _THREADS:
        os.environ.setdefault(name, "1")
