"""Model artifacts and where they are kept: immutable, named, checked (R18)."""

import re
from pathlib import Path

import msgspec
import pytest

from online_models.versions.ranking import Ranking
from state.artifacts import ArtifactError, Manifest, chunks_of, decode, encode, joined
from state.registry import Registry, RegistryError, UnknownModelError
from state.settings import Settings
from tests.unit.online_models.artifacts import an_artifact


def test_an_artifact_comes_back_as_it_was_and_says_what_it_is() -> None:
    """R18: lineage, parameters, metrics and time are in the artifact itself."""
    artifact = an_artifact(parameters={"learning_rate": 0.001}, metrics={"all": {"NDCG@10": 0.5}})
    assert decode(encode(artifact), artifact.manifest.name) == artifact
    assert re.fullmatch(r"ranker@2026-11-22T\d\d:\d\dZ-[0-9a-f]{4}", artifact.manifest.name)
    assert an_artifact(1).manifest.name != artifact.manifest.name


def test_no_damaged_byte_and_no_cut_goes_unnoticed() -> None:
    """R18"""
    artifact = an_artifact()
    content, name = encode(artifact), artifact.manifest.name
    for at in range(0, len(content), 131):
        damaged = bytearray(content)
        damaged[at] ^= 1
        with pytest.raises(ArtifactError, match=re.escape(name)):
            decode(bytes(damaged), name)
    for length in (0, 10, 52, len(content) // 2, len(content) - 1):
        with pytest.raises(ArtifactError, match=r"truncated|expected"):
            decode(content[:length], name)
    with pytest.raises(ArtifactError, match="under another name"):
        decode(content, an_artifact(1).manifest.name)


def test_names_are_the_published_ones_only() -> None:
    """R18: a name is a path of the registry, so nothing else may be one."""
    artifact = an_artifact()
    for name in ("../ranker", "ranker", "ranker@2026-11-22T10:00Z-3f2a/x", "ranker@2026-11-22T10:00Z-3F2A"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(msgspec.to_builtins(artifact.manifest) | {"name": name}, Manifest)


def test_a_ranker_of_other_inputs_is_refused() -> None:
    """R18, R31"""
    with pytest.raises(ArtifactError, match="feature set"):
        Ranking.of(an_artifact(feature_set="other"))
    artifact = an_artifact()
    assert Ranking.of(artifact).version == artifact.manifest.name
    with pytest.raises(ArtifactError, match=re.escape(artifact.manifest.name)):
        Ranking.of(artifact._replace(weights=artifact.weights.replace(b"taste_slow", b"taste_late")))
    with pytest.raises(ArtifactError, match=re.escape(artifact.manifest.name)):
        Ranking.of(artifact._replace(weights=artifact.weights[:100]))


def test_chunks_make_the_whole_or_nothing() -> None:
    """R18"""
    content = encode(an_artifact())
    chunks = chunks_of(content, 1000)
    assert len(chunks) > 10
    assert joined("m", chunks) == content
    with pytest.raises(ArtifactError, match="m: 9 of"):
        joined("m", chunks[:9])
    with pytest.raises(ArtifactError, match="0 of its chunks"):
        joined("m", [None])


def test_what_is_registered_stays_as_it_is(tmp_path: Path) -> None:
    """R18: written once; the same again changes nothing, another one of that name is refused."""
    registry = Registry(str(tmp_path / "models"))
    one, other = an_artifact(1), an_artifact(2)
    assert registry.names() == []
    content = registry.put(one)
    registry.put(other)
    assert registry.put(an_artifact(1, note="again")) == content
    assert registry.get(one.manifest.name) == one
    impostor = other._replace(manifest=one.manifest)
    with pytest.raises(ArtifactError, match="another model of that name"):
        registry.put(impostor)
    assert registry.get(one.manifest.name) == one
    assert {found.name for found in registry.listed()} == {one.manifest.name, other.manifest.name}
    registry.delete(one.manifest.name)
    for call in (registry.get, registry.delete):
        for name in ("", "..", f"other/{other.manifest.name}", "a\rb", "\x07", "\N{PILE OF POO}"):
            with pytest.raises(UnknownModelError, match="there is no model"):
                call(name)
        with pytest.raises(UnknownModelError, match="there is no model"):
            call(one.manifest.name)


def test_a_damaged_file_is_listed_with_its_reason(tmp_path: Path) -> None:
    """R18"""
    registry = Registry(str(tmp_path))
    artifact = an_artifact()
    registry.put(artifact)
    (file,) = tmp_path.glob("*.model")
    file.write_bytes(file.read_bytes()[:-5])
    (found,) = registry.listed()
    assert (found.name, found.manifest) == (artifact.manifest.name, None)
    assert "damaged or truncated" in (found.problem or "")


def test_a_registry_out_of_reach_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RegistryError, match="file"):
        Registry(str(tmp_path / "file")).names()


def test_each_namespace_has_its_own(tmp_path: Path) -> None:
    roots = {Settings(home=tmp_path, namespace=name).models_root for name in ("", "a")}
    assert roots == {str(tmp_path / "models"), str(tmp_path / "models" / "a")}
    assert Settings(models="s3://bucket/models/").models_root == "s3://bucket/models"
