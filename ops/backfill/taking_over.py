"""A finished run in the place of the live learner's state, which goes on with the first event that was not learned.

Rows and watermarks are one commit, as any of the learner's own. The learner notices within a second that the state is
not its own any more, ends, is started again by its supervisor, and reads on from the watermarks.
"""

import time
from collections.abc import Mapping

import redis

from online_models.learning.rows import TABLES
from online_models.versions.boosting import TreeParameters
from ops.backfill.training import Parameters, Training
from state.entries import EVERYTHING, LEARNER_USER, encode_feed_entry, feed_key
from state.memory_store import MemoryStore
from state.records import Watermark
from state.redis_commit import Keys
from state.redis_store import RedisStore
from state.settings import Settings
from state.store import Changes, StateLostError, Store
from state.topics import CLEAN, EXAMPLES, ITEMS

FLOW = "learn"
_ATTEMPTS = 20
"""The learner may commit between the look at its state and the commit that replaces it."""


class CannotTakeOverError(ValueError):
    """What was learned cannot be the start of the live learner; the message says why."""


def check(parameters: Parameters | TreeParameters, since: bool, until: bool) -> None:
    """Raise `CannotTakeOverError`: asked before anything is learned."""
    if isinstance(parameters, TreeParameters):
        raise CannotTakeOverError("trees do not learn on: only --model ranker can take over")
    if since or until:
        raise CannotTakeOverError("the live learner needs all of the log: leave out --since and --until")
    if parameters.n_negatives > Parameters().n_negatives:
        raise CannotTakeOverError(f"n_negatives is at most {Parameters().n_negatives} in the live learner")


def take_over(training: Training, store: Store, known_users: set[str], now_ms: int) -> None:
    """Commit what was learned as the learner's state. Raise `StateLostError` when the learner was faster.

    `known_users`: those who have a row in the store.
    """
    learned = MemoryStore.of(training.dump())
    changes = Changes()
    for table in TABLES:
        rows = dict(learned.scan_rows(table))
        for name, _ in store.scan_rows(table):
            if name not in rows:
                changes.remove(table, name)
        for name, row in rows.items():
            changes.upsert(table, name, row)
    users = dict(learned.scan_entries(LEARNER_USER))
    for user_id in known_users - users.keys():
        changes.delete(LEARNER_USER, user_id)
    for user_id, history in users.items():
        changes.put(LEARNER_USER, user_id, history)
    _advance(training, changes, store.watermarks(FLOW), now_ms)
    store.commit(changes)


def _advance(training: Training, changes: Changes, before: Mapping[tuple[str, int], Watermark], now_ms: int) -> None:
    """Set the watermarks to where the run has ended."""
    for where, end in training.plan.ends.items():
        topic, _, number = where.partition("/")
        if topic in (CLEAN.name, EXAMPLES.name):
            at = topic, int(number)
            mark = Watermark(end, training.stream_ts.get(at, training.learner.stream_ts), now_ms)
            changes.advance(FLOW, *at, mark, after=before.get(at))
    for (topic, partition), mark in before.items():
        if topic == ITEMS.name:  # entries are absolute: all are read again, whenever the run has read them
            changes.advance(FLOW, topic, partition, Watermark(0, mark.stream_ts, now_ms), after=mark)


def take_over_redis(training: Training, settings: Settings) -> None:
    """Do it in Redis, and have serving load everything again. Raise `StateLostError` or `StoreUnavailableError`."""
    store, keys = RedisStore(settings), Keys(settings)
    with redis.Redis.from_url(settings.redis_url) as client:
        for attempt in range(_ATTEMPTS):
            store.recover(FLOW)
            prefix, suffix = keys(LEARNER_USER.pattern).split("{id}")
            names = client.scan_iter(f"{prefix}*{suffix}", count=1000)
            known = {name.decode().removeprefix(prefix).removesuffix(suffix) for name in names}
            try:
                take_over(training, store, known, int(time.time() * 1000))
                break
            except StateLostError:
                if attempt == _ATTEMPTS - 1:
                    raise
        for feed in {table.feed for table in TABLES}:
            client.xadd(keys(feed_key(feed)), {"changed": encode_feed_entry({EVERYTHING: []})})
