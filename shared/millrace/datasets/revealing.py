"""Turning back the tokens in a file: text, lines of JSON, CSV or Parquet, which stays what it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from millrace import errors
from millrace.datasets.pii_tokens import Tokens

MAX_CSV_CELL_CHARS = 2**30


def reveal_file(source: Path, target: IO[bytes], *, tokens: Tokens) -> None:
    """Write a file with every token turned back; what it is, its ending says. Memory: a line, or a batch of Parquet.

    Raises:
        InvalidData: A token does not open with this key, or the file is not what its ending says; with the line.
        NotFound: There is no such file.
    """
    if not source.is_file():
        raise errors.NotFound(f"There is no file {str(source)!r}.", remedy="Correct the path.", field="--file")
    if source.suffix.lower() == ".parquet":
        _reveal_parquet(source, target, tokens)
        return
    with source.open("r", encoding="utf-8", newline="") as lines:
        try:
            match source.suffix.lower():
                case ".jsonl" | ".ndjson":
                    _reveal_lines(lines, target, lambda line: _revealed_json(line, tokens), name=source.name)
                case ".csv":
                    _reveal_csv(lines, target, tokens, name=source.name)
                case _:
                    _reveal_lines(lines, target, tokens.reveal, name=source.name)
        except UnicodeDecodeError as error:
            raise errors.InvalidData(f"{source.name} is not UTF-8 text.", remedy="Save it as UTF-8.") from error


def _reveal_lines(lines: IO[str], target: IO[bytes], revealed: Callable[[str], str], *, name: str) -> None:
    for number, line in enumerate(lines, 1):
        try:
            target.write(revealed(line).encode("utf-8", "surrogateescape"))
        except errors.InvalidData as error:
            raise errors.InvalidData(f"{name}, line {number}: {error.message}", remedy=error.remedy) from None


def _revealed_json(line: str, tokens: Tokens) -> str:
    """A datum may hold quotes and line ends, so the JSON is written anew."""
    if not line.strip():
        return line
    try:
        value = json.loads(line)
    except ValueError:
        raise errors.InvalidData("This is no JSON.", remedy="Correct it, or rename a file of plain text.") from None
    return json.dumps(_revealed(value, tokens), ensure_ascii=False) + "\n"


def _revealed(value: Any, tokens: Tokens) -> Any:
    if isinstance(value, str):
        return tokens.reveal(value)
    if isinstance(value, list):
        return [_revealed(inner, tokens) for inner in value]
    if isinstance(value, dict):
        return {key: _revealed(inner, tokens) for key, inner in value.items()}
    return value


def _reveal_csv(lines: IO[str], target: IO[bytes], tokens: Tokens, *, name: str) -> None:
    class Encoded:
        def write(self, text: str) -> int:
            return target.write(text.encode("utf-8", "surrogateescape"))

    csv.field_size_limit(MAX_CSV_CELL_CHARS)
    writer = csv.writer(Encoded(), lineterminator="\n")
    reader = csv.reader(lines)
    try:
        for row in reader:
            writer.writerow([tokens.reveal(cell) for cell in row])
    except csv.Error as error:
        raise errors.InvalidData(f"{name}, line {reader.line_num}: {error}.", remedy="Correct the CSV.") from None
    except errors.InvalidData as error:
        raise errors.InvalidData(f"{name}, line {reader.line_num}: {error.message}", remedy=error.remedy) from None


def _reveal_parquet(source: Path, target: IO[bytes], tokens: Tokens) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file, pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
            for batch in file.iter_batches(batch_size=4096):
                columns = [
                    pa.array([_revealed(v, tokens) for v in column.to_pylist()], column.type)
                    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
                    else column
                    for column in batch.columns
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=file.schema_arrow))
    except pa.ArrowInvalid as error:
        raise errors.InvalidData(f"{source.name} is no whole Parquet file.", remedy="Fetch it again.") from error
