"""The predict stage: many shards, one answer a row, in the input's order, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetMeta, DatasetSchema, Shard
from millrace.runtime.stage import Context, local_context
from millrace.store.local import LocalStore
from millrace_deployment import predict
from millrace_deployment.row_ranges import RowFile, cut
from millrace_deployment.settings import PredictConfig


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with local_context(LocalStore(tmp_path / "store", tenant="default"), tmp_path) as made:
        yield made


@pytest.fixture
def model(context: Context, tmp_path: Path) -> ArtifactRef:
    return tiny_models.store_model(context.store, tiny_models.write_regression(tmp_path / "model", scale=2.0))


def run(context: Context, model: ArtifactRef, data: ArtifactRef, **values: Any) -> StageOutputs:
    config = PredictConfig(**values)
    inputs = {"model": context.open_artifact(model), "data": context.open_artifact(data)}
    tasks = json.loads(json.dumps(list(predict.plan(context, config, inputs))))  # as they travel
    results = [predict.work(context, config, inputs, task) for task in tasks]
    return predict.merge(context, config, inputs, iter(results))


def table_of(context: Context, done: StageOutputs) -> pa.Table:
    artifact = context.open_artifact(done.artifacts["predictions"])
    return pq.read_table(artifact.file(predict.PREDICTIONS))


def source(context: Context, **files: bytes) -> ArtifactRef:
    return context.write_artifact("source", {name.replace("__", "."): data for name, data in files.items()})


def parquet(tmp_path: Path, table: pa.Table, *, rows_per_group: int = 7) -> bytes:
    path = tmp_path / "made.parquet"
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path.read_bytes()


def dataset(context: Context, tmp_path: Path, *, num_rows: int = 40) -> ArtifactRef:
    """Two splits of x = 0, 1, 2, ... with a target y."""
    bounds = {"train": (0, num_rows // 2), "test": (num_rows // 2, num_rows)}
    files: dict[str, Path | bytes] = {}
    shards = []
    for split, (start, stop) in bounds.items():
        xs = list(range(start, stop))
        table = pa.table(
            {
                "row_id": [f"{'ab' * 8}-{x}" for x in xs],
                "x": [float(x) for x in xs],
                "bonus": pa.array([0] * len(xs), pa.int64()),
                "y": [2.0 * x for x in xs],
            }
        )
        path = f"data/{split}-00000.parquet"
        files[path] = parquet(tmp_path, table)
        shards.append(Shard.model_validate({"path": path, "split": split, "num_rows": len(xs)}))
    columns = (
        Column(name="x", type="number"),
        Column(name="bonus", type="integer", nullable=True),
        Column(name="y", type="number", role="target"),
    )
    meta = DatasetMeta.model_validate(
        {
            "schema": DatasetSchema(columns=columns),
            "shards": tuple(shards),
            "num_rows": {split: stop - start for split, (start, stop) in bounds.items()},
        }
    )
    return context.write_artifact("dataset", files, meta=meta.model_dump(mode="json", by_alias=True))


def test_a_data_set_is_answered_row_by_row_over_eight_shards(
    context: Context, model: ArtifactRef, tmp_path: Path
) -> None:
    done = run(context, model, dataset(context, tmp_path), columns=("y",))
    table = table_of(context, done)
    assert table.column_names == ["row_id", "y", "value"]
    assert table["row_id"].to_pylist() == [f"{'ab' * 8}-{x}" for x in range(40)]
    assert table["value"].to_pylist() == table["y"].to_pylist()
    assert (done.summary["rows"], done.summary["shards"]) == (40, 8)


def test_only_the_chosen_splits_are_predicted(context: Context, model: ArtifactRef, tmp_path: Path) -> None:
    table = table_of(context, run(context, model, dataset(context, tmp_path), splits=("test",)))
    assert table["value"].to_pylist() == [2.0 * x for x in range(20, 40)]


def test_equal_input_gives_equal_bytes(context: Context, model: ArtifactRef, tmp_path: Path) -> None:
    data = dataset(context, tmp_path)
    first, second = (run(context, model, data, columns=("y",)) for _ in range(2))
    assert first.artifacts["predictions"] == second.artifacts["predictions"]


def test_raw_rows_of_all_three_formats_get_the_same_answers(
    context: Context, model: ArtifactRef, tmp_path: Path
) -> None:
    xs = list(range(25))
    csv = "x,bonus,note\n" + "".join(f'{x},{"" if x % 2 else 1},"a, ""b"""\n' for x in xs)
    rows = [{"x": x, "bonus": None if x % 2 else 1, "note": 'a, "b"'} for x in xs]
    table = pa.table({"x": xs, "bonus": pa.array([r["bonus"] for r in rows], pa.int32())})
    answers = []
    for data in (
        source(context, a__csv=csv.encode()),
        source(context, a__jsonl="".join(json.dumps(row) + "\n" for row in rows).encode()),
        source(context, a__parquet=parquet(tmp_path, table)),
    ):
        made = table_of(context, run(context, model, data))
        assert made["row_id"].to_pylist() == [f"{data.digest[:16]}-{i}" for i in xs]
        answers.append(made["value"].to_pylist())
    assert answers[0] == answers[1] == answers[2] == [2.0 * x + (0 if x % 2 else 1) for x in xs]


def test_rows_of_several_files_are_numbered_through(context: Context, model: ArtifactRef) -> None:
    data = source(context, a__csv=b"x\n1\n2\n", b__csv=b"x\n3\n", c__csv=b"x\n", readme__md=b"no rows")
    table = table_of(context, run(context, model, data))
    assert table["row_id"].to_pylist() == [f"{data.digest[:16]}-{i}" for i in range(3)]
    assert table["value"].to_pylist() == [2.0, 4.0, 6.0]


def test_a_repeated_column_named_like_an_answer_is_kept_apart(context: Context, model: ArtifactRef) -> None:
    table = table_of(context, run(context, model, source(context, a__csv=b"x,value\n1,9\n"), columns=("value",)))
    assert table.to_pylist()[0]["value_given"] == "9"
    assert table.to_pylist()[0]["value"] == 2.0


def test_rows_per_shard_bounds_a_task(context: Context, model: ArtifactRef, tmp_path: Path) -> None:
    done = run(context, model, dataset(context, tmp_path), num_shards=1, rows_per_shard=3)
    assert done.summary["shards"] == 14


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a__csv": b"y\n1\n"}, "no column 'x'"),
        ({"a__csv": b""}, "not readable as CSV"),
        ({"a__csv": b"x\n"}, "no rows"),
        ({"a__csv": b"x,bonus\n1\n"}, "not readable as CSV"),
        ({"a__jsonl": b'{"x": 1}\nnot json\n'}, "not readable as JSON lines"),
        ({"a__parquet": b"PAR1 truncated"}, "not a whole Parquet file"),
        ({"a__png": b"\x89PNG"}, "no rows that can be predicted"),
    ],
)
def test_bad_data_ends_in_a_clear_error(
    context: Context, model: ArtifactRef, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(errors.InvalidData, match=message) as raised:
        run(context, model, source(context, **files))
    assert raised.value.remedy or raised.value.field


def test_a_value_of_another_type_names_its_row(context: Context, model: ArtifactRef) -> None:
    data = source(context, a__csv=b"x\n" + b"1\n" * 20 + b"many\n")
    with pytest.raises(errors.InvalidData, match="row 20: expected number, found 'many'") as raised:
        run(context, model, data)
    assert raised.value.field == "x"


def test_a_report_is_no_data(context: Context, model: ArtifactRef) -> None:
    with pytest.raises(errors.InvalidData, match="Expected a data set or a source, found a report"):
        run(context, model, tiny_models.store_report(context.store, model))


def test_an_unknown_program_is_refused_before_any_task(context: Context, model: ArtifactRef) -> None:
    with pytest.raises(errors.NotFound, match=r"programs/fp32\.onnx"):
        run(context, model, source(context, a__csv=b"x\n1\n"), program="programs/fp23.onnx")


@given(sizes=st.lists(st.integers(0, 30), max_size=6), num_shards=st.integers(1, 12), rows_per_shard=st.integers(1, 20))
def test_cutting_keeps_every_row_once_and_in_order(sizes: list[int], num_shards: int, rows_per_shard: int) -> None:
    files = [RowFile(f"f{i}", str(i), size) for i, size in enumerate(sizes)]
    shards = cut(files, num_shards=num_shards, rows_per_shard=rows_per_shard)
    seen = [(s.blob, row) for shard in shards for s in shard for row in range(s.start, s.stop)]
    assert seen == [(str(i), row) for i, size in enumerate(sizes) for row in range(size)]
    lengths = [sum(s.stop - s.start for s in shard) for shard in shards]
    assert all(0 < n <= rows_per_shard for n in lengths)
    assert len(shards) >= min(num_shards, sum(sizes))
    assert max(lengths, default=0) - min(lengths, default=0) <= 1
