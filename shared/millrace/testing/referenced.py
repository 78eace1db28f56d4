"""What the ledger and the bucket name, against what the bucket holds: nothing that is referenced is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from millrace import errors
from millrace.contracts.artifacts import Manifest
from millrace.contracts.events import EndpointDesired
from millrace.ledger.database import Database
from millrace.store import Store
from millrace.store.artifacts import read_manifest
from millrace.testing.history import Violation

StoreOf = Callable[[str], Store]
HEADS = "tasks/"


def check_bucket(database: Database, store_of: StoreOf, *, tenants: Iterable[str]) -> Iterator[Violation]:
    """Judge what the ledger references, the endpoints' refs, and the heads of tasks."""
    for tenant in sorted(set(tenants)):
        store = store_of(tenant)
        heads = {name: ref for name in store.list_refs(HEADS) if (ref := store.read_ref(name)) is not None}
        named = {d: why for why, value in _values(database, tenant) for d in manifests_of(value)}
        for name, ref in heads.items():
            named |= dict.fromkeys(manifests_of(ref.target), f"head {name}")
        for digest, why in sorted(named.items()):
            yield from check_artifact(store, digest, named_by=why)
        yield from _endpoint_refs(database, store)
        fences = {name: ref.fence for name, ref in heads.items()}
        yield from _heads(database, fences)


def check_manifests(store: Store, digests: Iterable[str]) -> Iterator[Violation]:
    """Judge manifests that nobody may reference yet: whoever sees a manifest finds every blob it names."""
    for digest in digests:
        try:
            manifest = read_manifest(store, digest)
        except errors.MillraceError:
            continue  # a blob of another kind
        for entry in manifest.files:
            if not store.exists(entry.digest):
                yield Violation(
                    "missing", digest, f"this manifest names {entry.path} ({entry.digest[:12]}), which is not there"
                )


def check_artifact(store: Store, digest: str, *, named_by: str) -> Iterator[Violation]:
    """Read an artifact whole: its manifest and each of its files, to the last byte."""
    try:
        manifest: Manifest = read_manifest(store, digest)
        for entry in manifest.files:
            with store.open(entry.digest) as stream:
                while stream.read(1 << 20):
                    pass
    except errors.MillraceError as error:
        yield Violation("missing", digest, f"{named_by} names it: {error.message}")


def manifests_of(value: Any) -> Iterator[str]:
    """Digests in a JSON value that stand where an ArtifactRef stands."""
    if isinstance(value, Mapping):
        if isinstance(value.get("digest"), str) and "type" in value and "tenant" in value:
            yield value["digest"]
        else:
            for inner in value.values():
                yield from manifests_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from manifests_of(inner)


def _values(database: Database, tenant: str) -> Iterator[tuple[str, Any]]:
    """JSON values of a tenant that may name artifacts, each with who names it."""
    for run_id, name, plan, outputs in database.read(
        "SELECT s.run_id, s.name, s.plan, s.outputs FROM stages s JOIN runs r ON r.run_id = s.run_id WHERE r.tenant = ?",
        (tenant,),
    ):
        for text in (plan, outputs):
            if text is not None:
                yield f"stage {name} of {run_id}", json.loads(text)
    for endpoint, number, model in database.read(
        "SELECT endpoint, release_number, model FROM releases WHERE tenant = ?", (tenant,)
    ):
        yield f"release {number} of {endpoint}", json.loads(model)
    for run_id, stage, result in database.read(
        "SELECT run_id, stage, result FROM tasks WHERE tenant = ? AND result LIKE ?", (tenant, '%"digest"%')
    ):
        yield f"a task of stage {stage} of {run_id}", json.loads(result)


def _endpoint_refs(database: Database, store: Store) -> Iterator[Violation]:
    """Each endpoint's ref holds the ledger's newest desired state."""
    for name, generation, release in database.read(
        "SELECT name, generation, release_number FROM endpoints WHERE tenant = ?", (store.tenant,)
    ):
        ref = store.read_ref(f"endpoints/{name}")
        if ref is None:
            yield Violation("missing", f"endpoint {name}", f"generation {generation} was released, and no ref says so")
            continue
        desired = EndpointDesired.model_validate(ref.target)
        if (ref.generation, desired.generation, desired.release) != (generation, generation, release):
            yield Violation(
                "wrong", f"endpoint {name}",
                f"its ref says generation {ref.generation}, release {desired.release}; the ledger {generation}, {release}",
            )  # fmt: skip


def _heads(database: Database, fences: Mapping[str, int]) -> Iterator[Violation]:
    """Whoever has a fence above 1 has sealed its head before it worked: no lower one stands there afterwards."""
    for run_id, stage, round_, phase, index, fence in database.read(
        "SELECT run_id, stage, round, phase, idx, fence FROM tasks WHERE status = 'succeeded' AND nonce <> '' AND fence > 1"
    ):
        name = f"{HEADS}{run_id}/{stage}/{phase}{round_}/{index}"
        if fences.get(name, fence) < fence:
            yield Violation("wrong", run_id, f"head {name} has fence {fences[name]}, its task's result {fence}")
