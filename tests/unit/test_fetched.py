"""The host's cache of fetched blobs: bounded, and safe for whoever uses a file."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from millrace.contracts.artifacts import ArtifactRef
from millrace.runtime.fetched import FetchCache, trim
from millrace.runtime.stage import Artifact
from millrace.store.artifacts import read_manifest, write_manifest
from millrace.store.local import LocalStore

SIZE = 1000
BOUND = 5 * SIZE


class Host:
    """A store with numbered blobs of 1,000 bytes, and the cache of a host beside it."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder / "store", tenant="default")
        self.root = folder / "cache"

    def blob(self, number: int) -> str:
        data = number.to_bytes(4, "big") * (SIZE // 4)
        self.store.put_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def attempt(self) -> FetchCache:
        return FetchCache(self.root, max_bytes=BOUND)

    def fetch(self, *numbers: int) -> list[Path]:
        """What one short attempt asks for."""
        with closing(self.attempt()) as cache:
            return [cache.file(self.store, self.blob(n), size_bytes=SIZE) for n in numbers]

    def held(self) -> int:
        return sum(path.stat().st_size for path in self.root.glob("[0-9a-f][0-9a-f]/*"))

    def tree(self, *numbers: int) -> ArtifactRef:
        files: dict[str, Path | bytes] = {f"{n}.bin": n.to_bytes(4, "big") * (SIZE // 4) for n in numbers}
        return write_manifest(self.store, "dataset", files, meta={})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_cache_stays_within_its_bound(host: Host) -> None:
    for number in range(40):
        host.fetch(number)
        assert host.held() <= BOUND


def test_what_was_not_asked_for_longest_goes_first(host: Host) -> None:
    paths = [host.fetch(n)[0] for n in range(5)]
    for path, age in zip(paths, (50, 10, 40, 30, 20), strict=True):
        os.utime(path, (time.time() - age,) * 2)
    host.fetch(2)  # asked for again
    host.fetch(5)
    assert [path.exists() for path in paths] == [False, True, True, False, True]


def test_an_attempt_keeps_what_it_asked_for(host: Host) -> None:
    with closing(host.attempt()) as cache:
        mine = [cache.file(host.store, host.blob(n), size_bytes=SIZE) for n in range(8)]
        for number in range(10, 30):
            host.fetch(number)
        assert all(path.exists() for path in mine)
    host.fetch(30)
    assert host.held() <= BOUND


def test_a_file_that_is_asked_for_again_and_again_is_noted_once(host: Host) -> None:
    with closing(host.attempt()) as cache:
        paths = {cache.file(host.store, host.blob(1), size_bytes=SIZE) for _ in range(100)}
        [note] = (host.root / ".uses").iterdir()
        assert note.read_text().split() == [path.name for path in paths]


def test_what_a_killed_attempt_asked_for_may_go(host: Host) -> None:
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=_ask_and_stay, args=(host, 0, theirs))
    other.start()
    path = ours.recv()
    host.fetch(*range(10, 20))
    assert path.exists()
    other.kill()
    other.join()
    host.fetch(*range(20, 30))
    assert not path.exists()


def test_a_tree_and_its_blobs_go_together_and_come_again_whole(host: Host) -> None:
    ref = host.tree(1, 2, 3)
    with closing(host.attempt()) as cache:
        artifact = Artifact(ref, read_manifest(host.store, ref.digest), host.store, cache)
        folder = artifact.directory()
        for number in range(10, 30):
            host.fetch(number)
        assert sorted(p.name for p in folder.iterdir()) == ["1.bin", "2.bin", "3.bin"]
    host.fetch(*range(30, 36))
    assert not folder.exists()
    assert [p.name for p in (host.root / "trees").iterdir()] == []
    with closing(host.attempt()) as cache:
        again = Artifact(ref, read_manifest(host.store, ref.digest), host.store, cache).directory()
        assert sorted(p.stat().st_size for p in again.iterdir()) == [SIZE] * 3


def test_a_file_that_a_power_loss_took_from_a_tree_comes_again(host: Host) -> None:
    ref = host.tree(1, 2)
    with closing(host.attempt()) as cache:
        artifact = Artifact(ref, read_manifest(host.store, ref.digest), host.store, cache)
        (artifact.directory() / "1.bin").unlink()
        assert (artifact.directory() / "1.bin").exists()


def test_many_attempts_at_once_find_what_they_asked_for(host: Host) -> None:
    digests = [host.blob(n) for n in range(20)]

    def attempt(seed: int) -> int:
        found = 0
        for turn in range(30):
            with closing(host.attempt()) as cache:
                wanted = [digests[(seed * 7 + turn * 3 + k) % 20] for k in range(3)]
                paths = [cache.file(host.store, digest, size_bytes=SIZE) for digest in wanted]
                found += sum(len(path.read_bytes()) == SIZE for path in paths)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(attempt, range(4))) == [90] * 4
    assert list((host.root / ".uses").iterdir()) == []


@pytest.mark.parametrize("tally", [b"", b"12", b"\xff\xfe rubbish"])
def test_a_tally_that_was_lost_costs_one_look(host: Host, tally: bytes) -> None:
    host.fetch(*range(4))
    (host.root / ".tally").write_bytes(tally)
    for number in range(10, 20):
        host.fetch(number)
    assert host.held() <= BOUND


def test_the_cache_is_not_looked_through_for_each_fetch(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def counted(root: Path, *, max_bytes: int) -> int:
        looks.append(max_bytes)
        return trim(root, max_bytes=max_bytes)

    monkeypatch.setattr("millrace.runtime.fetched.trim", counted)
    bound = 100 * SIZE
    with closing(FetchCache(host.root, max_bytes=bound)) as cache:
        for number in range(200):  # all of it in use, so that looking removes nothing
            cache.file(host.store, host.blob(number), size_bytes=SIZE)
    assert len(looks) <= 12
    assert host.held() == 200 * SIZE


def _ask_and_stay(host: Host, number: int, parent: Connection) -> None:
    cache = host.attempt()
    parent.send(cache.file(host.store, host.blob(number), size_bytes=SIZE))
    time.sleep(60)
    cache.close()
