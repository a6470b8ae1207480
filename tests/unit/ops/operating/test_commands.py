"""Commands of whoever runs the system: wrong arguments are told before anything is asked."""

import pytest
from typer.testing import CliRunner, Result

from ops.cli import app


def freshet(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["lag", "--flow", "nobody"], "there is no 'nobody'"),
        (["rejected", "--retry", "--set", "price"], "field=value"),
        (["rejected", "--set", "price=0"], "without --retry"),
        (["rejected", "--since", "yesterday"], "such as 5m"),
        (["rebuild", "--from", "tape"], "expected kafka or lake"),
        (["capacity", "--set", "peak"], "peak"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], complaint: str) -> None:
    result = freshet(*arguments)
    assert result.exit_code == 2, result.output
    assert complaint in result.output
