"""Installing from a fresh clone: what is said when it cannot be done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack.home import project_root

TOOLS = ("sh", "grep", "cksum", "dirname", "mkdir", "awk", "date")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout's outer files, and a `bin` with nothing but the tools that every system has."""
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(project_root() / name, tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name) or name)
    return tmp_path


def setup(clone: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(project_root() / "ops" / "setup.sh")],
        cwd=clone,
        env={"PATH": str(clone / "bin")} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_without_a_suitable_python_the_remedy_is_named(clone: Path) -> None:
    """R32: placeholders of version managers and other versions do not count."""
    script(clone / "bin" / "python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    script(clone / "bin" / "python3.12", "exit 1")
    failed = setup(clone)
    assert failed.returncode == 1
    assert "Python 3.11 or 3.12 with venv is needed" in failed.stderr
    assert "PYTHON=" in failed.stderr
    assert not (clone / ".venv").exists()


def test_a_python_that_was_chosen_is_not_replaced_silently(clone: Path) -> None:
    (clone / "bin" / "python3").symlink_to(sys.executable)
    failed = setup(clone, PYTHON="/nowhere/python3")
    assert (failed.returncode, "/nowhere/python3" in failed.stderr) == (1, True)


def test_without_a_network_the_remedy_is_named_and_nothing_counts_as_installed(clone: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    failed = setup(clone, PYTHON=os.path.realpath(sys.executable), **nowhere)
    assert failed.returncode == 1
    assert "It needs the network" in failed.stderr
    assert not (clone / ".venv" / "installed").exists()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_pins_hashes_and_no_host(name: str) -> None:
    lines = (project_root() / name).read_text().splitlines()
    pinned = [line for line in lines if "==" in line and not line.startswith((" ", "#"))]
    assert len(pinned) > 50
    assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
    assert not [line for line in lines if "://" in line or line.startswith("--")]


def test_the_development_lock_contains_what_runs() -> None:
    def pinned(name: str) -> set[str]:
        lines = (project_root() / name).read_text().splitlines()
        return {line.rstrip(" \\") for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pinned("requirements.lock") <= pinned("requirements-dev.lock")
