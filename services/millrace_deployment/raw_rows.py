"""Raw rows as a model takes them: CSV and JSON lines as one Parquet file each, every column as the signature says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from millrace import errors
from millrace.models.signature import ColumnSpec

PARQUET = (".parquet", ".pq")
READABLE = (*PARQUET, ".csv", ".tsv", ".jsonl", ".ndjson")

NULL_VALUES = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?"]
"""What a CSV file writes for a missing value; the same as `clean` takes for one by default."""

BLOCK_BYTES = 8 * 2**20
ROWS_PER_GROUP = 8192


def is_readable(path: str) -> bool:
    """Whether a file of a source holds rows; what is hidden does not."""
    parts = PurePosixPath(path).parts
    return path.lower().endswith(READABLE) and not any(part.startswith((".", "_")) for part in parts)


def is_parquet(path: str) -> bool:
    return path.lower().endswith(PARQUET)


def to_parquet(local: Path, path: str, destination: Path) -> int:
    """Write a CSV or JSON lines file's rows as Parquet, values as they stand; return how many rows.

    Args:
        local: The file.
        path: Its name in the source, for its suffix and for messages.
        destination: The Parquet file to make; small row groups, so that a range is cheap to read.

    Raises:
        InvalidData: The file cannot be read, or its columns change their kind between blocks.
    """
    batches = _read_csv(local, path) if path.lower().endswith((".csv", ".tsv")) else _read_jsonl(local, path)
    num_rows, writer = 0, None
    try:
        for batch in batches:
            if writer is None:
                writer = pq.ParquetWriter(destination, batch.schema, compression="zstd")
            writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)
            num_rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return num_rows


def conform(batch: pa.RecordBatch, specs: Sequence[ColumnSpec], *, first_row: int, where: str) -> pa.RecordBatch:
    """Give each of the model's columns the type of its signature; a nullable column that is absent is null.

    Raises:
        InvalidData: A column is missing, or a value cannot be of that type; names the row, counted from first_row.
    """
    arrays = [_column(batch, spec, first_row=first_row, where=where) for spec in specs]
    return pa.RecordBatch.from_arrays(arrays, names=[spec.name for spec in specs])


def check_columns(names: Sequence[str], specs: Sequence[ColumnSpec], carried: Sequence[str], *, where: str) -> None:
    """Refuse data that lacks a column which the model needs or the predictions shall repeat."""
    for name, field in [(s.name, s.name) for s in specs if not s.nullable] + [(c, "with.columns") for c in carried]:
        if name not in names:
            raise errors.InvalidData(
                f"{where} has no column {name!r}; {errors.nearest(name, names)}", field=field,
                remedy="Give data with the columns that the model was trained on.",
            )  # fmt: skip


def _column(batch: pa.RecordBatch, spec: ColumnSpec, *, first_row: int, where: str) -> pa.Array:
    index = batch.schema.get_field_index(spec.name)
    target = _ARROW.get(spec.type)
    if index < 0:
        return pa.nulls(batch.num_rows, target or pa.list_(pa.float32()))
    array = batch.column(index)
    try:
        if target is None:
            return _vectors(array, spec)
        return array if array.type == target else _CASTS.get(spec.type, pc.cast)(array, target)
    except (pa.ArrowException, ValueError) as error:
        row, value = _culprit(array, spec)
        raise errors.InvalidData(
            f"{where}, row {first_row + row}: expected {spec.type}, found {value}.", field=spec.name,
            remedy="Correct the value, or leave it empty if the model allows that.",
        ) from error  # fmt: skip


_ARROW: dict[str, pa.DataType] = {
    "number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "category": pa.string(), "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"), "json": pa.string(),
}  # fmt: skip


def _trimmed(array: pa.Array, target: pa.DataType) -> pa.Array:
    return pc.cast(pc.utf8_trim_whitespace(array) if pa.types.is_string(array.type) else array, target)


def _integers(array: pa.Array, target: pa.DataType) -> pa.Array:
    """By way of floats where they are written as 3.0."""
    try:
        return _trimmed(array, target)
    except pa.ArrowInvalid:
        return pc.cast(_trimmed(array, pa.float64()), target)


def _moments(array: pa.Array, target: pa.DataType) -> pa.Array:
    """A time without a zone is in UTC."""
    if pa.types.is_string(array.type):
        try:
            return _trimmed(array, target)
        except pa.ArrowInvalid:
            array = _trimmed(array, pa.timestamp("us"))
    elif pa.types.is_timestamp(array.type) and array.type.tz is not None:
        return pc.cast(array, target)
    return pc.assume_timezone(pc.cast(array, pa.timestamp("us")), "UTC")


_CASTS: dict[str, Callable[[pa.Array, pa.DataType], pa.Array]] = {
    "number": _trimmed, "integer": _integers, "boolean": _trimmed, "timestamp": _moments,
}  # fmt: skip


def _vectors(array: pa.Array, spec: ColumnSpec) -> pa.Array:
    """Lists as they are; in CSV a list is written as JSON."""
    if spec.shape is None or not pa.types.is_string(array.type):
        return array
    return pa.array([None if v is None else json.loads(v) for v in array.to_pylist()], pa.list_(pa.float32()))


def _culprit(array: pa.Array, spec: ColumnSpec) -> tuple[int, str]:
    """The first value that fails alone, for the message."""
    target = _ARROW.get(spec.type)
    for index in range(len(array)):
        one = array.slice(index, 1)
        try:
            _CASTS.get(spec.type, pc.cast)(one, target) if target is not None else _vectors(one, spec)
        except (pa.ArrowException, ValueError):
            return index, repr(one[0].as_py())[:80]
    return 0, str(array.type)


def _read_csv(local: Path, path: str) -> Iterator[pa.RecordBatch]:
    """Every value as text: types are the model's to say, not the first block's."""
    parse = arrow_csv.ParseOptions(delimiter="\t" if path.lower().endswith(".tsv") else ",", newlines_in_values=True)
    read = arrow_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    try:
        names = arrow_csv.open_csv(local, read_options=read, parse_options=parse).schema.names
        convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True,
            quoted_strings_can_be_null=False, null_values=NULL_VALUES,
        )  # fmt: skip
        yield from arrow_csv.open_csv(local, read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise errors.InvalidData(
            f"{path} is not readable as CSV: {str(error).splitlines()[0][:200]}",
            remedy="Give a UTF-8 file with a header line, and as many values in each line.",
        ) from error


def _read_jsonl(local: Path, path: str) -> Iterator[pa.RecordBatch]:
    import pyarrow.json as arrow_json  # only JSON lines need it

    options = arrow_json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    try:
        yield from arrow_json.open_json(local, read_options=options)
    except pa.ArrowException as error:
        raise errors.InvalidData(
            f"{path} is not readable as JSON lines: {str(error).splitlines()[0][:200]}",
            remedy="Write one JSON object a line, with values of one kind in each column.",
        ) from error
