"""What the S3 adapter adds: conditional writes, lost answers, resumed reads, and clear words for a service at fault."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig
from pydantic import SecretStr

from millrace import errors
from millrace.contracts.artifacts import Ref
from millrace.settings import Settings
from millrace.store import s3_sweeping
from millrace.store.connect import open_store
from millrace.store.keys import blob_key, condemned_key
from millrace.store.s3 import S3Store
from millrace.store.s3_endpoint import Endpoint, endpoint
from millrace.store.s3_objects import open_object, put_if, upload_bytes
from servers.process import free_ports
from servers.proxy import Proxy, proxy
from servers.radosgw import RadosGW


@pytest.fixture
def where(s3_settings: Settings) -> Endpoint:
    open_store(s3_settings).check()
    return endpoint(s3_settings)


@pytest.fixture
def line(s3_server: RadosGW) -> Iterator[Proxy]:
    with proxy(s3_server.endpoint) as running:
        yield running


@pytest.fixture
def behind_proxy(s3_settings: Settings, line: Proxy) -> S3Store:
    store = S3Store(_with_host(s3_settings, line.address), tenant="default")
    store.check()
    return store


def _with_host(settings: Settings, address: str) -> Settings:
    bucket = urlsplit(settings.store).path
    return settings.model_copy(update={"store_url": f"s3+http://{address}{bucket}"})


def _read(where: Endpoint, key: str) -> bytes:
    reader = open_object(where, where.bucket, key)
    assert reader is not None
    return reader.read()


def _etag(where: Endpoint, key: str) -> str:
    return str(where.client.stat_object(where.bucket, key).etag)


def test_a_conditional_create_is_refused_once_the_object_is_there(where: Endpoint) -> None:
    assert put_if(where, "probe", b"first", etag=None)
    assert not put_if(where, "probe", b"second", etag=None)
    assert _read(where, "probe") == b"first"


def test_a_conditional_replace_needs_the_current_etag(where: Endpoint) -> None:
    put_if(where, "probe", b"first", etag=None)
    stale = _etag(where, "probe")
    assert put_if(where, "probe", b"second", etag=stale)
    assert not put_if(where, "probe", b"third", etag=stale)
    assert _read(where, "probe") == b"second"


def test_a_conditional_replace_of_nothing_is_refused(where: Endpoint) -> None:
    assert not put_if(where, "probe", b"first", etag="0" * 32)


def test_a_service_with_the_other_habit_about_quotes_is_understood(s3_settings: Settings) -> None:
    store = S3Store(s3_settings, tenant="default")
    store._quotes_etags = True  # as after a service that wants quotes; this one refuses them
    first, second = (Ref(target={}, generation=number, nonce=f"n{number}") for number in (1, 2))
    assert store.write_ref("name", first, expected=None)
    assert store.write_ref("name", second, expected=first)
    assert store.read_ref("name") == second


@pytest.mark.parametrize("expected_generation", [None, 1], ids=["create", "replace"])
def test_a_lost_answer_is_settled_by_reading_back(
    behind_proxy: S3Store, line: Proxy, expected_generation: int | None
) -> None:
    first, second = (Ref(target={}, generation=number, nonce=f"n{number}") for number in (1, 2))
    expected = None
    if expected_generation:
        behind_proxy.write_ref("name", first, expected=None)
        expected = first
    line.cut("PUT")
    assert behind_proxy.write_ref("name", second, expected=expected)
    assert line.num_cuts == 1
    assert behind_proxy.read_ref("name") == second


def test_an_upload_whose_answer_is_lost_is_sent_again(behind_proxy: S3Store, line: Proxy) -> None:
    line.cut("PUT")
    digest = behind_proxy.put_bytes(b"some bytes")
    assert line.num_cuts == 1
    assert behind_proxy.get_bytes(digest) == b"some bytes"


def test_a_fetch_goes_on_where_its_connections_broke(behind_proxy: S3Store, line: Proxy, tmp_path: Path) -> None:
    data = os.urandom(8 * 2**20)
    digest = behind_proxy.put_bytes(data)
    for _ in range(3):
        line.cut("GET", after_bytes=2 * 2**20)
    behind_proxy.fetch(digest, tmp_path / "copy")
    assert line.num_cuts == 3
    assert (tmp_path / "copy").read_bytes() == data


def test_a_fetch_that_never_gets_through_ends(behind_proxy: S3Store, line: Proxy, tmp_path: Path) -> None:
    digest = behind_proxy.put_bytes(os.urandom(2**20))
    for _ in range(50):
        line.cut("GET", after_bytes=100)
    with pytest.raises(errors.Unavailable, match="did not answer"):
        behind_proxy.fetch(digest, tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []


def test_an_object_replaced_while_it_is_read_is_not_stitched_together(where: Endpoint) -> None:
    client = where.client
    client.put_object(where.bucket, "large", io.BytesIO(bytes(4 * 2**20)), 4 * 2**20)
    reader = open_object(where, where.bucket, "large")
    assert reader is not None
    reader.read(1000)
    client.put_object(where.bucket, "large", io.BytesIO(b"x" * (4 * 2**20)), 4 * 2**20)
    reader._drop()
    with pytest.raises(errors.Unavailable, match="replaced"):
        reader.read(1000)


def test_a_file_that_changes_while_it_is_stored_is_refused(s3_settings: Settings, tmp_path: Path) -> None:
    store, path, done = open_store(s3_settings), tmp_path / "growing", threading.Event()
    path.write_bytes(bytes(4 * 2**20))

    def scribble() -> None:
        with path.open("r+b", buffering=0) as file:
            while not done.is_set():
                file.seek(2 * 2**20)
                file.write(os.urandom(16))

    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        with pytest.raises(errors.Conflict, match="changed while"):
            store.put_file(path)
    finally:
        done.set()
        writer.join()


def test_a_blob_that_is_there_is_not_sent_again(s3_settings: Settings, where: Endpoint) -> None:
    store = open_store(s3_settings)
    digest = store.put_bytes(b"x" * 1000)
    key = f"t/default/cas/sha256/{digest[:2]}/{digest[2:4]}/{digest}"
    before = where.client.stat_object(where.bucket, key).last_modified
    time.sleep(1.1)  # the service tells seconds
    store.put_bytes(b"x" * 1000)
    assert where.client.stat_object(where.bucket, key).last_modified == before


def test_a_large_blob_that_is_there_is_recognized_by_its_parts(s3_settings: Settings, where: Endpoint) -> None:
    store, data = open_store(s3_settings), os.urandom(17 * 2**20)
    digest = store.put_bytes(data)
    key = f"t/default/cas/sha256/{digest[:2]}/{digest[2:4]}/{digest}"
    before = where.client.stat_object(where.bucket, key)
    time.sleep(1.1)
    store.put_bytes(data)
    assert before.etag.endswith("-2")
    assert where.client.stat_object(where.bucket, key).last_modified == before.last_modified


@pytest.mark.parametrize(
    "changed",
    [{"store_secret_key": SecretStr("wrong")}, {"store_access_key": "nobody"}, {"store_access_key": ""}],
    ids=["secret", "key", "anonymous"],
)
def test_wrong_credentials_are_named(s3_settings: Settings, where: Endpoint, changed: dict[str, object]) -> None:
    store = open_store(s3_settings.model_copy(update=changed))
    with pytest.raises(errors.Unauthorized, match="MILLRACE_STORE_ACCESS_KEY"):
        store.check()
    with pytest.raises(errors.Unauthorized):
        store.read_ref("name")
    with pytest.raises(errors.Unauthorized):
        store.exists("0" * 64)


def test_a_port_where_nobody_listens_is_said_within_seconds(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    _fails_within_seconds(Settings(home=tmp_path, store_url=f"s3+http://127.0.0.1:{port}/bucket"))


def test_a_host_that_drops_packets_is_said_within_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        # Linux ignores further connections once the queue, which nobody empties, is full.
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        _fails_within_seconds(Settings(home=tmp_path, store_url=f"s3+http://127.0.0.1:{address[1]}/bucket"))
        for sock in waiting:
            sock.close()


def _fails_within_seconds(settings: Settings) -> None:
    started = time.monotonic()
    with pytest.raises(errors.Unavailable, match="MILLRACE_STORE_URL"):
        open_store(settings).check()
    assert time.monotonic() - started < 12


def test_a_server_that_is_not_s3_is_said(tmp_path: Path, rabbitmq_url: str) -> None:
    store = open_store(Settings(home=tmp_path, store_url=f"s3+http://127.0.0.1:{urlsplit(rabbitmq_url).port}/bucket"))
    with pytest.raises(errors.Unavailable, match="MILLRACE_STORE_URL"):
        store.check()


@pytest.mark.parametrize(
    "url",
    [
        "s3+http://host:9000",
        "s3+http://host:9000/",
        "s3+http://host:9000/Upper",
        "s3+http://host:9000/bucket/folder",
        "s3+http://user:hunter2@host:9000/bucket",
        "s3+http://host:port/bucket",
        "s3+http:///bucket",
        "s3+http://a_b:9000/bucket?x=1",
    ],
)
def test_a_malformed_url_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(errors.InvalidInput, match="MILLRACE_STORE_URL") as caught:
        open_store(Settings(home=tmp_path, store_url=url))
    assert "hunter2" not in str(caught.value)


# --- collecting garbage ------------------------------------------------------------------------------------------------


def test_uploads_in_parts_that_nobody_completed_are_cleared(s3_settings: Settings, where: Endpoint) -> None:
    store = open_store(s3_settings)
    for key in ("t/default/cas/sha256/aa/bb/x", "t/other/cas/sha256/aa/bb/x"):
        where.client._create_multipart_upload(where.bucket, key, {})
    assert store.clear_leftovers(untouched_since=store.clock() - 60) == 0
    assert store.clear_leftovers(untouched_since=store.clock() + 60) == 1
    left = where.client._list_multipart_uploads(where.bucket).uploads
    assert [upload.object_name for upload in left] == ["t/other/cas/sha256/aa/bb/x"]


def test_in_a_bucket_with_versions_all_of_an_old_blob_go(s3_settings: Settings, where: Endpoint) -> None:
    where.client.set_bucket_versioning(where.bucket, VersioningConfig(ENABLED))
    store = open_store(s3_settings.model_copy(update={"gc_grace_s": 1e-6}))
    digest = store.put_bytes(b"twice")
    time.sleep(1.1)
    store.put_bytes(b"twice")
    key = f"t/default/cas/sha256/{digest[:2]}/{digest[2:4]}/{digest}"
    assert len(_versions(where, key)) == 2
    assert store.delete_blobs([digest], untouched_since=store.clock() - 60) == []
    assert store.delete_blobs([digest], untouched_since=store.clock() + 60) == [digest]
    assert _versions(where, key) == []


def _versions(where: Endpoint, key: str) -> list[str]:
    found = where.client.list_objects(where.bucket, prefix=key, recursive=True, include_version=True)
    return [str(item.version_id) for item in found]


def test_a_writer_waits_for_a_collector_that_has_condemned_what_it_stores(
    s3_settings: Settings, where: Endpoint
) -> None:
    # The collector looked at the old blob, and its deletion arrives after the writer's upload.
    store = open_store(s3_settings.model_copy(update={"gc_grace_s": 1e-6}))
    digest = store.put_bytes(b"condemned")
    condemned, key = condemned_key("default"), blob_key("default", digest)
    upload_bytes(where, condemned, digest.encode())
    time.sleep(1.1)

    def delete_late() -> None:
        time.sleep(0.5)
        where.client.remove_object(where.bucket, key)
        where.client.remove_object(where.bucket, condemned)

    collector = threading.Thread(target=delete_late)
    collector.start()
    store.put_bytes(b"condemned")
    collector.join()
    assert store.get_bytes(digest) == b"condemned"


def test_a_collector_that_died_delays_a_writer_for_a_bounded_time(
    s3_settings: Settings, where: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_sweeping, "PARDON_S", 0.5)
    store = open_store(s3_settings.model_copy(update={"gc_grace_s": 1e-6}))
    digest = store.put_bytes(b"condemned")
    upload_bytes(where, condemned_key("default"), digest.encode())
    time.sleep(1.1)
    started = time.monotonic()
    store.put_bytes(b"condemned")
    assert 0.4 < time.monotonic() - started < 5
