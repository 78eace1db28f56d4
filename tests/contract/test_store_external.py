"""Reading outside sources from S3, as ingest does."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import pytest

from millrace import errors
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace.store.external import list_objects, open_object
from millrace.store.s3_endpoint import endpoint


@pytest.fixture
def bucket(s3_settings: Settings) -> str:
    """A bucket beside the store's, with a small tree."""
    name = f"raw-{uuid.uuid4().hex[:8]}"
    _put(s3_settings, name, {"in/b.csv": b"b", "in/a.csv": b"aa", "in/deep/c.csv": b"ccc", "in/": b"", "in2/d": b"d"})
    return name


def _put(settings: Settings, bucket: str, objects: dict[str, bytes]) -> None:
    client = endpoint(settings).client
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    for key, data in objects.items():
        client.put_object(bucket, key, io.BytesIO(data), len(data))


@pytest.mark.parametrize("ending", ["in", "in/"])
def test_a_prefix_names_the_objects_of_its_folder(s3_settings: Settings, bucket: str, ending: str) -> None:
    found = list(list_objects(f"s3://{bucket}/{ending}", s3_settings))
    assert [(item.path, item.size_bytes) for item in found] == [("a.csv", 2), ("b.csv", 1), ("deep/c.csv", 3)]
    assert len({item.etag for item in found}) == 3


def test_a_key_names_one_object(s3_settings: Settings, bucket: str) -> None:
    (found,) = list_objects(f"s3://{bucket}/in/deep/c.csv", s3_settings)
    assert found.path == "c.csv"
    with open_object(found.url, s3_settings) as stream:
        assert stream.read() == b"ccc"


def test_a_bucket_names_all_its_objects(s3_settings: Settings, bucket: str) -> None:
    assert len(list(list_objects(f"s3://{bucket}", s3_settings))) == 4


def test_what_tenants_keep_in_the_store_is_no_source(s3_settings: Settings) -> None:
    store, own = open_store(s3_settings), endpoint(s3_settings).bucket
    digest = store.put_bytes(b"private")
    _put(s3_settings, own, {"inbox/a": b"a"})
    assert [item.path for item in list_objects(f"s3://{own}", s3_settings)] == ["inbox/a"]
    hidden = f"s3://{own}/t/default/cas/sha256/{digest[:2]}/{digest[2:4]}/{digest}"
    with pytest.raises(errors.NotFound), open_object(hidden, s3_settings):
        pass


@pytest.mark.parametrize("url", ["s3://{bucket}/none", "s3://{bucket}/in/none.csv", "s3://no-such-bucket-here/x"])
def test_what_is_not_there_is_not_found(s3_settings: Settings, bucket: str, url: str) -> None:
    with pytest.raises(errors.NotFound):
        list(list_objects(url.format(bucket=bucket), s3_settings))
    with pytest.raises(errors.NotFound), open_object(url.format(bucket=bucket), s3_settings):
        pass


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "http://host/key", "s3://UPPER/key", "data.csv"])
def test_a_malformed_source_is_refused(s3_settings: Settings, url: str) -> None:
    with pytest.raises(errors.InvalidInput, match="s3://bucket/prefix"):
        list(list_objects(url, s3_settings))


def test_a_store_in_a_directory_says_what_such_a_source_needs(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="MILLRACE_STORE_URL"):
        list(list_objects("s3://bucket/x", Settings(home=tmp_path)))
