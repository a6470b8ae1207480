"""How two registered models order the same lists: the newest that were served, from the inputs that were logged."""

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.engine import inputs
from online_models.evaluation.agreement import distance, kendall, overlap, spearman
from online_models.evaluation.held_out import auc, chances_of, log_loss, ndcg
from online_models.versions.ranking import Ranking
from ops.lake.query import Lake

N_LISTS = 1000
"""That are compared, the newest."""

_LISTS = f"""
select any_value(features), any_value(features_mean), list(labels order by ts) from examples
where request_id is not null and feature_set = '{inputs.FEATURE_SET}' and len(features) > 1
group by request_id order by max(ts) desc limit {{n}}
"""  # noqa: S608 - our own name

Values = NDArray[np.float64]


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Means over lists."""

    lists: int
    kendall: float
    spearman: float
    overlap10: float
    distance: float
    """Of chances, total variation: 0 to 1."""
    taken_lists: int
    """Those of which something was taken, and something was not."""
    first: dict[str, float]
    """Log loss, AUC and NDCG@10 on these; none without any."""
    second: dict[str, float]


def agreement(lake: Lake, first: Ranking, second: Ranking, n_lists: int = N_LISTS) -> Agreement | None:
    """Compare two models; None when the lake has no list that both can score. Raise `LakeError`."""
    orders: list[tuple[float, ...]] = []
    quality: list[list[tuple[float, ...]]] = [[], []]
    for features, mean, told in lake.ask(_LISTS.format(n=n_lists)).rows:
        values, of_all = np.asarray(features, np.float32), np.asarray(mean, np.float32)
        if values.shape[1:] != (inputs.N_INPUTS,) or not np.isfinite(values).all():
            continue
        one, other = (chances_of(model.score(values, of_all)) for model in (first, second))
        orders.append((kendall(one, other), spearman(one, other), overlap(one, other), distance(one, other)))
        taken = np.max(np.asarray(told), axis=0) == 1
        if taken.any() and not taken.all():
            for found, chances in zip(quality, (one, other), strict=True):
                found.append((log_loss(chances, taken), auc(chances, taken), ndcg(chances, taken)))
    if not orders:
        return None
    means = _means(("kendall", "spearman", "overlap10", "distance"), orders)
    of_each = [_means(("log loss", "AUC", "NDCG@10"), found) for found in quality]
    return Agreement(lists=len(orders), taken_lists=len(quality[0]), first=of_each[0], second=of_each[1], **means)


def _means(names: Iterable[str], rows: list[tuple[float, ...]]) -> dict[str, float]:
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True)) if rows else {}
