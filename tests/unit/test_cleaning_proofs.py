"""Planted leaks are all caught, a random split leaks on the same data, and a split by what would leak is proved clean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleaning_runs import clean, csv_of
from millrace.contracts.schema import SplitName
from millrace.datasets.keys import row_keys, value_keys
from millrace_cleaning.near.clusters import clusters
from millrace_cleaning.near.lsh import candidate_rows, candidates
from millrace_cleaning.near.minhash import signatures
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near.verify import similarities, write_sets
from millrace_cleaning.proofs import Kind, Proof, prove
from millrace_cleaning.split import SPLITS, Codes, split_by_group, split_in_order, split_randomly

FRACTIONS: dict[SplitName, float] = {"train": 0.6, "validation": 0.2, "test": 0.2}
NUM_USERS, ROWS_PER_USER = 60, 5


@dataclass(frozen=True)
class Visits:
    """Rows of users over time, whose texts are copied with a word changed: each way of dividing them may leak."""

    low: npt.NDArray[np.uint64]
    high: npt.NDArray[np.uint64]
    users: npt.NDArray[np.uint64]
    days: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.int64]

    def prove(self, codes: Codes) -> dict[Kind, Proof]:
        proofs = prove(codes, keys=(self.low, self.high), groups=self.users, clusters=self.clusters, moments=self.days)
        return {proof.kind: proof for proof in proofs}


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Visits:
    random = np.random.default_rng(0)
    num_rows = NUM_USERS * ROWS_PER_USER
    texts = [" ".join(f"w{i}" for i in random.integers(50_000, size=80)) for _ in range(num_rows // 2)]
    texts += [f"{text} and again" for text in texts]  # the copies' users and days are others'
    batch = pa.record_batch({"text": texts})
    low, high = row_keys(batch, ["text"])
    users = value_keys(pa.array([f"user-{i % NUM_USERS}" for i in range(num_rows)]))
    days = random.permutation(num_rows) // 3
    return Visits(low, high, users, days, _clusters(batch.column(0), tmp_path_factory.mktemp("near")))


def _clusters(texts: pa.Array, root: Path) -> npt.NDArray[np.int64]:
    config = NearDedupConfig()
    pq.write_table(pa.Table.from_batches([signatures(texts, config=config)]), root / "bands.parquet")
    pairs = candidates([root / "bands.parquet"], config=config)
    rows = candidate_rows(pairs)
    write_sets(root / "sets.arrow", [texts.take(pa.array(rows))], config=config)
    found = similarities(pairs, [root / "sets.arrow"], rows=rows, config=config)
    return clusters(pairs, found, num_rows=len(texts)).first


def _random(visits: Visits) -> Codes:
    return split_randomly(visits.low, visits.high, classes=None, seed=0, fractions=FRACTIONS)


def test_a_random_split_is_shown_to_leak_groups_time_and_near_duplicates(visits: Visits) -> None:
    found = visits.prove(_random(visits))
    assert found["duplicates"].holds
    leaking = {kind: proof.leaking_units for kind, proof in found.items() if not proof.holds}
    assert leaking.keys() == {"groups", "time", "near_duplicates"}
    assert leaking["groups"] > NUM_USERS / 2
    assert leaking["near_duplicates"] > NUM_USERS


def test_a_split_by_group_is_proved_to_keep_groups_whole(visits: Visits) -> None:
    found = visits.prove(split_by_group(visits.users, seed=0, fractions=FRACTIONS))
    assert found["groups"] == Proof("groups", NUM_USERS, 0, 0)
    assert not found["time"].holds


def test_a_split_by_time_is_proved_to_be_in_order(visits: Visits) -> None:
    found = visits.prove(split_in_order(visits.days, fractions=FRACTIONS, units="moments"))
    assert found["time"] == Proof("time", 100, 0, 0)
    assert not found["groups"].holds


def test_a_split_by_cluster_is_proved_to_keep_near_duplicates_whole(visits: Visits) -> None:
    found = visits.prove(split_by_group(visits.clusters.astype(np.uint64), seed=0, fractions=FRACTIONS))
    assert found["near_duplicates"] == Proof("near_duplicates", NUM_USERS * ROWS_PER_USER // 2, 0, 0)
    assert found["duplicates"].holds


def test_one_planted_leak_of_each_kind_is_caught() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2, 2, -1], dtype=np.int8)
    clean = np.array([0, 0, 1, 2, 2, 3, 4, 0], dtype=np.uint64)
    leaking = np.array([0, 0, 1, 2, 2, 3, 1, 3], dtype=np.uint64)  # row 6 of the test split is like row 2 of train
    assert all(p.holds for p in prove(codes, keys=(clean, clean), groups=clean, clusters=clean, moments=clean))
    for proof in prove(codes, keys=(leaking, leaking), groups=leaking, clusters=leaking, moments=leaking):
        assert (proof.leaking_units, proof.leaking_rows) == (1, 1), proof.kind


def test_rows_of_no_split_leak_nothing() -> None:
    codes = np.array([0, -1, -1], dtype=np.int8)
    same = np.zeros(3, dtype=np.uint64)
    assert all(p.holds for p in prove(codes, keys=(same, same), groups=same, clusters=same, moments=same))


def test_equal_moments_in_two_splits_leak() -> None:
    assert prove(np.array([0, 1], dtype=np.int8), moments=np.array([5, 5]))[0].leaking_rows == 1


def test_a_proof_says_its_claim_in_words() -> None:
    (proof,) = prove(np.array([0, 2], dtype=np.int8), groups=np.array([1, 1]))
    assert proof.to_json() == {
        "kind": "groups", "units": 1, "leaking_units": 1, "leaking_rows": 1, "holds": False,
        "claim": "No group has rows in two splits.",
    }  # fmt: skip


@given(rows=st.lists(st.tuples(st.integers(-1, len(SPLITS) - 1), st.integers(0, 5))))
def test_counts_agree_with_a_look_at_every_pair_of_rows(rows: list[tuple[int, int]]) -> None:
    codes = np.array([code for code, _ in rows], dtype=np.int8)
    values = np.array([value for _, value in rows], dtype=np.int64)
    whole, order = prove(codes, groups=values, moments=values)
    shared = [any(b == value and 0 <= a < code for a, b in rows) for code, value in rows]
    late = [any(b >= value and 0 <= a < code for a, b in rows) for code, value in rows]
    assert whole.leaking_rows == sum(shared)
    assert order.leaking_rows == sum(late)


def visits_table(num_rows: int = 200) -> pa.Table:
    """Two rows of each user, a day apart, whose notes are copied from each other but for a word."""
    random = np.random.default_rng(0)
    notes = [" ".join(f"w{i}" for i in random.integers(50_000, size=80)) for _ in range(num_rows // 2)]
    return pa.table(
        {
            "note": [*notes, *(f"{note} again" for note in notes)],
            "user": [f"user-{i % (num_rows // 2)}" for i in range(num_rows)],
            "day": [float(i // 2) for i in range(num_rows)],
        }
    )


def proofs_of(root: Path, **config: Any) -> dict[str, dict[str, Any]]:
    made = clean(root, {"visits.parquet": visits_table()}, features="note", bytes_per_task=20_000, **config)
    return {proof["kind"]: proof for proof in made.profile["proofs"]}


def test_a_clean_stage_proves_what_its_split_promises(tmp_path: Path) -> None:
    found = proofs_of(tmp_path / "group", split={"by": "user"})
    assert (found["groups"]["units"], found["groups"]["holds"]) == (100, True)
    found = proofs_of(tmp_path / "time", split={"time": "day"})
    assert (found["time"]["units"], found["time"]["holds"]) == (100, True)
    found = proofs_of(tmp_path / "near", near_dedup={"drop": False})
    assert (found["near_duplicates"]["units"], found["near_duplicates"]["holds"]) == (100, True)


def test_a_leak_that_a_split_cannot_help_is_a_warning(tmp_path: Path) -> None:
    rows = csv_of([[number % 4, "x"] for number in range(40)], header=["a", "b"])
    made = clean(tmp_path, {"rows.csv": rows}, dedup=False, split={"order": "contiguous"})
    (proof,) = made.profile["proofs"]
    assert (proof["kind"], proof["holds"], proof["leaking_units"]) == ("duplicates", False, 4)
    assert any("No row has an equal one in another split" in warning for warning in made.profile["warnings"])
