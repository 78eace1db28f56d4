"""Ingest copies what a location holds into the store, once, and names nothing but the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace import errors
from millrace.runtime.stage import local_context
from millrace.settings import Settings
from millrace.store.artifacts import read_manifest
from millrace.store.local import LocalStore
from millrace_cleaning.ingest import list_files, work
from millrace_cleaning.settings import IngestConfig


def ingest(root: Path, uri: str) -> tuple[str, dict[str, bytes]]:
    """Digest of the source, and its files."""
    store = LocalStore(root / "store", tenant="default")
    with local_context(store, root) as context:
        made = work(context, IngestConfig(uri=uri), {}, {})
    digest = made.artifacts["source"].digest
    manifest = read_manifest(store, digest)
    assert (manifest.type, made.summary["files"]) == ("source", len(manifest.files))
    return digest, {f.path: store.get_bytes(f.digest) for f in manifest.files}


def test_a_file_becomes_a_source_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n")
    assert ingest(tmp_path, str(tmp_path / "t.csv"))[1] == {"t.csv": b"a,b\n1,2\n"}
    assert ingest(tmp_path, f"file://{tmp_path}/t.csv")[1] == {"t.csv": b"a,b\n1,2\n"}


def test_a_directory_becomes_a_source_without_hidden_files(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "deep").mkdir(parents=True)
    for name in ("b.csv", "deep/a.csv", ".hidden.csv", "_SUCCESS"):
        (raw / name).write_bytes(name.encode())
    (raw / "link.csv").symlink_to("/etc/hostname")
    assert ingest(tmp_path, str(raw))[1] == {"b.csv": b"b.csv", "deep/a.csv": b"deep/a.csv"}


def test_equal_bytes_from_two_places_are_one_source(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "t.csv").write_bytes(b"a\n1\n")
    assert ingest(tmp_path, str(tmp_path / "one"))[0] == ingest(tmp_path, str(tmp_path / "two"))[0]


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="No file is at"):
        ingest(tmp_path, str(tmp_path / "nowhere.csv"))


def test_an_unknown_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="ftp:// is not known"):
        ingest(tmp_path, "ftp://host/t.csv")


def test_s3_needs_a_store_that_is_s3(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput):
        list_files("s3://bucket/raw/", settings=Settings(home=tmp_path, store_url=""))


def test_a_local_path_is_refused_where_workers_are_elsewhere(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, broker_url="amqp://localhost:5672/")
    with pytest.raises(errors.InvalidInput, match="workers may be on other hosts"):
        list_files("/etc/passwd", settings=settings)
