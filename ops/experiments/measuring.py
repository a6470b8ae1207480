"""What each user of an experiment was shown and did, from the lake."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.experiments.effects import Arm
from online_models.experiments.metrics import Metric
from ops.lake.query import Lake

DAYS_BEFORE = 28
"""Of a user's past, that tells what the user would have done anyway."""


_COLUMNS = (
    "one", "positives", "labelled", "converted", "watch_s", "saves", "hides", "returned", "degraded", "lists", "before"
)  # fmt: skip

_USERS = """
with shown as (
    select json_extract_string(experiments, {path}) as arm, user_id, request_id, ts, label, outcome,
        degraded is not null as degraded
    from outcomes where json_extract_string(experiments, {path}) is not null
),
exposed as (
    select user_id, min(arm) as arm, count(distinct arm) as n_arms, min(ts) as first_ts,
        count(distinct request_id) as lists, count(distinct request_id) filter (degraded) as degraded,
        count(label) as labelled, count(*) filter (label = 1) as positives,
        count(*) filter (outcome = 'save') as saves, count(*) filter (outcome = 'hide') as hides
    from shown group by user_id
),
started as (select min(first_ts) as at from exposed),
later as (
    select user_id, max((type = 'purchase')::integer) as converted,
        sum(case when type = 'watch' then value else 0 end) as watch_s,
        max((ts::date > first_ts::date)::integer) as returned
    from events join exposed using (user_id) where ts >= first_ts group by user_id
),
earlier as (
    select user_id, count(*) as before
    from events join exposed using (user_id), started
    where ts < started.at and ts >= started.at - interval {days} day
        and type in ('click', 'view', 'like', 'save', 'purchase')
    group by user_id
)
select arm, n_arms, 1 as one, positives, labelled, coalesce(converted, 0) as converted,
    coalesce(watch_s, 0) as watch_s, saves, hides, coalesce(returned, 0) as returned, degraded, lists,
    coalesce(before, 0) as before
from exposed left join later using (user_id) left join earlier using (user_id)
order by user_id
"""

_DAYS = """
select json_extract_string(experiments, {path}) as arm, date::varchar as date, count(distinct user_id) as users,
    count(distinct request_id) as lists, count(label) as labelled, count(*) filter (label = 1) as positives
from outcomes where json_extract_string(experiments, {path}) is not null
group by all order by date, arm
"""


@dataclass(frozen=True)
class Measured:
    """Sums of each user who was in one arm only."""

    arms: dict[str, dict[str, NDArray[np.float64]]]
    """Arm -> column -> one value for each user."""
    n_switched: int
    """Users who were seen in several arms; they are left out."""

    def arm(self, name: str, metric: Metric) -> Arm:
        sums = self.arms[name]
        counts = metric.numerator in {"positives", "converted", "saves"}  # what the past says something about
        return Arm(sums[metric.numerator], sums[metric.denominator], sums["before"] if counts else None)


@dataclass(frozen=True)
class Day:
    """One arm on one day."""

    arm: str
    date: str
    users: int
    lists: int
    labelled: int
    positives: int

    @property
    def ctr(self) -> float:
        return self.positives / self.labelled if self.labelled else float("nan")


def users(lake: Lake, experiment: str) -> Measured:
    """Return what users did, by arm. Raise `LakeError`."""
    rows = list(lake.ask(_USERS.format(path=_path(experiment), days=DAYS_BEFORE)).rows)
    found: dict[str, list[tuple[float, ...]]] = {}
    n_switched = 0
    for arm, n_arms, *sums in rows:
        if n_arms == 1:
            found.setdefault(arm, []).append(tuple(sums))
        else:
            n_switched += 1
    arms = {
        arm: dict(zip(_COLUMNS, np.asarray(of_users, np.float64).T, strict=True))
        for arm, of_users in sorted(found.items())
    }
    return Measured(arms, n_switched)


def days(lake: Lake, experiment: str) -> list[Day]:
    """Return the arms by day. Raise `LakeError`."""
    return [Day(*row) for row in lake.ask(_DAYS.format(path=_path(experiment))).rows]


def _path(experiment: str) -> str:
    """Return the JSON path of an experiment's arm as an SQL string; names need no quoting, see `state.experiments`."""
    return f"""'$."{experiment}"'"""
