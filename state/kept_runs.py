"""What interrupted backfills keep on disk: users' histories among it, so that an erasure removes all of it (R27).

Whose process knows of erasures (`flows.learn`) and whose writes the files (`freshet backfill`) agree on a folder: the
mark in it moves with each erasure, and a run keeps nothing that is older than the mark.
"""

from pathlib import Path

from state.settings import Settings

SUFFIX = ".run"
_MARK = "erased"


def folder_of(settings: Settings) -> Path:
    """Return where a system's interrupted backfills are."""
    return settings.home / "backfill"


def mark(folder: Path) -> int:
    """Return what is another number after each erasure."""
    try:
        return (folder / _MARK).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def erase(folder: Path) -> None:
    """Remove all that is kept, as somebody was erased who may be in it. Raise `OSError`."""
    if not folder.exists():
        return  # nothing was ever kept
    (folder / _MARK).touch()  # first: who writes looks behind itself
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink(missing_ok=True)


def is_older(folder: Path, than_s: float) -> bool:
    """Whether something is kept that was written before a time, epoch seconds."""
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            if path.stat().st_mtime < than_s:
                return True
        except FileNotFoundError:
            continue  # removed just now
    return False
