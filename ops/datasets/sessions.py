"""Session click logs: `train.tsv` and `test.tsv` with SessionId, ItemId, Time (Yoochoose, Diginetica and the like)."""

from collections.abc import Callable
from pathlib import Path

from ops.datasets.base import Dataset, DatasetError, Interaction, LogFile, milliseconds

_COLUMNS = ("sessionid", "itemid", "time")


def load(folder: Path) -> Dataset:
    """Each session is a user of its own: such logs do not tell who it was."""
    paths = [path for path in (folder / "train.tsv", folder / "test.tsv") if path.exists()]
    return Dataset(folder.name, folder, [_log_file(path) for path in paths])


def _log_file(path: Path) -> LogFile:
    with path.open(encoding="utf-8") as file:
        header = [name.strip().lower() for name in file.readline().split("\t")]
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise DatasetError(f"{path}:1: expected the columns SessionId, ItemId and Time, got {', '.join(header)}")
    return LogFile(path, f"click-{path.stem}", _click_of(header), 1)


def _click_of(header: list[str]) -> Callable[[str], Interaction]:
    session, item, time = (header.index(name) for name in _COLUMNS)
    n_columns = len(header)

    def parse(line: str) -> Interaction:
        fields = line.split("\t")
        if len(fields) != n_columns:
            raise ValueError(f"expected {n_columns} tab-separated fields, got {len(fields)}")
        return Interaction(fields[session], fields[item], milliseconds(fields[time]), session_id=fields[session])

    return parse
