"""The registry of models in an object store, by configuration only."""

import pytest

from state.artifacts import ArtifactError
from state.registry import Registry, UnknownModelError
from state.settings import Settings
from tests.unit.online_models.artifacts import an_artifact


def test_an_object_store_holds_the_registry(bucket: str) -> None:
    """R18: written once and never replaced; each namespace sees its own."""
    registry = Registry(Settings(models=f"{bucket}/models", namespace="").models_root)
    other = Registry(Settings(models=f"{bucket}/models", namespace="a").models_root)
    assert registry.names() == []
    one, two = an_artifact(1), an_artifact(2)
    registry.put(one)
    registry.put(one)
    other.put(two)
    assert (registry.names(), other.names()) == ([one.manifest.name], [two.manifest.name])
    with pytest.raises(ArtifactError, match="another model of that name"):
        registry.put(two._replace(manifest=one.manifest))
    assert registry.get(one.manifest.name) == one
    registry.delete(one.manifest.name)
    for call in (registry.get, registry.delete):
        with pytest.raises(UnknownModelError):
            call(one.manifest.name)
