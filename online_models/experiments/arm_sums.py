"""What arms are compared by, kept up to date with each list and each label: sums over users of counts and products.

They say as much as a table of all users would (Chan, Golub, LeVeque 1983, Algorithms for computing the sample
variance), add up over partitions exactly, and are integers, so that neither order nor repetition leaves a trace.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement

from state.records import ToldList, UserArm, UserArms

COLUMNS = ("lists", "degraded", "labelled", "positives", "saves", "hides")
"""What is counted of each user; the words of `online_models.experiments.metrics`."""
USERS = "users"
MAX_LISTS = 64
"""Of a user, of which more may be told; as attribution keeps."""
MAX_EXPERIMENTS = 64
"""Of a user: the newest."""
_NAMES = {(a, b): f"{a}*{b}" for a, b in combinations_with_replacement(COLUMNS, 2)}

Sums = dict[str, int]


def take_list(user: UserArms, request_id: str, ts: int, arms: Mapping[str, str], degraded: bool, keep_ms: int) -> None:
    """Count a list that the user was shown in these arms, once."""
    told = _told(user, request_id, ts, keep_ms)
    if told.shown:
        return
    told.shown, told.ts = True, ts
    _add(user, arms, {"lists": 1, "degraded": int(degraded)})


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
    _add(user, arms, {name: after[name] - before[name] for name in after})


def contributions(user: UserArms) -> dict[tuple[str, str], Sums]:
    """Return (experiment, arm) -> what the user adds to the sums; arm "" for who was seen in several."""
    return {
        (name, of_one.arm or ""): _products(of_one.counts) if of_one.arm is not None else {USERS: 1}
        for name, of_one in user.experiments.items()
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
    known = [(name, n) for name in COLUMNS if (n := counts.get(name))]
    found = {USERS: 1} | dict(known)
    for (a, n), (b, m) in combinations_with_replacement(known, 2):
        found[_NAMES[a, b]] = n * m
    return found


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


def _add(user: UserArms, arms: Mapping[str, str], counts: Mapping[str, int]) -> None:
    for experiment, arm in arms.items():
        of_one = user.experiments.get(experiment)
        if of_one is None:
            if len(user.experiments) >= MAX_EXPERIMENTS:
                del user.experiments[next(iter(user.experiments))]
            of_one = user.experiments[experiment] = UserArm(arm)
        if of_one.arm != arm:
            of_one.arm, of_one.counts = None, {}
        else:
            add(of_one.counts, counts)
