"""What arms are compared by, kept up to date with each list and each label: sums over users of counts and products.

They say as much as a table of all users would (Chan, Golub, LeVeque 1983, Algorithms for computing the sample
variance), add up over partitions exactly, and are integers, so that neither order nor repetition leaves a trace.
"""

from collections.abc import Iterable, Mapping, Sequence

from online_models.experiments.metrics import METRICS
from state.records import ToldList, UserArm, UserArms

COLUMNS = (
    "lists", "degraded", "labelled", "positives", "saves", "hides", "timed", "latency", "judged", "novelty",
    "compared", "diversity", "converted", "watch_s", "returned",
)  # fmt: skip
"""What is counted of each user; the words of `online_models.experiments.metrics`.

`timed`, `judged` and `compared` are lists of which latency (tenths of a millisecond), novelty (hundredths of a bit) and
diversity (thousandths) are known. `converted` and `returned` are 0 or 1.
"""
MEASURED = (
    ("timed", "latency", "latency_ms", 10),
    ("judged", "novelty", "novelty", 100),
    ("compared", "diversity", "diversity", 1000),
)
"""Two columns, a field of `Impression`, and how many units of the column make one of the field."""
USERS = "users"
MAX_LISTS = 256
"""Of a user, of which more may be told: the 64 that attribution keeps, and those that it has let go of while what it
told of them is not read yet."""
MAX_EXPERIMENTS = 64
"""Of a user: the newest."""
MAX_WATCH_S = 86_400
"""Of one event."""
DAY_MS = 86_400_000
_KEPT_DAYS = 30
_PRODUCTS = sorted(
    {tuple(sorted(pair, key=COLUMNS.index)) for metric in METRICS
     for pair in ((metric.numerator,) * 2, (metric.numerator, metric.denominator), (metric.denominator,) * 2)
     if "one" not in pair}
)  # fmt: skip
_NAMES = {(a, b): f"{a}*{b}" for a, b in _PRODUCTS}
"""Of the products that variances and covariances of metrics are made of."""

Sums = dict[str, int]


def list_counts(degraded: bool, measured: Mapping[str, float | None]) -> dict[str, int]:
    """Return what one list counts; `measured` are those fields of its `Impression` that are in `MEASURED`."""
    counts = {"lists": 1, "degraded": int(degraded)}
    for known, name, field, units in MEASURED:
        if (value := measured[field]) is not None:
            counts |= {known: 1, name: int(value * units + 0.5)}
    return counts


def take_list(
    user: UserArms, request_id: str, ts: int, arms: Mapping[str, str], counts: Mapping[str, int], keep_ms: int
) -> bool:
    """Count a list that the user was shown in these arms, once; return whether it was counted."""
    told = _told(user, request_id, ts, keep_ms)
    if told.shown:
        return False
    before = _columns(told)
    if told.ts // DAY_MS != ts // DAY_MS and any(before.values()):  # its day was that of what was told of it first
        _add(user, arms, {name: -n for name, n in before.items()}, told.ts)
        _add(user, arms, before, ts)
    told.shown, told.ts = True, ts
    _add(user, arms, counts, ts)
    for experiment in arms:
        of_one = user.experiments[experiment]
        if of_one.arm is None:
            continue
        of_one.first_ts = min(of_one.first_ts or ts, ts)
        _note_return(of_one)
    return True


def take_labels(
    user: UserArms,
    request_id: str,
    ts: int,
    arms: Mapping[str, str],
    labels: Sequence[int],
    outcomes: Sequence[str | None],
    keep_ms: int,
) -> None:
    """Count what was told of a list's items by position: the highest label stands, and the outcome behind it."""
    told = _told(user, request_id, ts, keep_ms)
    before = _columns(told)
    for position, (label, outcome) in enumerate(zip(labels, outcomes, strict=True)):
        if label < 0:
            continue
        told.labels[position] = max(label, told.labels.get(position, 0))
        if outcome is not None:
            known = told.outcomes.get(position)
            told.outcomes[position] = (label, ts, outcome) if known is None else max(known, (label, ts, outcome))
    after = _columns(told)
    _add(user, arms, {name: after[name] - before[name] for name in after}, told.ts)


def take_event(user: UserArms, event_type: str, ts: int, value: float | str | None) -> None:
    """Count what the user did after the first list of each experiment, whatever led to it."""
    watched = 0
    if event_type == "watch" and isinstance(value, int | float) and value > 0:
        watched = int(min(value, MAX_WATCH_S) + 0.5)
    for of_one in user.experiments.values():
        if of_one.arm is None or not 0 < of_one.first_ts <= ts:
            continue
        day = of_one.days.setdefault(ts // DAY_MS, {})
        day["events"] = 1
        if event_type == "purchase":
            of_one.counts["converted"] = day["converted"] = 1
        if watched:
            add(of_one.counts, {"watch_s": watched})
            add(day, {"watch_s": watched})
        of_one.last_ts = max(of_one.last_ts, ts)
        _note_return(of_one)


def changes_nothing(user: UserArms, event_type: str, ts: int) -> bool:
    """Return whether `take_event` would count nothing: most events are not the first of their day."""
    day = ts // DAY_MS
    return event_type not in ("purchase", "watch") and all(
        of_one.arm is None
        or not 0 < of_one.first_ts <= ts
        or ("events" in of_one.days.get(day, ()) and of_one.last_ts // DAY_MS >= day)
        for of_one in user.experiments.values()
    )


def forget_days(user: UserArms, ts: int) -> None:
    """Drop what is too old to be counted again; the sums of its days stand."""
    oldest = ts // DAY_MS - _KEPT_DAYS
    for of_one in user.experiments.values():
        for day in [day for day in of_one.days if day < oldest]:
            del of_one.days[day]


def contributions(user: UserArms) -> dict[tuple[str, str], Sums]:
    """Return (experiment, arm) -> what the user adds to the sums; arm "" for who was seen in several."""
    return {
        (name, of_one.arm or ""): _products(of_one.counts) if of_one.arm is not None else {USERS: 1}
        for name, of_one in user.experiments.items()
    }


def day_contributions(user: UserArms) -> dict[tuple[str, str, int], Sums]:
    """Return (experiment, arm, day) -> what the user adds to the day's sums; nothing of who was seen in several.

    Beside `COLUMNS`: `users` had a list on that day, `active` ones a list or an event, `new` ones their first list.
    """
    return {
        (name, of_one.arm, day): _of_day(of_one, day, counts)
        for name, of_one in user.experiments.items()
        if of_one.arm is not None
        for day, counts in of_one.days.items()
    }


def add(sums: Sums, more: Mapping[str, int], sign: int = 1) -> None:
    """Add to sums, or take away from them."""
    for name, n in more.items():
        sums[name] = sums.get(name, 0) + sign * n


def merged(parts: Iterable[Mapping[str, int]]) -> Sums:
    """Add up partitions."""
    total: Sums = {}
    for part in parts:
        add(total, part)
    return total


def product(sums: Mapping[str, int], one: str, other: str) -> int:
    """Return the sum over users of a product of two columns; `one` is 1 for everybody."""
    if other == "one":
        return sums.get(USERS if one == "one" else one, 0)
    first, second = sorted((one, other), key=COLUMNS.index)
    return sums.get(f"{first}*{second}", 0)


def _products(counts: Mapping[str, int]) -> Sums:
    found = {USERS: 1} | {name: n for name in COLUMNS if (n := counts.get(name))}
    for (a, b), name in _NAMES.items():
        if (n := counts.get(a)) and (m := counts.get(b)):
            found[name] = n * m
    return found


def _of_day(of_one: UserArm, day: int, counts: Mapping[str, int]) -> Sums:
    first = of_one.first_ts // DAY_MS if of_one.first_ts else None
    listed, acted = counts.get("lists", 0) > 0, counts.get("events", 0) > 0
    found = {name: n for name, n in counts.items() if n and name != "events"}
    for name, holds in (
        (USERS, listed), ("active", listed or acted), ("new", day == first),
        ("returned", acted and first is not None and day > first),
    ):  # fmt: skip
        if holds:
            found[name] = 1
    return found


def _note_return(of_one: UserArm) -> None:
    if of_one.last_ts // DAY_MS > of_one.first_ts // DAY_MS:
        of_one.counts["returned"] = 1
    else:
        of_one.counts.pop("returned", None)


def _columns(told: ToldList) -> dict[str, int]:
    types = [outcome for _, _, outcome in told.outcomes.values()]
    return {
        "labelled": len(told.labels),
        "positives": sum(label == 1 for label in told.labels.values()),
        "saves": types.count("save"),
        "hides": types.count("hide"),
    }


def _told(user: UserArms, request_id: str, ts: int, keep_ms: int) -> ToldList:
    """Return a list's record, making one and dropping those of which nothing can come any more."""
    told = user.lists.get(request_id)
    if told is None:
        for name in [name for name, old in user.lists.items() if old.ts < ts - keep_ms]:
            del user.lists[name]
        if len(user.lists) >= MAX_LISTS:
            del user.lists[next(iter(user.lists))]
        told = user.lists[request_id] = ToldList(ts)
    return told


def _add(user: UserArms, arms: Mapping[str, str], counts: Mapping[str, int], ts: int) -> None:
    """Count something of a list, on the list's day."""
    for experiment, arm in arms.items():
        of_one = user.experiments.get(experiment)
        if of_one is None:
            if len(user.experiments) >= MAX_EXPERIMENTS:
                del user.experiments[next(iter(user.experiments))]
            of_one = user.experiments[experiment] = UserArm(arm)
        if of_one.arm != arm:
            of_one.arm, of_one.counts, of_one.days = None, {}, {}
        else:
            add(of_one.counts, counts)
            add(of_one.days.setdefault(ts // DAY_MS, {}), counts)
