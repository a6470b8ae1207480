"""Looks for drift in what the learner is about to learn, and tells of it: a warning, and the metric `drift_alarms`."""

import logging

import msgspec

from flows.common.telling import Alarms, Teller
from online_models.learning.learner import Learner
from online_models.versions.drift import Drift
from state.entries import LEARNER
from state.metrics import DRIFT, cut_of
from state.records import BlobRow, Example
from state.store import Changes, Store
from state.topics import METRICS

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Drifting:
    """Kept with the learner: its rows are committed with the same watermarks, so that a restart repeats no alarm.

    Parameters
    ----------
    share
        Of the labelled lists.
    tell
        Sends to the topic `metrics`.
    """

    def __init__(self, store: Store, share: float, tell: Teller) -> None:
        rows = store.get_rows(LEARNER, Drift.ROWS)
        self._drift = Drift(share).restore({name: row.blob for name, row in rows.items()})
        self._tell = tell
        self._alarms = Alarms(DRIFT)

    def look(self, example: Example, learner: Learner) -> None:
        """Look at a labelled list before it is learned."""
        for alarm in self._drift.look(example, learner.ranker.predict_many):
            log.warning(
                "drift: %s was %.4g and is %.4g (%d lists)", alarm.signal, alarm.before, alarm.after, alarm.n_lists
            )
            for result in self._alarms.note("alarms", cut_of(signal=alarm.signal), alarm.ts):
                self._tell(METRICS, DRIFT.name, _encode(result))

    def write(self, changes: Changes) -> None:
        """Add what has changed."""
        for name, row in self._drift.rows().items():
            changes.upsert(LEARNER, name, BlobRow(row))

    def written(self) -> None:
        """Say that what `write` gave is stored."""
        self._drift.written()
