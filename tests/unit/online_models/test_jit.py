"""What is compiled is compiled again when it has to be."""

import shutil
from pathlib import Path

import pytest

from online_models.engine import jit

PACKAGE = Path(jit.__file__).parents[1]


def test_a_kernel_is_as_old_as_all_that_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R14: an upgrade never runs kernels of one release with functions or constants of another inside."""
    here = jit.stamp(PACKAGE / "engine" / "learning.py")
    shutil.copytree(PACKAGE, tmp_path / "online_models", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(jit, "_ROOT", tmp_path)
    engine = tmp_path / "online_models" / "engine"

    def stamp() -> str:
        jit._read.cache_clear()
        return jit.stamp(engine / "learning.py")

    before = stamp()
    assert before == here  # wherever it lies
    (engine / "content.py").write_text("# nothing that learning imports")
    assert stamp() == before
    for name in ("learning.py", "als.py", "rings.py"):  # itself, what it imports, what that imports
        source = (engine / name).read_text()
        (engine / name).write_text(source + "# changed")
        assert stamp() != before, name
        (engine / name).write_text(source)
    assert stamp() == before
    jit._read.cache_clear()
