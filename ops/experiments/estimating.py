"""What another share of exploration would have got, from the propensities that the lake has of what was shown."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.experiments.off_policy import Value, doubly_robust, ips, snips
from ops.lake.query import Lake

Floats = NDArray[np.float64]

# Of a list in which items are tried out, a place that was not has 1 - share, plus what is drawn for its item by chance.
_PLACES = """
with explored as (
    select *, 1.0 - min(propensity) filter (propensity >= 0.5) over (partition by request_id) as share
    from outcomes where propensity is not null{surface}
)
select user_id, position, propensity, share, label = 1 as positive from explored
where label is not null and position > 0 and share > 0
order by request_id, position
"""


class Places(NamedTuple):
    """Places that may be given to an item that is tried out, and what came of each; all shape (n,)."""

    users: NDArray[np.int64]
    positions: NDArray[np.int64]
    propensities: Floats
    shares: Floats
    """Of exploration, when the list was made."""
    rewards: Floats
    """1 for a positive outcome."""

    @property
    def tried(self) -> NDArray[np.bool_]:
        """Return which items were tried out; the others had the best score left."""
        return self.propensities < 0.5


class NothingExploredError(ValueError):
    """The lake has no list in which items were tried out, and whose outcome is known."""


class Estimate(NamedTuple):
    """Positives per place of which an item may be tried out, under one share."""

    share: float
    ips: Value
    snips: Value
    dr: Value


def places(lake: Lake, surface: str | None = None) -> Places:
    """Return all places of the lake, or those of a surface. Raise `LakeError` or `NothingExploredError`."""
    where = "" if surface is None else " and surface = '" + surface.replace("'", "''") + "'"
    rows = list(lake.ask(_PLACES.format(surface=where)).rows)
    if not rows:
        raise NothingExploredError(
            "the lake has no list with known outcomes in which items were tried out: "
            "ask for lists with exploration=0.05, or give an arm of an experiment that parameter"
        )
    users, positions, propensities, shares, rewards = zip(*rows, strict=True)
    return Places(
        np.unique(np.array(users), return_inverse=True)[1].astype(np.int64),
        np.array(positions, np.int64),
        np.array(propensities, np.float64),
        np.array(shares, np.float64),
        np.array(rewards, np.float64),
    )


def estimate(found: Places, share: float, alpha: float = 0.05) -> Estimate:
    """Return what places would have got, had they been given with this probability to an item that is tried out.

    What is tried out is drawn as it was: only how often is another. The model of the doubly robust estimator is the
    mean by position, of items that were tried out and of others.

    Raise `NoSupportError`.
    """
    tried = found.tried
    # The chance of the item to be the one that is drawn, given that one is.
    drawn = np.where(tried, found.propensities, found.propensities - (1.0 - found.shares)) / found.shares
    target = share * drawn + np.where(tried, 0.0, 1.0 - share)
    of_best, of_tried = _means(found, ~tried), _means(found, tried)
    predicted = np.where(tried, of_tried, of_best)
    of_target = (1.0 - share) * of_best + share * of_tried
    logged, users, rewards = found.propensities, found.users, found.rewards
    return Estimate(
        share,
        ips(rewards, logged, target, users, alpha),
        snips(rewards, logged, target, users, alpha),
        doubly_robust(rewards, logged, target, predicted, of_target, users, alpha),
    )


def _means(found: Places, chosen: NDArray[np.bool_]) -> Floats:
    """Return the mean reward at each place's position over the chosen places; over all of them where there is none."""
    n = int(found.positions.max()) + 1
    counts = np.bincount(found.positions[chosen], minlength=n)
    sums = np.bincount(found.positions[chosen], found.rewards[chosen], n)
    overall = found.rewards[chosen].mean() if chosen.any() else 0.0
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), overall)[found.positions])
