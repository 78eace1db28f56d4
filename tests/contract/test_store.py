"""What every store adapter promises, asked of the local directory and of a real S3 service."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from minio import Minio

from millrace import errors
from millrace.contracts.artifacts import Ref
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace.store.keys import blob_key
from store_races import claim, grow_by_streaming, in_processes, increment, put_same, use_across_a_fork, write_or_collect


@dataclass(frozen=True, slots=True)
class Subject:
    """A store under test, and a way to its bytes that goes past it."""

    store: Store
    settings: Settings
    overwrite: Callable[[str, bytes], object]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.servers)])
def subject(request: pytest.FixtureRequest) -> Subject:
    settings: Settings = request.getfixturevalue("s3_settings" if request.param == "s3" else "embedded_settings")
    overwrite = _overwrite_object if request.param == "s3" else _overwrite_file
    return Subject(open_store(settings), settings, lambda digest, data: overwrite(settings, digest, data))


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


def _overwrite_file(settings: Settings, digest: str, data: bytes) -> None:
    path = settings.home / "store" / blob_key("default", digest)
    path.chmod(0o644)
    path.write_bytes(data)


def _overwrite_object(settings: Settings, digest: str, data: bytes) -> None:
    host, _, bucket = settings.store.removeprefix("s3+http://").partition("/")
    client = Minio(host, settings.store_access_key, settings.store_secret_key.get_secret_value(), secure=False)
    client.put_object(bucket, blob_key("default", digest), io.BytesIO(data), len(data))


def _ref(generation: int, *, nonce: str, fence: int = 0) -> Ref:
    return Ref(target={"at": generation}, generation=generation, fence=fence, nonce=nonce)


@pytest.mark.parametrize("data", [b"", b"millrace", os.urandom(3 * 2**20 + 1)], ids=["empty", "small", "megabytes"])
def test_bytes_come_back_under_their_sha256(store: Store, data: bytes) -> None:
    digest = store.put_bytes(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert store.get_bytes(digest) == data
    assert store.exists(digest)
    assert store.size(digest) == len(data)


@pytest.mark.parametrize("size", [5, 9 * 2**20, 33 * 2**20], ids=["memory", "spooled", "parts"])
def test_a_stream_a_file_and_bytes_are_one_blob(store: Store, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    expected = (hashlib.sha256(data).hexdigest(), size)
    assert store.put_stream(io.BytesIO(data)) == expected
    assert store.put_file(tmp_path / "file") == expected
    store.fetch(expected[0], tmp_path / "new" / "folder" / "copy")
    assert (tmp_path / "new" / "folder" / "copy").read_bytes() == data


def test_a_blob_is_read_as_a_stream(store: Store) -> None:
    digest = store.put_bytes(b"one\ntwo\n")
    with store.open(digest) as stream:
        assert stream.readline() == b"one\n"
        assert stream.read() == b"two\n"


def test_a_missing_blob_is_not_found(store: Store, tmp_path: Path) -> None:
    absent = "0" * 64
    assert not store.exists(absent)
    with pytest.raises(errors.NotFound):
        store.get_bytes(absent)
    with pytest.raises(errors.NotFound):
        store.size(absent)
    with pytest.raises(errors.NotFound):
        store.fetch(absent, tmp_path / "copy")
    with pytest.raises(errors.NotFound), store.open(absent):
        pass


def test_a_missing_file_is_not_found(store: Store, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="absent"):
        store.put_file(tmp_path / "absent")


def test_a_directory_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="directory"):
        store.put_file(tmp_path)


def test_a_blob_too_large_for_memory_is_refused_before_it_is_read(store: Store) -> None:
    digest = store.put_bytes(b"x" * 1001)
    with pytest.raises(errors.ResourceExhausted, match="1,001"):
        store.get_bytes(digest, max_bytes=1000)


@pytest.mark.parametrize("bad", [b"tampered", b"longer than before", b"cut"], ids=["changed", "longer", "shorter"])
def test_corrupt_bytes_are_never_delivered(subject: Subject, tmp_path: Path, bad: bytes) -> None:
    digest = subject.store.put_bytes(b"pristine")
    subject.overwrite(digest, bad)
    with pytest.raises(errors.Corrupt):
        subject.store.get_bytes(digest)
    with pytest.raises(errors.Corrupt):
        subject.store.fetch(digest, tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []


def test_reading_exactly_to_the_end_verifies_too(subject: Subject) -> None:
    digest = subject.store.put_bytes(b"pristine")
    subject.overwrite(digest, b"tampered")
    with subject.store.open(digest) as stream, pytest.raises(errors.Corrupt):
        stream.read(8)


def test_storing_again_heals_a_corrupt_blob(subject: Subject) -> None:
    digest = subject.store.put_bytes(b"pristine")
    subject.overwrite(digest, b"tampered")
    subject.store.put_bytes(b"pristine")
    assert subject.store.get_bytes(digest) == b"pristine"


def test_a_ref_moves_only_from_what_is_expected(store: Store) -> None:
    first, second, third = (_ref(number, nonce=f"n{number}") for number in (1, 2, 3))
    assert store.read_ref("models/digits") is None
    assert store.write_ref("models/digits", first, expected=None)
    assert not store.write_ref("models/digits", second, expected=None)
    assert store.write_ref("models/digits", second, expected=first)
    assert not store.write_ref("models/digits", third, expected=first)
    assert store.read_ref("models/digits") == second


def test_an_absent_ref_is_not_what_a_writer_expected(store: Store) -> None:
    assert not store.write_ref("absent", _ref(2, nonce="b"), expected=_ref(1, nonce="a"))
    assert store.read_ref("absent") is None


def test_repeating_the_same_write_is_the_same_success(store: Store) -> None:
    body = _ref(1, nonce="mine")
    assert store.write_ref("once", body, expected=None)
    assert store.write_ref("once", body, expected=None)


def test_a_lower_fence_never_replaces_a_higher_one(store: Store) -> None:
    newer = _ref(1, nonce="newer", fence=3)
    assert store.write_ref("head", newer, expected=None)
    assert not store.write_ref("head", _ref(2, nonce="older", fence=2), expected=newer)
    assert store.read_ref("head") == newer


def test_a_ref_back_at_an_earlier_target_is_not_the_earlier_ref(store: Store) -> None:
    first = Ref(target={"model": "a"}, generation=1, nonce="n1")
    second = Ref(target={"model": "b"}, generation=2, nonce="n2")
    third = Ref(target={"model": "a"}, generation=3, nonce="n3")
    assert store.write_ref("aba", first, expected=None)
    assert store.write_ref("aba", second, expected=first)
    assert store.write_ref("aba", third, expected=second)
    assert not store.write_ref("aba", _ref(2, nonce="late"), expected=first)


def test_refs_are_listed_sorted_by_prefix(store: Store) -> None:
    names = ["runs/b", "runs/a", "runs/a/checkpoint", "runs/run_1.train@v=2+x", "other"]
    for name in names:
        assert store.write_ref(name, _ref(1, nonce=name), expected=None)
    assert list(store.list_refs()) == sorted(names)
    assert list(store.list_refs("runs/a")) == ["runs/a", "runs/a/checkpoint"]
    assert list(store.list_refs("none")) == []


@pytest.mark.parametrize(
    "name", ["../secrets", "a/../../b", "/etc/passwd", "a//b", "", "a/", ".hidden", "a\\b", "a\0b", "a\n"]
)
def test_a_ref_cannot_leave_its_folder(store: Store, name: str) -> None:
    with pytest.raises(errors.InvalidInput):
        store.read_ref(name)
    with pytest.raises(errors.InvalidInput):
        store.write_ref(name, _ref(1, nonce="n"), expected=None)


@pytest.mark.parametrize("digest", ["", "../../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_blob_is_named_by_a_digest_only(store: Store, digest: str) -> None:
    with pytest.raises(errors.InvalidInput, match="digest"):
        store.get_bytes(digest)


def test_tenants_see_nothing_of_each_other(subject: Subject) -> None:
    other = open_store(subject.settings, tenant="other")
    digest = subject.store.put_bytes(b"mine")
    subject.store.write_ref("mine", _ref(1, nonce="n"), expected=None)
    assert not other.exists(digest)
    assert other.read_ref("mine") is None
    assert list(other.list_refs()) == []


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "Upper", "a\n"])
def test_a_tenant_has_a_plain_name(subject: Subject, tenant: str) -> None:
    with pytest.raises(errors.InvalidInput, match="tenant"):
        open_store(subject.settings, tenant=tenant)


def test_check_passes_on_a_store_that_works(store: Store) -> None:
    store.check()
    assert list(store.list_refs()) == []


def test_of_sixteen_processes_that_claim_a_ref_one_wins(subject: Subject) -> None:
    claims = in_processes(16, claim, subject.settings, "claimed")
    winners = [nonce for won, nonce in claims if won]
    held = subject.store.read_ref("claimed")
    assert held is not None
    assert winners == [held.nonce]


def test_no_increment_by_eight_processes_is_lost(subject: Subject) -> None:
    assert in_processes(8, increment, subject.settings, "counter", 5) == [5] * 8
    held = subject.store.read_ref("counter")
    assert held is not None
    assert held.target == {"count": 40}


def test_processes_that_store_the_same_blob_agree(subject: Subject) -> None:
    digests = set(in_processes(8, put_same, subject.settings, 2**20))
    assert len(digests) == 1
    assert subject.store.get_bytes(digests.pop()) == b"same" * (2**20 // 4)


def test_a_store_works_on_both_sides_of_a_fork(subject: Subject) -> None:
    assert in_processes(1, use_across_a_fork, subject.settings) == [True]


def test_memory_stays_bounded_while_a_large_stream_goes_through(subject: Subject, tmp_path: Path) -> None:
    size = 256 * 2**20
    (growth,) = in_processes(1, grow_by_streaming, subject.settings, size, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_size == size
    assert growth < 128 * 2**20


# --- collecting garbage ------------------------------------------------------------------------------------------------


def _brief(subject: Subject, *, grace_s: float) -> Store:
    """The same store with another grace."""
    return open_store(subject.settings.model_copy(update={"gc_grace_s": grace_s}))


def test_blobs_are_listed_in_order_with_size_and_age(store: Store) -> None:
    sizes = {store.put_bytes(bytes(number)): number for number in range(30)}
    listed = list(store.list_blobs())
    assert [blob.digest for blob in listed] == sorted(sizes)
    assert {blob.digest: blob.size_bytes for blob in listed} == sizes
    assert all(abs(blob.modified_at - store.clock()) < 30 for blob in listed)
    for after in (listed[0].digest, listed[17].digest, listed[-1].digest, "0" * 64):
        assert list(store.list_blobs(after=after)) == [blob for blob in listed if blob.digest > after]


def test_only_blobs_untouched_for_long_enough_are_deleted(store: Store) -> None:
    digests = [store.put_bytes(data) for data in (b"one", b"two")]
    assert store.delete_blobs(digests, untouched_since=store.clock() - 60) == []
    assert store.delete_blobs([*digests, "0" * 64], untouched_since=store.clock() + 60) == digests
    assert list(store.list_blobs()) == []
    with pytest.raises(errors.NotFound):
        store.get_bytes(digests[0])


def test_a_deleted_blob_can_be_stored_again(store: Store) -> None:
    digest = store.put_bytes(b"again")
    store.delete_blobs([digest], untouched_since=store.clock() + 60)
    assert store.put_bytes(b"again") == digest
    assert store.get_bytes(digest) == b"again"


@pytest.mark.parametrize("how", ["put", "refresh"])
def test_a_blob_older_than_half_the_grace_is_touched_when_it_is_used_again(
    subject: Subject, tmp_path: Path, how: str
) -> None:
    store, data = _brief(subject, grace_s=0.4), os.urandom(1000)
    digest = store.put_bytes(data)
    (before,) = store.list_blobs()
    time.sleep(1.2)  # S3 tells whole seconds
    assert store.put_bytes(data) == digest if how == "put" else store.refresh(digest)
    (after,) = store.list_blobs()
    assert after.modified_at > before.modified_at
    assert store.delete_blobs([digest], untouched_since=after.modified_at) == []
    assert store.get_bytes(digest) == data


def test_a_young_blob_is_not_touched(store: Store) -> None:
    digest = store.put_bytes(b"young")
    (before,) = store.list_blobs()
    time.sleep(1.1)
    assert store.refresh(digest)
    store.put_bytes(b"young")
    assert list(store.list_blobs()) == [before]


def test_a_missing_blob_cannot_be_refreshed(store: Store) -> None:
    assert not store.refresh("0" * 64)


def test_a_deleted_ref_was_never_written(store: Store) -> None:
    store.write_ref("heads/a", _ref(1, nonce="a", fence=7), expected=None)
    store.delete_ref("heads/a")
    store.delete_ref("heads/a")
    assert store.read_ref("heads/a") is None
    assert list(store.list_refs()) == []
    assert store.write_ref("heads/a", _ref(1, nonce="b"), expected=None)


def test_what_writers_store_beside_a_collector_is_there_afterwards(subject: Subject) -> None:
    store, num = subject.store, 60
    shared = {store.put_bytes(b"blob %d" % number) for number in range(num)}
    unused = {store.put_bytes(b"unused %d" % number) for number in range(num)}
    settings = subject.settings.model_copy(update={"gc_grace_s": 1e-6})  # writers touch whatever they find
    time.sleep(2.1)  # S3 tells whole seconds
    answers = in_processes(3, write_or_collect, settings, num, store.clock())
    deleted = next(set(answer) for answer in answers if answer)
    assert sum(map(bool, answers)) == 1
    assert unused <= deleted <= unused | shared
    assert {blob.digest for blob in store.list_blobs()} == shared
