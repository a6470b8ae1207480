"""What a model is run on: a protocol, bound to a data set."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from online_models.evaluation.metrics import PER_QUERY
from online_models.evaluation.protocols import (
    Log,
    Outcome,
    Progress,
    Recommender,
    leave_last_out,
    prequential,
    sessions,
)
from online_models.evaluation.variants import vary, vary_sessions
from ops.datasets import detect
from ops.evaluation.logs import genres_of, histories_of, log_of, read_pairs, sessions_of

Run = Callable[[Recommender, Progress | None], Outcome]

_VALIDATION = 0.2
"""Share of the training sessions, the newest, that constants of baselines are judged on."""
_ASK_EVERY = 3
"""While tuning: one event in three is asked for."""


@dataclass(frozen=True)
class Task:
    """A protocol on a data set."""

    data: str
    protocol: str
    headline: str
    n_events: int
    n_items: int
    run: Run
    validate: Run
    """The same on the part before the first query that counts: for the tuning of baselines."""
    n_validation_events: int
    genres: dict[str, frozenset[str]] = field(default_factory=dict)

    def judge(self, model: Recommender) -> float:
        """Return the mean of the headline metric on the part before the first query that counts."""
        ranks = np.array(self.validate(model, None).ranks, np.int64)
        return float(PER_QUERY[self.headline](ranks).mean())


def task_of(data: Path, protocol: str, limit: int | None, asked_after: float = 0.5, variant: str | None = None) -> Task:
    """Read a data set, of which `limit` events at most count.

    `asked_after`: share of a prequential log without queries. `variant`: one of `VARIANTS`, of what counts.
    """
    if protocol == "leave-last-out":
        histories = read_pairs(data) if data.is_file() else histories_of(detect(data), limit)
        n_events = sum(map(len, histories.values()))
        return Task(
            data.name,
            protocol,
            "NDCG@10",
            n_events,
            len({item for history in histories.values() for item in history}),
            lambda model, progress: leave_last_out(model, histories, progress=progress),
            lambda model, progress: leave_last_out(model, histories, validate=True, progress=progress),
            n_events,
        )
    dataset = detect(data)
    if protocol == "sessions":
        train, test = vary_sessions(*sessions_of(dataset, limit), variant)
        known, held = split_sessions(train)
        return Task(
            data.name,
            protocol,
            "MRR@20",
            len(train) + len(test),
            len({*train.items, *test.items}),
            lambda model, progress: sessions(model, train, test, progress),
            lambda model, progress: sessions(model, known, held, progress, _ASK_EVERY),
            len(train),
            genres_of(train),
        )
    log = vary(log_of(dataset, limit), variant)
    warm_up = log.head(max(1, int(asked_after * len(log))))
    return Task(
        data.name,
        protocol,
        "NDCG@10",
        len(log),
        len(set(log.items)),
        lambda model, progress: prequential(model, log, asked_after, progress),
        lambda model, progress: prequential(model, warm_up, progress=progress, ask_every=_ASK_EVERY),
        len(warm_up),
        genres_of(log),
    )


def split_sessions(log: Log) -> tuple[Log, Log]:
    """Split a log by session: those that ended in its first four fifths of time order, and the others."""
    ends: dict[str, float] = {}
    for user, t in zip(log.users, log.times.tolist(), strict=True):
        ends[user] = max(t, ends.get(user, t))
    edge = float(np.quantile(log.times, 1.0 - _VALIDATION))
    early = np.array([ends[user] <= edge for user in log.users])
    return log.where(early), log.where(~early)
