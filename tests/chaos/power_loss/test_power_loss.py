"""Power loss: whatever an unsynced disk kept, lost or tore, no promise is broken, and the factory goes on from there.

`make chaos` looks at more instants (POWER_LOSSES) with another seed each time (CHAOS_SEED); a finding prints both.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from chaos.power_loss.collecting_work import judge_collecting
from chaos.power_loss.losses import broken_promises, survivors, without
from chaos.power_loss.operations import Operation
from chaos.power_loss.recorder import MARKS, Recording, record
from chaos.power_loss.restarting import restart
from servers.process import MissingProgram

NUM = int(os.environ.get("POWER_LOSSES", "60"))
NUM_RESTARTS = max(1, NUM // 60)
SEED = int(os.environ.get("CHAOS_SEED", str(int(time.time()) % 1_000_000)))

pytestmark = pytest.mark.timeout(120 + 4 * NUM)

Take = Callable[..., Recording]


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Records a workload; without strace a laptop skips, and CI fails."""

    def make(workload: str, *arguments: str) -> Recording:
        try:
            return record(tmp_path_factory.mktemp("recorded") / "all", workload, *arguments)
        except MissingProgram as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))

    return make


@pytest.fixture(scope="module")
def factory(take: Take) -> Recording:
    return take("factory_work")


@pytest.fixture(scope="module")
def seams(take: Take) -> Recording:
    return take("seams_work")


@pytest.fixture(scope="module")
def collecting(take: Take) -> Recording:
    return take("collecting_work")


def test_a_recording_tells_every_byte(collecting: Recording) -> None:
    folder = collecting.folder
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert collecting.until(len(collecting.operations)).contents() == found


def test_a_factory_breaks_no_promise(factory: Recording) -> None:
    print(f"CHAOS_SEED={SEED} POWER_LOSSES={NUM}")
    assert broken_promises(factory, num=NUM, seed=SEED) == []


def test_store_bus_and_ledger_break_no_promise(seams: Recording) -> None:
    print(f"CHAOS_SEED={SEED} POWER_LOSSES={NUM}")
    assert broken_promises(seams, num=NUM, seed=SEED) == []


def test_a_collection_that_lost_power_goes_on_and_takes_only_garbage(collecting: Recording) -> None:
    print(f"CHAOS_SEED={SEED} POWER_LOSSES={NUM}")
    assert broken_promises(collecting, num=NUM, seed=SEED, by=judge_collecting) == []


def test_accepted_runs_end_after_power_loss(factory: Recording) -> None:
    print(f"CHAOS_SEED={SEED} POWER_LOSSES={NUM}")
    accepted = [i + 1 for i, o in enumerate(factory.operations) if o.path == MARKS and o.data.startswith(b"accepted")]
    rng = random.Random(SEED)
    at = sorted(rng.randint(accepted[-1] // 2, len(factory.operations)) for _ in range(NUM_RESTARTS))
    for survivor in survivors(factory, at, seed=SEED):
        assert restart(survivor) == [], f"operation {survivor.instant}, seed {survivor.seed}"


def is_sync_of(*words: str) -> Callable[[Operation], bool]:
    return lambda operation: operation.kind == "sync" and all(word in operation.path for word in words)


FORGOTTEN = {
    "bytes of a blob or a ref": is_sync_of("/tmp/"),
    "name of a blob": is_sync_of("/cas/"),
    "name of a ref": is_sync_of("/refs/"),
    "commit of the bus": is_sync_of("durable.sqlite-wal"),
    "commit of the ledger": is_sync_of("ledger.sqlite-wal"),
    "name of the home": lambda operation: operation.kind == "sync" and operation.path == "",
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_sync_that_is_forgotten_is_found(seams: Recording, what: str) -> None:
    assert broken_promises(without(seams, FORGOTTEN[what]), num=60, seed=1, enough=1)


def test_a_journal_that_comes_back_beside_a_sweep_is_found(collecting: Recording) -> None:
    """SQLite's FULL, unlike EXTRA, leaves a commit undone when its journal's end does not reach the disk."""
    ends = [
        sync for removal, sync in pairwise(collecting.operations)
        if removal.kind == "remove" and removal.path.endswith(".marks-journal") and sync.kind == "sync"
    ]  # fmt: skip
    full = without(collecting, lambda operation: operation in ends)
    swept = [i + 1 for i, o in enumerate(full.operations) if o.kind == "remove" and "/cas/" in o.path]
    assert any(judge_collecting(survivor) for survivor in survivors(full, sorted(3 * swept), seed=1))


def test_a_manifest_before_its_blobs_is_found(take: Take) -> None:
    assert broken_promises(take("seams_work", "manifest_before_blobs"), num=60, seed=1, enough=1)
