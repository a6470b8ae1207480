"""Every command's help has examples, and what help and pages show are commands and options that exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from ops.cli import app

ROOT = Path(__file__).parents[3]
_FRESHET = typer.main.get_command(app)


def commands(
    command: TyperCommand | TyperGroup = _FRESHET, *path: str
) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from commands(child, *path, name)
    else:
        yield path, command


def documented() -> Iterator[tuple[str, list[str]]]:
    """Yield page and arguments of each command in a block of a page."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^ {4,}(?:\S*/|while |.* -- )?freshet ([a-z].*)$", text, re.MULTILINE):
            words = shlex.split(line, comments=True)
            yield page.name, list(takewhile(lambda word: not re.match(r"[|;&>]", word), words))


def parse(command: TyperCommand, arguments: Sequence[str]) -> None:
    """Raise where an option is not there, or lacks a value; which files there are is the reader's."""
    command.make_parser(typer.Context(command)).parse_args(list(arguments))


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
        parse(command, arguments)


def test_commands_do_not_load_the_compiler_of_the_models() -> None:
    """R32: it takes seconds, which a command that needs no model has not."""
    loaded = "import ops.cli, sys; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(("page", "arguments"), documented())
def test_pages_show_commands_that_can_be_typed(page: str, arguments: list[str]) -> None:
    """R32"""
    own = [(path, command) for path, command in commands() if tuple(arguments[: len(path)]) == path]
    assert own, f"{page}: freshet {shlex.join(arguments)}"
    parse(own[0][1], arguments[len(own[0][0]) :])
