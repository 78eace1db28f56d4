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
from reading_runs import png_of, tar_of, zip_of


def ingest(root: Path, uri: str, **config: int) -> tuple[str, dict[str, bytes]]:
    """Digest of the source, and its files."""
    store = LocalStore(root / "store", tenant="default")
    with local_context(store, root) as context:
        made = work(context, IngestConfig(uri=uri, **config), {}, {})
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


def test_archives_and_folders_of_media_stay_as_they_are(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "cat").mkdir(parents=True)
    files = {"shard-0.tar": tar_of({"1.txt": b"a"}), "t.zip": zip_of({"t.csv": b"a\n1\n"}), "cat/1.png": png_of(1, 1)}
    for name, content in files.items():
        (raw / name).write_bytes(content)
    assert ingest(tmp_path, str(raw))[1] == files


def test_a_location_that_holds_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(errors.InvalidInput, match="holds 8 bytes, more than 7"):
        ingest(tmp_path, str(tmp_path / "t.csv"), max_bytes=7)
