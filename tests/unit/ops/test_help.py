"""Every command's help has examples, and these are commands that exist."""

import re
import shlex
from collections.abc import Iterator

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from ops.cli import app

_FRESHET = typer.main.get_command(app)


def commands(
    command: TyperCommand | TyperGroup = _FRESHET, *path: str
) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from commands(child, *path, name)
    else:
        yield path, command


def examples(shown: str) -> list[list[str]]:
    """Return the arguments of each `freshet ...` below "Example", up to a pipe or the next command."""
    _, _, below = shown.partition("Example")
    found = re.findall(r"freshet ([a-z].*?)(?=$| \||;| &&)", below, re.MULTILINE)
    return [shlex.split(arguments) for arguments in found]


@pytest.mark.parametrize(("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands()])
def test_help_shows_examples_that_can_be_typed(path: tuple[str, ...], command: TyperCommand) -> None:
    """R32: what help shows works as it stands: the command by its name, and options that it has."""
    shown = f"{command.help}\n\n{command.epilog}"
    own = [arguments[len(path) :] for arguments in examples(shown) if tuple(arguments[: len(path)]) == path]
    assert own, shown
    for arguments in own:
        # Options that are not there, or lack a value, raise; which files there are is the reader's.
        command.make_parser(typer.Context(command)).parse_args(list(arguments))
