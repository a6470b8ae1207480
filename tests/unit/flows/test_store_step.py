from types import SimpleNamespace

import pytest

from flows.common import bytewax_run
from flows.common.batches import KafkaBatch
from flows.common.bytewax_run import StoreStep
from flows.common.pacing import Pacer


class _Logic:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def apply(self, batch: KafkaBatch) -> None:
        self.calls.append("apply")

    def flush(self) -> None:
        self.calls.append("flush")

    def verify(self) -> None:
        self.calls.append("verify")


def _message(at_s: float) -> KafkaBatch:
    return KafkaBatch("clean", 0, [0], [None], [b""], [int(at_s * 1000)], 1)


def test_what_is_dirty_is_flushed_once_and_what_is_clean_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """R23: a flush finds a lost store too, so behind a log nothing is written twice for its sake."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(bytewax_run, "time", SimpleNamespace(time=lambda: clock.now))
    logic = _Logic()
    step = StoreStep(logic, Pacer(at_most=6.0, quiet=10.0))
    step.on_batch([_message(900.0)])
    clock.now = step.notify_at().timestamp() + 0.001
    step.on_notify()
    assert logic.calls == ["apply", "flush"], "the first flush is soon"

    step.on_batch([_message(900.0)])
    for clock.now in (1002.0, 1004.0):  # longer than a clean one goes unverified
        step.on_notify()
    assert logic.calls[2:] == ["apply"]
    clock.now = step.notify_at().timestamp() + 0.001
    step.on_notify()
    assert logic.calls[3:] == ["flush"]

    clock.now = step.notify_at().timestamp() + 0.001
    step.on_notify()
    assert logic.calls[4:] == ["verify"]
