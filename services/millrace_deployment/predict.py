"""The predict stage: plan cuts the rows into ranges, work predicts one, merge joins them in the input's order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace import errors
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import ROW_ID, DatasetMeta
from millrace.models.package import package_files, read_card
from millrace.models.predictor import load_predictor
from millrace.models.program import choose_program
from millrace.models.signature import ModelCard
from millrace.runtime.stage import Artifact, Context, Inputs, Result, Results, Task, outputs
from millrace_deployment.raw_rows import check_columns, conform, is_parquet, is_readable, to_parquet
from millrace_deployment.row_ranges import RowFile, Segment, cut, open_parquet, read_segment
from millrace_deployment.settings import PredictConfig

PREDICTIONS = "predictions.parquet"


def plan(context: Context, config: PredictConfig, inputs: Inputs) -> Sequence[Task]:
    """One task per range of rows. CSV and JSON lines become Parquet first, once, so that a range can be read alone.

    Raises:
        InvalidData: There are no rows, a file cannot be read, or a column is missing.
        NotFound: The model has no such program.
    """
    model, data = inputs["model"], inputs["data"]
    card = read_card(model.directory())
    choose_program(card, config.program)
    files = _files(context, config, data, card)
    shards = cut(files, num_shards=config.num_shards, rows_per_shard=config.rows_per_shard)
    if not shards:
        raise errors.InvalidData("The data has no rows.", remedy="Give data with at least one row.", field="data")
    return [{"segments": [segment.to_task() for segment in shard]} for shard in shards]


def work(context: Context, config: PredictConfig, inputs: Inputs, task: Task) -> Result:
    """Predict one range and store it as a Parquet blob of its own."""
    model, data = inputs["model"], inputs["data"]
    package_files(model.directory())
    predictor = load_predictor(model.directory(), program=config.program, num_threads=context.num_threads)
    segments = [Segment(**segment) for segment in task["segments"]]
    total = sum(segment.stop - segment.start for segment in segments)
    path, done, begin = context.workdir / PREDICTIONS, 0, time.perf_counter()
    with _Writer(path) as writer:
        for ordinal, batch in _rows(context, config, data, segments, predictor.card):
            rows = conform(batch, predictor.card.signature.columns, first_row=ordinal, where="The data")
            answers = predictor.predict(rows)
            writer.write(_aligned(config, data, ordinal, batch, answers))
            done += batch.num_rows
            context.progress(done, total, unit="rows")
    digest, size = context.store.put_file(path)
    return {"blob": digest, "size_bytes": size, "rows": done, "seconds": round(time.perf_counter() - begin, 6)}


def merge(context: Context, config: PredictConfig, inputs: Inputs, results: Results) -> StageOutputs:  # noqa: ARG001
    """Join the ranges, one in memory at a time, into one Parquet file in the input's order."""
    model, data = inputs["model"], inputs["data"]
    path, num_rows, num_shards, seconds = context.workdir / PREDICTIONS, 0, 0, 0.0
    with _Writer(path) as writer:
        for result in results:
            part = context.workdir / f"part-{num_shards}.parquet"
            context.store.fetch(result["blob"], part)
            for batch in pq.ParquetFile(part).iter_batches(use_threads=False):
                writer.write(batch)
            part.unlink()
            num_rows, num_shards = num_rows + result["rows"], num_shards + 1
            seconds += result["seconds"]
    meta = {"rows": num_rows, "model": model.ref.digest, "data": data.ref.digest, "columns": writer.names}
    predictions = context.write_artifact("predictions", {PREDICTIONS: path}, meta=meta)
    rate = round(num_rows / seconds, 1) if seconds else 0.0
    return outputs({"predictions": predictions}, summary={"rows": num_rows, "shards": num_shards, "rows_per_s": rate})


class _Writer:
    """Writes batches of one schema; equal batches in equal order give equal bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self.names: list[str] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, batch.schema, compression="zstd")
            self.names = batch.schema.names
        try:
            self._writer.write_batch(batch.cast(self._writer.schema))
        except (pa.ArrowException, ValueError) as error:
            raise errors.InvalidData(
                f"The data's files hold different types in one column: {str(error).splitlines()[0][:200]}",
                field="with.columns", remedy="Give files of one schema, or repeat fewer columns.",
            ) from error  # fmt: skip


def _files(context: Context, config: PredictConfig, data: Artifact, card: ModelCard) -> list[RowFile]:
    """The data's Parquet files in order, each checked for the columns that are needed."""
    if data.manifest.type == "dataset":
        meta = DatasetMeta.model_validate(data.meta)
        shards = [shard for split in config.splits for shard in meta.of(split)]
        names = [ROW_ID, *(column.name for column in meta.schema_.columns)]
        check_columns(names, card.signature.columns, config.columns, where="The data set")
        return [RowFile(shard.path, data.entry(shard.path).digest, shard.num_rows) for shard in shards]
    if data.manifest.type != "source":
        raise errors.InvalidData(
            f"Expected a data set or a source, found a {data.manifest.type}.", field="data",
            remedy="Give the output of `ingest` or `clean`.",
        )  # fmt: skip
    paths = [entry.path for entry in data.manifest.files if is_readable(entry.path)]
    if not paths:
        found = ", ".join(entry.path for entry in data.manifest.files[:3]) or "no file"
        raise errors.InvalidData(
            f"The source holds no rows that can be predicted: found {found}.", field="data",
            remedy="Give Parquet, CSV or JSON lines; run `clean` on anything else.",
        )  # fmt: skip
    return [_raw_file(context, config, data, path, card) for path in paths]


def _raw_file(context: Context, config: PredictConfig, data: Artifact, path: str, card: ModelCard) -> RowFile:
    if is_parquet(path):
        file = open_parquet(data.file(path), path)
        check_columns(file.schema_arrow.names, card.signature.columns, config.columns, where=path)
        return RowFile(path, data.entry(path).digest, file.metadata.num_rows)
    made = context.workdir / "rows.parquet"
    num_rows = to_parquet(data.file(path), path, made)
    if not num_rows:
        return RowFile(path, "", 0)
    check_columns(pq.read_schema(made).names, card.signature.columns, config.columns, where=path)
    digest, _ = context.store.put_file(made)
    made.unlink()
    return RowFile(path, digest, num_rows)


def _rows(
    context: Context, config: PredictConfig, data: Artifact, segments: Sequence[Segment], card: ModelCard
) -> Iterator[tuple[int, pa.RecordBatch]]:
    wanted = [spec.name for spec in card.signature.columns] + list(config.columns)
    if data.manifest.type == "dataset":
        wanted.append(ROW_ID)
    for segment in segments:
        local = _local(context, segment)
        present = set(open_parquet(local, segment.path).schema_arrow.names)
        columns = [name for name in dict.fromkeys(wanted) if name in present]
        yield from read_segment(local, segment, columns=columns, rows_per_batch=config.rows_per_batch)


def _local(context: Context, segment: Segment) -> Path:
    """The file on this host, under the name that it has there for others, too."""
    return context.cache.file(context.store, segment.blob, suffix=".parquet")


def _aligned(
    config: PredictConfig, data: Artifact, ordinal: int, batch: pa.RecordBatch, answers: pa.RecordBatch
) -> pa.RecordBatch:
    """row_id, the columns to repeat, the answers. A repeated column that an answer is named like gets `_given`."""
    columns: dict[str, Any] = {}
    if data.manifest.type == "dataset":
        columns[ROW_ID] = batch.column(ROW_ID)
    else:
        prefix = data.ref.digest[:16]
        columns[ROW_ID] = pa.array([f"{prefix}-{ordinal + i}" for i in range(batch.num_rows)])
    for name in config.columns:
        if name != ROW_ID:
            columns[f"{name}_given" if name in answers.schema.names else name] = batch.column(name)
    columns.update(zip(answers.schema.names, answers.columns, strict=True))
    return pa.record_batch(columns)
