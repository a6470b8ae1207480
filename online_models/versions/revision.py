"""Which code learned a model."""

from functools import cache
from hashlib import sha256
from importlib import resources
from importlib.metadata import version
from importlib.resources.abc import Traversable


@cache
def revision() -> str:
    """Return the release and 12 hexadecimal digits of the SHA-256 of all sources of `online_models`.

    The same sources have the same revision, wherever they were installed from.
    """
    digest = sha256()
    for source in _sources(resources.files("online_models")):
        digest.update(source.read_bytes())
    return f"{version('freshet')}+{digest.hexdigest()[:12]}"


def _sources(folder: Traversable) -> list[Traversable]:
    found: list[Traversable] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            found += _sources(entry)
        elif entry.name.endswith((".py", ".weights")):
            found.append(entry)
    return found
