"""Arguments of the traffic commands."""

from datetime import timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ops.datasets import detection
from ops.traffic.commands import duration, register


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5m", timedelta(minutes=5)), ("1.5h", timedelta(minutes=90)), ("200ms", timedelta(milliseconds=200))],
)
def test_durations_are_read(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


def test_a_duration_without_a_unit_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="such as 5m"):
        duration("5")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay", "--data", "nowhere"], "not a folder"),
        (["replay", "--data", ".", "--speed", "fast"], "expected max or a number above 0"),
        (["verify"], "FRESHET_DATA"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FRESHET_DATA", raising=False)
    monkeypatch.setattr(detection, "__file__", str(tmp_path / "a" / "b" / "c" / "detection.py"))  # no data beside it
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert complaint in result.output
