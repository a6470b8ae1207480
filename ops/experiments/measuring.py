"""What each user of an experiment was shown and did, from the lake."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.experiments.arm_days import OneDay
from online_models.experiments.arm_sums import COLUMNS, MAX_WATCH_S, MEASURED
from online_models.experiments.effects import Arm
from online_models.experiments.metrics import Metric
from ops.lake.query import Lake

DAYS_BEFORE = 28
"""Of a user's past, that tells what the user would have done anyway."""

_OF_LISTS = COLUMNS[: COLUMNS.index("converted")]
_OF_EVENTS = COLUMNS[COLUMNS.index("converted") :]
_OF_USERS = ("one", *COLUMNS, "before")
_OF_DAYS = ("users", "active", "new", *COLUMNS)

_LISTS = """
with seen as (
    select json_extract_string(experiments, {path}) as arm, user_id, request_id, date, ts,
        1 as lists, (degraded is not null)::integer as degraded, {measured}
    from impressions where json_extract_string(experiments, {path}) is not null
),
told as (
    select request_id, count(label) as labelled, count(*) filter (label = 1) as positives,
        count(*) filter (outcome = 'save') as saves, count(*) filter (outcome = 'hide') as hides
    from outcomes where json_extract_string(experiments, {path}) is not null group by request_id
),
exposed as (
    select user_id, min(arm) as arm, count(distinct arm) as n_arms, min(ts) as first_ts, min(date) as first_date
    from seen group by user_id
),
later as (
    select user_id, ts::date as date, (type = 'purchase')::integer as converted,
        case when type = 'watch' and value > 0 then floor(least(value, {max_watch}) + 0.5)::bigint else 0 end
            as watch_s,
        (ts::date > first_date)::integer as returned
    from events join exposed using (user_id) where ts >= first_ts
)
"""
_USERS = """,
shown as (select user_id, {sums_of_lists} from seen left join told using (request_id) group by user_id),
acted as (select user_id, {sums_of_events} from later group by user_id),
started as (select min(first_ts) as at from exposed),
earlier as (
    select user_id, count(*) as before
    from events join exposed using (user_id), started
    where ts < started.at and ts >= started.at - interval {days} day
        and type in ('click', 'view', 'like', 'save', 'purchase')
    group by user_id
)
select arm, n_arms, 1 as one, {columns}, coalesce(before, 0)
from exposed join shown using (user_id) left join acted using (user_id) left join earlier using (user_id)
order by user_id
"""
_DAYS = """,
shown as (
    select user_id, date, 1 as users, {sums_of_lists} from seen left join told using (request_id) group by all
),
acted as (select user_id, date, {sums_of_events} from later group by all),
both_of_them as (
    select arm, date, coalesce(users, 0) as users, 1 as active, (date = first_date)::integer as new, {columns}
    from (shown full join acted using (user_id, date)) join exposed using (user_id) where n_arms = 1
)
select arm, date - date '1970-01-01', {sums} from both_of_them group by all order by all
"""
_ITEMS = """
select arm, date - date '1970-01-01', list(distinct item) from (select arm, date, unnest(items) as item from (
    select json_extract_string(experiments, {path}) as arm, date, items from impressions
) where arm is not null) group by all
"""
_LATENCIES = """
select json_extract_string(experiments, {path}) as arm, date - date '1970-01-01', floor(latency_ms * 10 + 0.5) / 10,
    count(*)
from impressions where json_extract_string(experiments, {path}) is not null and latency_ms is not null group by all
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
        return Arm(sums[metric.numerator] * metric.unit, sums[metric.denominator], sums["before"] if counts else None)


def users(lake: Lake, experiment: str) -> Measured:
    """Return what users did, by arm. Raise `LakeError`."""
    rows = list(lake.ask(_query(_USERS, experiment)).rows)
    found: dict[str, list[tuple[float, ...]]] = {}
    n_switched = 0
    for arm, n_arms, *sums in rows:
        if n_arms == 1:
            found.setdefault(arm, []).append(tuple(sums))
        else:
            n_switched += 1
    arms = {
        arm: dict(zip(_OF_USERS, np.asarray(of_users, np.float64).T, strict=True))
        for arm, of_users in sorted(found.items())
    }
    return Measured(arms, n_switched)


def days(lake: Lake, experiment: str) -> list[OneDay]:
    """Return the arms by day, as the flow `experiments` sums them. Raise `LakeError`."""
    found: dict[tuple[int, str], OneDay] = {}
    for arm, day, items in lake.ask(_query(_ITEMS, experiment)).rows:
        found.setdefault((day, arm), OneDay(arm, day)).shown.add(items, None)
    for arm, day, latency_ms, n_lists in lake.ask(_query(_LATENCIES, experiment)).rows:
        found[day, arm].shown.add((), latency_ms, n_lists)
    for arm, day, *sums in lake.ask(_query(_DAYS, experiment)).rows:
        of_day = found.setdefault((day, arm), OneDay(arm, day))
        of_day.sums |= {name: int(n) for name, n in zip(_OF_DAYS, sums, strict=True) if n}
    return [found[name] for name in sorted(found)]


def _query(select: str, experiment: str) -> str:
    """Return one of the queries above; names need no quoting, see `state.experiments`."""
    begin = _LISTS if select.startswith(",") else ""
    measured = (
        f"({field} is not null)::integer as {known}, coalesce(floor({field} * {units} + 0.5), 0)::bigint as {name}"
        for known, name, field, units in MEASURED
    )
    return (begin + select).format(
        path=f"""'$."{experiment}"'""",
        measured=", ".join(measured),
        max_watch=MAX_WATCH_S,
        days=DAYS_BEFORE,
        sums_of_lists=", ".join(f"coalesce(sum({name}), 0) as {name}" for name in _OF_LISTS),
        sums_of_events=", ".join(f"{'sum' if name == 'watch_s' else 'max'}({name}) as {name}" for name in _OF_EVENTS),
        columns=", ".join(f"coalesce({name}, 0) as {name}" for name in COLUMNS),
        sums=", ".join(f"sum({name})" for name in _OF_DAYS),
    )
