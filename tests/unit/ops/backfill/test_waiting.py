"""R19: after an answer to an alarm there is a rest."""

from pathlib import Path

from ops.backfill.waiting import NOTE, rest_s
from state.registry import Registry
from tests.unit.online_models.artifacts import MADE_MS, an_artifact


def test_no_alarm_is_answered_for_a_while_after_the_last_answer(tmp_path: Path) -> None:
    """R19: other models do not count, whoever made them."""
    registry, made_s = Registry(str(tmp_path)), MADE_MS / 1000
    assert rest_s(registry, 3600, made_s) == 0
    registry.put(an_artifact(1, note="before the campaign"))
    assert rest_s(registry, 3600, made_s) == 0
    registry.put(an_artifact(2, note=f"{NOTE}residual; by night"))
    registry.put(an_artifact(3, note=f"{NOTE}input_liking", created_ms=MADE_MS - 60_000))
    assert rest_s(registry, 3600, made_s + 600) == 3000
    assert rest_s(registry, 3600, made_s + 4000) == 0
    assert rest_s(registry, 0, made_s) == 0
