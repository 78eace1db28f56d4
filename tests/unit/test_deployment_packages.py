"""Bringing packages to a host: named files only, every byte verified, the cache included."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tiny_models
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.models.predictor import load_predictor
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore
from millrace_deployment.packages import evict, fetch_package


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", tenant="default")


@pytest.fixture
def model(store: LocalStore, tmp_path: Path) -> ArtifactRef:
    return tiny_models.store_model(store, tiny_models.write_regression(tmp_path / "model"))


def test_a_fetched_package_can_be_loaded(store: LocalStore, model: ArtifactRef, tmp_path: Path) -> None:
    directory = fetch_package(store, model, cache=tmp_path / "cache")
    assert load_predictor(directory).card.architecture == "tiny@1"


def test_a_file_that_rotted_in_the_cache_is_fetched_again(
    store: LocalStore, model: ArtifactRef, tmp_path: Path
) -> None:
    program = fetch_package(store, model, cache=tmp_path / "cache") / "programs" / "fp32.onnx"
    whole = program.read_bytes()
    program.unlink()
    program.write_bytes(b"x" * len(whole))
    assert fetch_package(store, model, cache=tmp_path / "cache") == program.parent.parent
    assert program.read_bytes() == whole


def test_a_file_that_the_card_does_not_name_is_never_written(store: LocalStore, tmp_path: Path) -> None:
    package = tiny_models.write_regression(tmp_path / "hostile")
    files: dict[str, Path | bytes] = {
        p.relative_to(package).as_posix(): p for p in package.rglob("*") if p.is_file()
    } | {"weights.pkl": b"cos\nsystem\n", "programs/evil.bin": b"evil"}
    model = write_manifest(store, "model", files, meta={})
    directory = fetch_package(store, model, cache=tmp_path / "cache")
    assert not list(directory.rglob("*.pkl")) + list(directory.rglob("*.bin"))


def test_a_card_cannot_name_a_file_outside(store: LocalStore, tmp_path: Path) -> None:
    package = tiny_models.write_regression(tmp_path / "hostile")
    card = package / "model.json"
    card.write_text(card.read_text().replace("golden.parquet", "../golden.parquet"))
    model = write_manifest(store, "model", {"model.json": card}, meta={})
    with pytest.raises(errors.InvalidData, match=r"\.\./golden"):
        fetch_package(store, model, cache=tmp_path / "cache")


def test_what_is_no_model_is_refused(store: LocalStore, tmp_path: Path) -> None:
    report = write_manifest(store, "report", {"report.json": b"{}"}, meta={})
    with pytest.raises(errors.InvalidData, match="Expected a model, found an artifact of type 'report'"):
        fetch_package(store, report, cache=tmp_path / "cache")


def test_eviction_spares_what_is_wanted_and_what_is_new(tmp_path: Path) -> None:
    for name in ("wanted", "new", "old"):
        (tmp_path / name).mkdir()
    for name in ("wanted", "old"):
        os.utime(tmp_path / name, (0, 0))
    evict(tmp_path, keep={"wanted"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "wanted"]
