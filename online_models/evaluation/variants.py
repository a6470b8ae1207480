"""Other data sets made of the ones at hand: does the engine hold where nothing was chosen on?"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation.protocols import Log

DAY = 86_400.0
TAIL, HEAD = 0.02, 0.2
"""Share of the items, the most frequent ones, that `long-tail` leaves out and `dense` keeps."""

Vary = Callable[[Log, np.random.Generator], Log]


def few_users(log: Log, rng: np.random.Generator) -> Log:
    """A third of the users, whose ids and those of the items are others, and no catalogue."""
    kept = _some_users(log, rng, 1 / 3)
    return _renamed(log.where(kept), rng)


def coarse_times(log: Log, rng: np.random.Generator) -> Log:
    """Times that tell the day only; the order stays."""
    return replace(log, times=np.floor(log.times / DAY) * DAY)


def fast_times(log: Log, rng: np.random.Generator) -> Log:
    """All within a tenth of the time."""
    return replace(log, times=log.times[0] + (log.times - log.times[0]) / 10.0)


def slow_times(log: Log, rng: np.random.Generator) -> Log:
    """All within thirty times the time."""
    return replace(log, times=log.times[0] + (log.times - log.times[0]) * 30.0)


def no_times(log: Log, rng: np.random.Generator) -> Log:
    """An event a second, whenever it was."""
    return replace(log, times=np.arange(len(log), dtype=np.float64))


def long_tail(log: Log, rng: np.random.Generator) -> Log:
    """Without the most frequent items."""
    return log.where(~_is_head(log, TAIL))


def dense(log: Log, rng: np.random.Generator) -> Log:
    """Only the most frequent items."""
    return log.where(_is_head(log, HEAD))


def sparse(log: Log, rng: np.random.Generator) -> Log:
    """One event in four, at random."""
    return log.where(rng.random(len(log)) < 0.25)


def high_bar(log: Log, rng: np.random.Generator) -> Log:
    """Positive is only the highest rating that there is, or the highest but one on a scale of ten."""
    highest = log.ratings.max()
    return replace(log, positive=log.ratings >= (highest - 1 if highest >= 10 else highest))


def no_repeats(log: Log, rng: np.random.Generator) -> Log:
    """Each item once a user (session): the first time."""
    seen: set[tuple[str, str]] = set()
    kept = np.zeros(len(log), np.bool_)
    for k, pair in enumerate(zip(log.users, log.items, strict=True)):
        kept[k] = pair not in seen
        seen.add(pair)
    return log.where(kept)


def more_repeats(log: Log, rng: np.random.Generator) -> Log:
    """Half of the events come a second time, ten seconds later, before whatever follows."""
    times = np.where(rng.random(len(log)) < 0.5, 2, 1)
    index = np.repeat(np.arange(len(log)), times)
    again = np.append(False, index[1:] == index[:-1])
    order = np.argsort(log.times[index] + 10.0 * again, kind="stable")
    index, again = index[order], again[order]
    users, items = np.array(log.users, object)[index].tolist(), np.array(log.items, object)[index].tolist()
    times_of = log.times[index] + 10.0 * again
    return replace(
        log, users=users, items=items, ratings=log.ratings[index], positive=log.positive[index], times=times_of
    )


VARIANTS: Mapping[str, Vary] = {
    "few-users": few_users,
    "coarse-times": coarse_times,
    "fast-times": fast_times,
    "slow-times": slow_times,
    "no-times": no_times,
    "long-tail": long_tail,
    "dense": dense,
    "sparse": sparse,
    "high-bar": high_bar,
    "no-repeats": no_repeats,
    "more-repeats": more_repeats,
}


def vary(log: Log, variant: str | None, seed: int = 0) -> Log:
    """Return the log as another one; None changes nothing."""
    return log if variant is None else VARIANTS[variant](log, np.random.default_rng(seed))


def vary_sessions(train: Log, test: Log, variant: str | None, seed: int = 0) -> tuple[Log, Log]:
    """Return two parts, whose users differ, as parts of one other log."""
    if variant is None:
        return train, test
    both = Log(
        [*(f"train-{user}" for user in train.users), *(f"test-{user}" for user in test.users)],
        [*train.items, *test.items],
        np.concatenate([train.ratings, test.ratings]),
        np.concatenate([train.positive, test.positive]),
        np.concatenate([train.times, test.times]),
        train.catalogue,
    )
    found = vary(both, variant, seed)
    is_test = np.array([user.startswith("test-") for user in found.users])
    return found.where(~is_test), found.where(is_test)


def _some_users(log: Log, rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    users = sorted(set(log.users))
    kept = set(rng.permutation(np.array(users, object))[: max(1, round(share * len(users)))].tolist())
    return np.array([user in kept for user in log.users])


def _renamed(log: Log, rng: np.random.Generator) -> Log:
    def names(of: set[str]) -> dict[str, str]:
        return dict(zip(sorted(of), map(str, rng.permutation(10 * len(of)).tolist()), strict=False))

    users, items = names(set(log.users)), names(set(log.items))
    # The prefix keeps apart the two parts of a session log.
    renamed = [
        user.split("-")[0] + "-" + users[user] if user.startswith(("train-", "test-")) else users[user]
        for user in log.users
    ]
    return replace(log, users=renamed, items=[items[item] for item in log.items], catalogue=())


def _is_head(log: Log, share: float) -> NDArray[np.bool_]:
    counts = Counter(log.items)
    head = {item for item, _ in counts.most_common(max(1, round(share * len(counts))))}
    return np.array([item in head for item in log.items])
