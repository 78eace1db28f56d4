"""Manifests: a set of files as one artifact."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace import errors
from millrace.contracts.artifacts import FileEntry
from millrace.store.artifacts import check_path, read_manifest, write_manifest
from millrace.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", tenant="default")


def test_a_manifest_names_every_file_with_its_digest_and_size(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"rows")
    ref = write_manifest(
        store, "dataset", {"schema.json": b"{}", "data/train-00000.parquet": tmp_path / "shard"}, meta={"rows": 4}
    )
    manifest = read_manifest(store, ref.digest)
    assert [entry.path for entry in manifest.files] == ["data/train-00000.parquet", "schema.json"]
    assert [store.get_bytes(entry.digest) for entry in manifest.files] == [b"rows", b"{}"]
    assert manifest.files[0].media_type == "application/vnd.apache.parquet"
    assert (ref.size_bytes, ref.type, manifest.meta) == (6, "dataset", {"rows": 4})


def test_equal_content_gives_an_equal_digest_in_any_order(store: LocalStore) -> None:
    one = write_manifest(store, "any", {"a": b"1", "b": b"2"}, meta={"x": 1, "y": 2})
    two = write_manifest(store, "any", {"b": b"2", "a": b"1"}, meta={"y": 2, "x": 1})
    assert one == two


def test_a_stored_blob_enters_a_second_manifest_without_its_bytes(store: LocalStore) -> None:
    entry = FileEntry(path="old/name", digest=store.put_bytes(b"weights"), size_bytes=7)
    ref = write_manifest(store, "model", {"weights.safetensors": entry}, meta={})
    (file,) = read_manifest(store, ref.digest).files
    assert (file.path, file.digest) == ("weights.safetensors", entry.digest)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b"])
def test_a_path_that_could_leave_its_folder_is_refused(store: LocalStore, path: str) -> None:
    with pytest.raises(errors.InvalidData, match="relative path"):
        check_path(path)
    with pytest.raises(errors.InvalidData):
        write_manifest(store, "any", {path: b""}, meta={})


@pytest.mark.parametrize("body", [b"", b"PAR1", b"{}", b'{"type": "model", "files": "x"}'])
def test_a_blob_that_is_no_manifest_is_said(store: LocalStore, body: bytes) -> None:
    with pytest.raises(errors.InvalidData, match="not a manifest"):
        read_manifest(store, store.put_bytes(body))


def test_a_missing_manifest_is_not_found(store: LocalStore) -> None:
    with pytest.raises(errors.NotFound):
        read_manifest(store, "0" * 64)
