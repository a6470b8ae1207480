"""The registry of models: artifacts in a folder or an object store, each written once."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from state.artifacts import ONLINE, Artifact, ArtifactError, Manifest, decode, encode, is_name

_SUFFIX = ".model"
log = logging.getLogger(__name__)


class UnknownModelError(LookupError):
    """There is no artifact of that name."""


class RegistryError(Exception):
    """The registry cannot be read or written now."""


class Listed(NamedTuple):
    """An artifact as it is found in the registry."""

    name: str
    manifest: Manifest | None
    """None when it cannot be used."""
    problem: str | None
    """Why it cannot be used."""


class Registry:
    """Artifacts by name under a root: a folder, or a URL such as `s3://bucket/models` (credentials from `AWS_*`).

    An artifact is one object, put whole or not at all, and never replaced. Every method raises `RegistryError`.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def names(self) -> list[str]:
        """Return all names, oldest first."""
        try:
            found = [entry["path"] for page in obstore.list(self._store()) for entry in page]
        except (BaseError, OSError) as error:
            raise self._failed("listed", error) from error
        # Other namespaces have folders of their own under the same root.
        names = filter(is_name, (path.removesuffix(_SUFFIX) for path in found if path.endswith(_SUFFIX)))
        return sorted(names, key=lambda name: name.partition("@")[2])

    def listed(self) -> list[Listed]:
        """Return all artifacts, oldest first, each checked."""
        found = []
        for name in self.names():
            try:
                found.append(Listed(name, self.get(name).manifest, None))
            except (ArtifactError, UnknownModelError) as error:
                found.append(Listed(name, None, str(error)))
        return found

    def read(self, name: str) -> bytes:
        """Return an artifact's bytes as they are. Raise `UnknownModelError`."""
        if not is_name(name):  # which would be a path elsewhere, or none at all
            raise UnknownModelError(_unknown(name, self.root))
        try:
            return bytes(obstore.get(self._store(), name + _SUFFIX).bytes())
        except FileNotFoundError as error:
            raise UnknownModelError(_unknown(name, self.root)) from error
        except (BaseError, OSError) as error:
            raise self._failed("read", error) from error

    def get(self, name: str) -> Artifact:
        """Return an artifact. Raise `UnknownModelError`, or `ArtifactError` when it is damaged."""
        return decode(self.read(name), name)

    def put(self, artifact: Artifact) -> bytes:
        """Register an artifact and return its bytes.

        Raise `ArtifactError` when another one has its name; the same one again changes nothing.
        """
        name, content = artifact.manifest.name, encode(artifact)
        try:
            obstore.put(self._store(), name + _SUFFIX, content, mode="create")
        except AlreadyExistsError as error:
            if self.get(name).weights != artifact.weights:
                raise ArtifactError(f"{name}: there is another model of that name; try again in a minute") from error
            return self.read(name)
        except (BaseError, OSError) as error:
            raise self._failed("written", error) from error
        log.info("%s is registered in %s", name, self.root)
        return content

    def delete(self, name: str) -> None:
        """Remove an artifact. Raise `UnknownModelError`."""
        self.read(name)  # object stores delete what is not there without a word
        try:
            obstore.delete(self._store(), name + _SUFFIX)
        except (BaseError, OSError) as error:
            raise self._failed("changed", error) from error

    def _store(self) -> Any:
        if "://" in self.root:
            return from_url(self.root)
        Path(self.root).mkdir(parents=True, exist_ok=True)
        return from_url(Path(self.root).resolve().as_uri())

    def _failed(self, what: str, error: Exception) -> RegistryError:
        reason = str(error).split("\n", 1)[0]
        return RegistryError(f"the registry {self.root} cannot be {what}: {reason}")


def _unknown(name: str, root: str) -> str:
    if name == ONLINE:
        return f"{ONLINE!r} learns, and is no artifact: `freshet models snapshot` registers it as it is now"
    return f"there is no model {name!r} in {root}; `freshet models list` shows those that there are"
