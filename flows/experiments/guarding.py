"""Looks at running experiments again and again: tells their sums, raises alarms, stops arms. Knows no engine.

What it decides is a control document like those that people write: serving follows it, the history says who and why.
"""

import logging
import time
from collections.abc import Callable, Iterable

import msgspec

from flows.common.batches import KafkaBatch
from flows.common.telling import Alarms, Teller
from flows.experiments.arms import ArmState
from online_models.experiments.arm_sums import USERS, Sums, merged
from online_models.experiments.effects import estimate_sums
from online_models.experiments.guardrails import check, mismatch
from online_models.experiments.metrics import BY_NAME
from online_models.experiments.plans import stopped
from state.control import EXPERIMENTS, ControlDocument, version_field
from state.entries import CONTROL, EXPERIMENT_ARMS
from state.experiments import Experiment, Experiments
from state.metrics import ALARMS, ARMS, cut_of, dimensions_of
from state.records import ArmRow, MetricResult
from state.store import Store
from state.topics import CONTROL as CONTROL_TOPIC
from state.topics import METRICS
from state.validation import InvalidInputError

log = logging.getLogger(__name__)

AUTHOR = "guardrails (flow experiments)"
_EVERY_S = 2.0
_encode_json = msgspec.json.Encoder().encode
_encode = msgspec.msgpack.Encoder().encode


class Guard:
    """Compares arms every two seconds.

    Parameters
    ----------
    store
        Has the control document and the sums of all partitions, also of those that other processes sum.
    tell
        Sends to the topics `metrics` and `control`.
    """

    def __init__(self, store: Store, tell: Teller, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._tell = tell
        self._clock = clock
        self._looked_at = float("-inf")
        self._alarms = Alarms(ALARMS)

    def look(self, changed: Callable[[], Iterable[tuple[int, ArmRow]]]) -> None:
        """Do what is due. `changed` returns rows that were committed since it was last asked, with their partitions.

        Raise `StoreUnavailableError`.
        """
        now = self._clock()
        if now - self._looked_at < _EVERY_S:
            return
        self._looked_at = now
        for partition, row in changed():
            self._tell_sums(partition, row)
        document = self._store.get_rows(CONTROL, [EXPERIMENTS.name]).get(EXPERIMENTS.name)
        if document is None:
            return
        try:
            experiments = EXPERIMENTS.parse(document.body)
        except InvalidInputError as error:  # written by a newer release
            log.error("experiments: version %d is not understood: %s", document.version, error)
            return
        running = [found for found in experiments.experiments if found.status == "running"]
        if not running:
            return
        sums = self._sums()
        for experiment in running:
            if self._judge(document, experiments, experiment, sums.get(experiment.name, {}), int(now * 1000)):
                return  # the others are looked at again with the next version

    def _sums(self) -> dict[str, dict[str, Sums]]:
        """Return experiment -> arm -> sums over all partitions."""
        parts: dict[tuple[str, str], list[Sums]] = {}
        for _, row in self._store.scan_rows(EXPERIMENT_ARMS):
            parts.setdefault((row.experiment, row.arm), []).append(row.sums)
        found: dict[str, dict[str, Sums]] = {}
        for (experiment, arm), several in parts.items():
            found.setdefault(experiment, {})[arm] = merged(several)
        return found

    def _judge(
        self,
        document: ControlDocument,
        experiments: Experiments,
        experiment: Experiment,
        arms: dict[str, Sums],
        now_ms: int,
    ) -> bool:
        """Return whether another document was written."""
        if experiment.end_ms is not None and experiment.end_ms <= now_ms:
            self._stop(document, experiments, experiment, None, "its end has come", now_ms)
            return True
        known = {arm.name: arms[arm.name] for arm in experiment.arms if arm.name in arms}
        broken = mismatch(experiment, {name: sums.get(USERS, 0) for name, sums in known.items()})
        if broken is not None:
            self._alarm("sample_ratio", cut_of(experiment=experiment.name), f"{experiment.name}: {broken}", now_ms)
        guarded = {rail.metric: BY_NAME[rail.metric] for rail in experiment.guardrails}
        stop = check(
            experiment,
            {
                name: {arm: estimate_sums(sums, metric) for arm, sums in known.items()}
                for name, metric in guarded.items()
            },
        )
        if stop is None:
            return False
        cut = cut_of(arm=f"{experiment.name}:{stop.arm}")
        self._alarm("guardrail", cut, f"{experiment.name}: arm {stop.arm} is stopped: {stop.reason}", now_ms)
        self._stop(document, experiments, experiment, stop.arm, stop.reason, now_ms)
        return True

    def _stop(
        self,
        document: ControlDocument,
        experiments: Experiments,
        experiment: Experiment,
        arm: str | None,
        reason: str,
        now_ms: int,
    ) -> None:
        body = EXPERIMENTS.encode(stopped(experiments, experiment.name, reason, now_ms, arm))
        note = f"stop {experiment.name}: " + (reason if arm is None else f"arm {arm}: {reason}")
        new = ControlDocument(EXPERIMENTS.name, document.version + 1, body, AUTHOR, now_ms, note)
        if self._store.replace_document(new, document.version):
            log.warning("%s", note)
            self._tell(CONTROL_TOPIC, version_field(new.kind, new.version), _encode(new))
        # Else somebody was faster: looked at again in two seconds.

    def _alarm(self, name: str, cut: str, what: str, now_ms: int) -> None:
        results = self._alarms.note(name, cut, now_ms)
        if results:
            log.warning("%s", what)
        for result in results:
            self._tell(METRICS, ALARMS.name, _encode_json(result))

    def _tell_sums(self, partition: int, row: ArmRow) -> None:
        """Tell what an arm came to since its first list: a window without an end."""
        cut = cut_of(experiment=row.experiment, arm=f"{row.experiment}:{row.arm}")
        result = MetricResult(ARMS.name, row.first_ts, 0, dimensions_of(cut), partition, row.sums, False)
        self._tell(METRICS, ARMS.name, _encode_json(result))


class GuardedArms:
    """A `StoreLogic`: sums, and looks at the sums."""

    def __init__(self, arms: ArmState, guard: Guard) -> None:
        self._arms = arms
        self._guard = guard

    def apply(self, batch: KafkaBatch) -> None:
        self._arms.apply(batch)

    def flush(self) -> None:
        self._arms.flush()
        self._guard.look(self._arms.changed)

    def verify(self) -> None:
        self._arms.verify()
        self._guard.look(self._arms.changed)
