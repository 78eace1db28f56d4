"""The clean stage as a whole: what comes out, and that it does not depend on how the work was cut."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cleaning_runs import clean, csv_of
from millrace import errors
from millrace.contracts.schema import SCHEMA_METADATA_KEY, DatasetSchema
from millrace.store.local import LocalStore
from millrace_cleaning.settings import CLEAN, INGEST

HALVES = {"train": 0.5, "validation": 0.0, "test": 0.5}
FLOWERS = pa.table(
    {
        "width": [i / 7 for i in range(300)],
        "petals": [3 + i % 4 for i in range(300)],
        "kind": [("rose", "lily", "iris")[i % 3] for i in range(300)],
    }
)
FLOWERS_CSV = csv_of(list(zip(*FLOWERS.to_pydict().values(), strict=True)), header=FLOWERS.column_names)
FLOWERS_JSONL = "\n".join(json.dumps(row) for row in FLOWERS.to_pylist()).encode()


def test_rows_are_divided_by_the_fractions_and_each_class_too(tmp_path: Path) -> None:
    made = clean(tmp_path, {"f.parquet": FLOWERS}, target="kind")
    assert made.summary["splits"] == {"train": 192, "validation": 48, "test": 60}
    for name, count in (("train", 64), ("validation", 16), ("test", 20)):
        kinds = made.splits[name]["kind"].to_pylist()
        assert {k: kinds.count(k) for k in set(kinds)} == {"rose": count, "lily": count, "iris": count}


@pytest.mark.parametrize("content", [{"f.csv": FLOWERS_CSV}, {"f.jsonl": FLOWERS_JSONL}, {"f.parquet": FLOWERS}])
def test_every_format_gives_the_same_rows_and_types(tmp_path: Path, content: dict[str, bytes | pa.Table]) -> None:
    made = clean(tmp_path, content, target="kind")
    types = {c.name: (c.type, c.role) for c in made.meta.schema_.columns}
    assert types == {"width": ("number", "feature"), "petals": ("integer", "feature"), "kind": ("category", "target")}
    rows = sorted(zip(made.rows("width"), made.rows("petals"), made.rows("kind"), strict=True))
    assert rows == sorted(zip(*FLOWERS.to_pydict().values(), strict=True))


def test_every_format_divides_equal_rows_equally(tmp_path: Path) -> None:
    from_csv = clean(tmp_path / "a", {"f.csv": FLOWERS_CSV}, target="kind")
    from_parquet = clean(tmp_path / "b", {"f.parquet": FLOWERS}, target="kind")
    assert from_csv.split_of("width") == from_parquet.split_of("width")


def test_equal_inputs_and_seeds_give_equal_bytes(tmp_path: Path) -> None:
    first = clean(tmp_path / "a", {"f.parquet": FLOWERS}, target="kind", seed=5)
    again = clean(tmp_path / "b", {"f.parquet": FLOWERS}, target="kind", seed=5)
    other = clean(tmp_path / "c", {"f.parquet": FLOWERS}, target="kind", seed=6)
    assert first.ref.digest == again.ref.digest != other.ref.digest


def test_many_tasks_give_the_bytes_of_one(tmp_path: Path) -> None:
    files: dict[str, bytes | pa.Table] = {"a.parquet": FLOWERS, "b.parquet": FLOWERS.slice(0, 120)}
    whole = clean(tmp_path / "a", files, target="kind", dedup=False)
    parted = clean(tmp_path / "b", files, target="kind", dedup=False, bytes_per_task=1500)
    assert (whole.num_tasks, parted.num_tasks > 2) == (1, True)
    assert whole.ref.digest == parted.ref.digest


def test_the_split_seed_can_stand_still_while_the_run_seed_moves(tmp_path: Path) -> None:
    one = clean(tmp_path, {"f.parquet": FLOWERS}, target="kind", split={"seed": 3}, seed=1)
    two = clean(tmp_path, {"f.parquet": FLOWERS}, target="kind", split={"seed": 3}, seed=2)
    assert one.ref.digest == two.ref.digest


def test_row_ids_are_first_and_name_the_source_and_the_place(tmp_path: Path) -> None:
    made = clean(tmp_path, {"f.parquet": FLOWERS}, target="kind")
    ids = made.rows("row_id")
    assert made.splits["train"].column_names[0] == "row_id"
    assert len({i.rpartition("-")[0] for i in ids}) == 1
    assert sorted(int(i.rpartition("-")[2]) for i in ids) == list(range(300))


def test_row_ids_stay_when_another_row_is_removed(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, None, 3.0, 4.0, 5.0, 6.0], "y": list("ababab")})
    kept = clean(tmp_path, {"t.parquet": table}, target="y", columns={"x": {"on_null": "keep"}}, split=HALVES)
    dropped = clean(tmp_path, {"t.parquet": table}, target="y", columns={"x": {"on_null": "drop"}}, split=HALVES)
    ids = dict(zip(kept.rows("x"), kept.rows("row_id"), strict=True))
    assert [ids[x] for x in dropped.rows("x")] == dropped.rows("row_id")


def test_shards_hold_at_most_so_many_rows_and_are_listed(tmp_path: Path) -> None:
    made = clean(tmp_path, {"f.parquet": FLOWERS}, target="kind", rows_per_shard=50)
    assert [(s.path, s.num_rows) for s in made.meta.of("train")] == [
        ("data/train-00000.parquet", 50), ("data/train-00001.parquet", 50),
        ("data/train-00002.parquet", 50), ("data/train-00003.parquet", 42),
    ]  # fmt: skip


def test_the_schema_stands_in_each_shard(tmp_path: Path) -> None:
    made = clean(tmp_path, {"f.parquet": FLOWERS}, target="kind")
    store = LocalStore(tmp_path / "store", tenant="default")
    manifest = json.loads(store.get_bytes(made.ref.digest))
    shard = next(f for f in manifest["files"] if f["path"] == "data/test-00000.parquet")
    store.fetch(shard["digest"], tmp_path / "shard.parquet")
    metadata = pq.read_schema(tmp_path / "shard.parquet").metadata
    assert DatasetSchema.model_validate_json(metadata[SCHEMA_METADATA_KEY]) == made.meta.schema_


def test_ranges_and_feature_labels_come_from_training_alone(tmp_path: Path) -> None:
    rows = [(i, f"c{i // 10}", i % 2) for i in range(100)]
    made = clean(
        tmp_path, {"t.csv": csv_of(rows, header=["t", "c", "y"])}, target="y", task="tabular_classification",
        split={"time": "t"}, columns={"t": {"role": "time"}},
    )  # fmt: skip
    train = made.splits["train"]
    assert (made.column("t").minimum, made.column("t").maximum) == (0, len(train) - 1)
    assert made.column("c").vocabulary == tuple(sorted(set(train["c"].to_pylist())))
    assert "c9" in made.splits["test"]["c"].to_pylist()


def test_labels_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = [(i, i % 12) for i in range(120)]
    made = clean(tmp_path, {"t.csv": csv_of(rows, header=["x", "y"])}, target="y", task="tabular_classification")
    assert made.column("y").vocabulary == tuple(str(i) for i in range(12))


def test_the_summary_and_the_profile_tell_what_happened(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [(i + 0.5, "ab"[i % 2]) for i in range(60)]
    made = clean(tmp_path, {"t.csv": csv_of([*rows, (0.5, "a"), ("x", "b"), (99, "")], header=["v", "y"])}, target="y")
    assert made.summary["rows_in"] == 63
    assert made.summary["removed"] == {"null_y": 1, "duplicate": 1}
    assert made.profile["unparseable"] == {"v": 1}
    assert made.profile["columns"]["v"]["train"]["count"] <= 40
    assert len(json.dumps(made.summary)) < 4096


def test_digits_given_as_lists_become_images_of_a_shape(tmp_path: Path) -> None:
    table = pa.table({"image": [[float(i % 17)] * 3 + [float(i)] for i in range(50)], "label": list("ab") * 25})
    columns = {"image": {"type": "image", "shape": [2, 2, 1]}}
    made = clean(tmp_path, {"t.parquet": table}, target="label", task="image_classification", columns=columns)
    assert made.splits["train"].schema.field("image").type == pa.list_(pa.float32(), 4)
    assert (made.column("image").type, made.column("image").shape) == ("image", (2, 2, 1))


def test_encoded_images_keep_their_bytes_and_path(tmp_path: Path) -> None:
    images = [{"bytes": bytes([i]), "path": f"{i}.png"} for i in range(40)]
    table = pa.table({"image": images, "label": list("ab") * 20})
    made = clean(tmp_path, {"t.parquet": table}, target="label", task="image_classification")
    assert sorted(made.rows("image"), key=lambda v: str(v["bytes"])) == sorted(images, key=lambda v: str(v["bytes"]))


def test_files_of_a_directory_are_one_source(tmp_path: Path) -> None:
    files: dict[str, bytes | pa.Table] = {
        "a/1.csv": FLOWERS_CSV, "a/2.parquet": FLOWERS.slice(0, 10), "_SUCCESS": b"", "README.md": b"about",
    }  # fmt: skip
    made = clean(tmp_path, files, target="kind")
    assert made.summary["rows_in"] == 310
    assert "README.md" in made.summary["warnings"][0]


@pytest.mark.parametrize("name", ["split", "row", "file", ".row", ".size"])
def test_a_column_may_have_a_name_that_is_used_inside(tmp_path: Path, name: str) -> None:
    made = clean(tmp_path, {"t.parquet": FLOWERS.append_column(name, pa.array(range(300)))}, target="kind")
    assert sorted(made.rows(name)) == list(range(300))


@pytest.mark.parametrize("name", [".rank", ".split"])
def test_a_column_that_cannot_be_told_from_ones_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.InvalidData, match="keeps for itself"):
        clean(tmp_path, {"t.parquet": FLOWERS.append_column(name, pa.array(range(300)))}, target="kind")


def test_a_row_id_of_the_source_is_replaced(tmp_path: Path) -> None:
    made = clean(tmp_path, {"t.parquet": FLOWERS.append_column("row_id", pa.array(range(300)))}, target="kind")
    assert made.splits["train"].column_names == ["row_id", "width", "petals", "kind"]


def test_the_kinds_point_to_modules_with_work() -> None:
    for kind in (CLEAN, INGEST):
        assert callable(importlib.import_module(kind.module).work)


HALVES = {"train": 0.5, "validation": 0.0, "test": 0.5}
