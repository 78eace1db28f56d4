"""What is recorded of a garbage collector: refs come and go, and what no ref names any more is collected between."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from chaos.power_loss.judge import judge
from chaos.power_loss.losses import Survivor
from chaos.power_loss.recorder import mark
from millrace.contracts.artifacts import ArtifactRef, Ref
from millrace.ledger.connect import open_database
from millrace.ledger.ledger import open_ledger
from millrace.ledger.retention import Retention
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.artifacts import write_manifest
from millrace.store.connect import open_store
from millrace.testing.history import Violation
from millrace_conductor.collecting import Collector, Policy

NUM_ROUNDS = 3
NUM_REFS = 4


def collect(home: Path, store: Store) -> None:
    """Collect to the end, or go on with what the last collector of this name left."""
    settings = Settings(home=home)
    database = open_database(settings.database)
    policy = Policy(grace_s=0.0, retention=Retention(runs_days=1, cache_days=1, uploads_days=1, dead_letters_days=1))
    Collector(database, store, policy=policy, folder=home / "gc", owner="only").collect()
    database.close()


def judge_collecting(survivor: Survivor) -> list[Violation]:
    """Go on with the collection, then judge: what it deletes now is judged too."""
    for blob in survivor.home.glob("store/t/*/cas/sha256/*/*/*"):
        os.utime(blob, (1, 1))  # all of them are old enough to go
    if (survivor.home / "ledger.sqlite").exists() and any(word == "begun" for word, *_ in survivor.promises):
        collect(survivor.home, open_store(Settings(home=survivor.home)))
    dropped = {digest for word, *rest in survivor.promises if word == "dropped" for digest in rest[2:]}
    # A manifest that was deleted may be back without its blobs: no ref may name it, and the next collection finds it.
    wrong = judge(survivor.home, survivor.promises)
    return [v for v in wrong if not (v.about in dropped and v.what.startswith("this manifest"))]


def _keep(folder: Path, store: Store, name: str, number: int) -> ArtifactRef:
    files = {"own": f"{name}-{number}".encode() * 700, "shared": b"of all"}
    artifact = write_manifest(store, "report", files, meta={"name": name, "number": number})
    assert store.write_ref(name, Ref(target=artifact.model_dump(), generation=number, nonce=name), expected=None)
    # Not before: without a grace a collection spares nothing that no ref names.
    mark(folder, "stored", store.tenant, artifact.digest)
    mark(folder, "pointed", store.tenant, name, str(number))
    return artifact


def main(folder: Path) -> None:
    settings = Settings(home=folder / "home")
    open_ledger(settings.database).close()
    mark(folder, "begun")
    store = open_store(settings)
    for number in range(NUM_ROUNDS):
        kept = {f"kept/{number}/{n}": _keep(folder, store, f"kept/{number}/{n}", number) for n in range(NUM_REFS)}
        for name, artifact in list(kept.items())[::2]:
            mark(folder, "dropped", store.tenant, name, artifact.digest)
            store.delete_ref(name)
        time.sleep(0.05)  # older than the collection, by any clock
        collect(settings.home, store)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
