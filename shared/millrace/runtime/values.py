"""What a `@millrace.stage` function takes and returns: data sets, models, tables and reports, as typed values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json
from millrace.contracts.schema import DatasetMeta, DatasetSchema, Shard, SplitName
from millrace.models.signature import ModelCard
from millrace.runtime.stage import Artifact, Context

if TYPE_CHECKING:  # annotations alone: a worker that only supervises imports neither
    import pyarrow as pa

    from millrace.models.predictor import Predictor

BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Dataset:
    """A cleaned data set, read shard by shard as Arrow tables."""

    artifact: Artifact

    @property
    def meta(self) -> DatasetMeta:
        return DatasetMeta.model_validate(self.artifact.meta)

    @property
    def schema(self) -> DatasetSchema:
        """Columns with their types and roles; every row also has a `row_id`."""
        return self.meta.schema_

    @property
    def num_rows(self) -> dict[SplitName, int]:
        return dict(self.meta.num_rows)

    def to_arrow(self, split: SplitName | None = None, *, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of one split, or of all, as one table in memory."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = None if columns is None else list(columns)
        tables = [pq.read_table(self._file(shard), columns=wanted) for shard in self._shards(split)]
        if not tables:
            raise errors.InvalidData(f"The data set has no rows in split {split!r}.", remedy="Ask for another split.")
        return pa.concat_tables(tables)

    def iter_batches(
        self, split: SplitName | None = None, *, columns: Sequence[str] | None = None, batch_size: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Rows of one split, or of all, at most batch_size at a time; memory stays bounded."""
        import pyarrow.parquet as pq

        for shard in self._shards(split):
            with pq.ParquetFile(self._file(shard)) as file:
                yield from file.iter_batches(batch_size, columns=None if columns is None else list(columns))

    def _shards(self, split: SplitName | None) -> Sequence[Shard]:
        meta = self.meta
        return meta.shards if split is None else meta.of(split)

    def _file(self, shard: Shard) -> Path:
        return self.artifact.file(shard.path)


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model package."""

    artifact: Artifact

    @property
    def card(self) -> ModelCard:
        """What the package says of itself: task, signature, programs, lineage."""
        return ModelCard.model_validate_json(self.artifact.read("model.json"))

    def predictor(self, *, program: str = "") -> Predictor:
        """Load it; `predict(RecordBatch) -> RecordBatch`."""
        from millrace.models.predictor import load_predictor

        return load_predictor(self.artifact.directory(), program=program)


@dataclass(frozen=True, slots=True)
class Report:
    """Numbers by name, and whatever else is worth keeping: JSON values.

    `metrics` may be read by `when` conditions and gates of later stages.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that a function takes from a source (Parquet, CSV or JSON Lines as they are) or makes.

    Stored as Parquet; as an input of `clean` it becomes a data set.
    """

    data: pa.Table


def write_value(context: Context, value: Dataset | Model | Report | Table) -> ArtifactRef:
    """Store a function's result as an artifact; a data set or a model that it was given is stored already."""
    if isinstance(value, Dataset | Model):
        return value.artifact.ref
    if isinstance(value, Report):
        metrics = finite_metrics(value)
        body = json.dumps({"metrics": metrics, "details": to_plain(value.details, "details of a Report")}, indent=1)
        return context.write_artifact("report", {"report.json": body.encode()}, meta={"metrics": metrics})
    import pyarrow.parquet as pq

    path = context.workdir / "table.parquet"
    pq.write_table(value.data, path, compression="zstd")
    return context.write_artifact("source", {"table.parquet": path}, meta={"rows": value.data.num_rows})


def finite_metrics(report: Report) -> dict[str, float]:
    """A report's numbers, without those that are not finite. Raises StageFailed where one is no number."""
    numbers = {}
    for name, value in report.metrics.items():
        try:
            numbers[str(name)] = float(value)
        except (TypeError, ValueError):
            raise errors.StageFailed(
                f"Metric {name!r} of a Report must be a number, and is a {type(value).__name__}.",
                remedy="Put what is no number into the report's `details`.",
            ) from None
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def to_plain(value: Any, what: str) -> Any:
    """Plain JSON of a value: models, data classes and numpy's numbers and arrays are written out.

    Raises:
        StageFailed: JSON cannot carry it; `what` says what it is.
    """
    try:
        plain = to_jsonable_python(value, fallback=_listed)
        canonical_json(plain)
    except (TypeError, ValueError) as error:
        raise errors.StageFailed(
            f"JSON cannot carry the {what}: {error}.",
            remedy="Return JSON values, a millrace.Report or a millrace.Table.",
        ) from error
    return plain


def _listed(value: Any) -> Any:
    """numpy's numbers and arrays, and Arrow's, as Python's."""
    for method in ("tolist", "as_py"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"it holds a {type(value).__name__}")


def read_report(artifact: Artifact) -> Report:
    """A report of ours or of `evaluate`, whose metrics stand as `{"value", "low", "high"}`."""
    body = json.loads(artifact.read("report.json"))
    metrics = {name: _number(value) for name, value in body.get("metrics", {}).items()}
    details = body["details"] if "details" in body else {k: v for k, v in body.items() if k != "metrics"}
    return Report(metrics={name: value for name, value in metrics.items() if value is not None}, details=details)


def read_table(artifact: Artifact) -> Table:
    """Every file of rows of an artifact, in the order of their paths, as one table."""
    import pyarrow as pa

    readers = _readers()
    paths = [entry.path for entry in artifact.manifest.files if Path(entry.path).suffix.lower() in readers]
    if not paths:
        raise errors.InvalidData(
            f"Artifact {artifact.ref.digest[:12]} has no file of {', '.join(readers)}, which a table is read from.",
            remedy="Take a millrace.Dataset, which `clean` makes of any source.",
        )
    try:
        tables = [readers[Path(path).suffix.lower()](artifact.file(path)) for path in paths]
        return Table(pa.concat_tables(tables, promote_options="default"))
    except pa.ArrowException as error:
        raise errors.InvalidData(
            f"The table could not be read: {str(error).splitlines()[0]}", remedy="Take a millrace.Dataset instead."
        ) from None


def _readers() -> dict[str, Callable[[Path], pa.Table]]:
    """How to read a file of rows, by the end of its name."""
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    def separated(path: Path) -> pa.Table:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter))

    lines = pyarrow.json.read_json
    tables = {".parquet": pyarrow.parquet.read_table, ".csv": separated, ".tsv": separated}
    return {**tables, ".jsonl": lines, ".ndjson": lines}


def _number(value: Any) -> float | None:
    inner = value.get("value") if isinstance(value, Mapping) else value
    return float(inner) if isinstance(inner, int | float) and not isinstance(inner, bool) else None
