"""The ranker's weights that ship with Freshet, so that the first lists of a new installation are good.

Learned from the first half of MovieTweetings-100k (MIT licence) by `freshet weights`; the file is under Freshet's own
licence. Changed inputs need new ones.
"""

from functools import cache
from importlib import resources


@cache
def default_weights() -> bytes:
    """Return them, see `ListwiseRanker.weights`."""
    return resources.files("online_models.engine").joinpath("default.weights").read_bytes()
