"""Trees of fetched files: attempts of one host make them together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from millrace.runtime.fetched import FetchCache
from millrace.settings import Settings
from millrace.store.artifacts import read_manifest, write_manifest
from millrace.store.connect import open_store

NUM_ATTEMPTS = 4


def test_attempts_that_make_a_tree_together_leave_nothing_else_in_it(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path))
    files = {f"part-{n}": str(n).encode() for n in range(50)}
    digest = write_manifest(store, "dataset", files, meta={}).digest
    manifest, together = read_manifest(store, digest), threading.Barrier(NUM_ATTEMPTS)

    def attempt() -> Path:
        with closing(FetchCache(tmp_path / "cache")) as cache:
            together.wait()
            return cache.tree(store, digest, manifest)

    with ThreadPoolExecutor(NUM_ATTEMPTS) as pool:
        attempts = [pool.submit(attempt) for _ in range(NUM_ATTEMPTS)]
        [tree] = {a.result() for a in attempts}
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == files
