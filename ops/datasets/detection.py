"""Which loader reads a folder."""

from collections.abc import Callable
from pathlib import Path

from ops.datasets import movies, sessions, tables
from ops.datasets.base import Dataset, DatasetError
from state.settings import Settings

_LOADERS: tuple[tuple[str, Callable[[Path], Dataset]], ...] = (
    ("ratings.dat", movies.load_dat),
    ("u.data", movies.load_u_data),
    ("*.inter", tables.load_recbole),
    ("train.tsv", sessions.load),
    ("test.tsv", sessions.load),
    ("*.csv", tables.load_csv),
)
_FORMATS = "ratings.dat, u.data, *.inter, train.tsv or *.csv"


def default_folder(settings: Settings) -> Path | None:
    """Return the folder that the settings name, else `../shared/data` beside this checkout, else None."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    return settings.data or (beside if beside.is_dir() else None)


def detect(folder: Path) -> Dataset:
    """Load the data set of a folder, or that of its first sub-folder which has one.

    Among sub-folders the order is that of the formats in this file, then that of their names.

    Raises
    ------
    DatasetError
        If there is none, or if it cannot be read.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: not a folder")
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    for candidates in (places[:1], places[1:]):
        for pattern, load in _LOADERS:
            for place in candidates:
                if any(place.glob(pattern)):
                    return load(place)
    if any(folder.glob("*.parquet")):
        raise DatasetError(f"{folder}: Parquet is not read; save it as CSV with the columns user, item, timestamp")
    raise DatasetError(f"{folder}: no data set found; expected a folder with {_FORMATS}")
