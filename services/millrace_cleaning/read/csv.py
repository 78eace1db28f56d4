"""Reading CSV and TSV: every value as text, so that types are decided over the whole source and not by its first block."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from millrace import errors
from millrace_cleaning.read_settings import ReadConfig

BLOCK_BYTES = 8 * 2**20
"""How much is parsed at once; no row may be longer."""

_DELIMITERS = ",;\t|"
csv.field_size_limit(2**31 - 1)  # Python's own limit of 128 KiB is shorter than many documents


def read_csv(local: Path, path: str, *, config: ReadConfig) -> Iterator[pa.RecordBatch]:
    """Yield batches of string columns. `path` is the file's name in messages.

    Raises:
        InvalidData: Empty, ragged (with the line), badly quoted, badly encoded, or with a column name twice.
    """
    encoding = "utf-8-sig" if config.encoding.lower().replace("_", "-") in ("utf-8", "utf8") else config.encoding
    delimiter = config.delimiter or _find_delimiter(local, path, encoding)
    names, num_lines = _read_header(local, path, encoding=encoding, delimiter=delimiter)
    _check_quotes(local, path, encoding=encoding, delimiter=delimiter, width=len(names))
    try:
        yield from arrow_csv.open_csv(
            local,
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, column_names=names, skip_rows=num_lines,
                encoding="utf8" if encoding == "utf-8-sig" else encoding,
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True,
                quoted_strings_can_be_null=False, null_values=list(config.null_values),
            ),
        )  # fmt: skip
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if "Empty CSV file" in str(error):
            return
        _find_fault(local, path, encoding=encoding, delimiter=delimiter, width=len(names))
        raise errors.InvalidData(
            f"{path} is not readable as CSV: {str(error)[:200]}",
            remedy=f"Check its quoting, its encoding, and that no row is longer than {BLOCK_BYTES >> 20} MiB.",
        ) from error


def _find_delimiter(local: Path, path: str, encoding: str) -> str:
    if path.lower().endswith(".tsv"):
        return "\t"
    try:
        with local.open(encoding=encoding, newline="") as text:
            line = text.readline()
    except UnicodeError:
        return ","  # the header's reader says where
    return max(_DELIMITERS, key=line.count)


def _read_header(local: Path, path: str, *, encoding: str, delimiter: str) -> tuple[list[str], int]:
    """Return the column names and how many lines they take. A nameless column is called by its position."""
    try:
        with local.open(encoding=encoding, newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            header = next((row for row in reader if row), None)
            num_lines = reader.line_num
    except UnicodeError as error:
        raise _bad_encoding(local, path, encoding) from error
    if header is None:
        raise errors.InvalidData(f"{path} is empty.", remedy="Give a file with a header line and rows.")
    names = [name.strip() or f"column_{i + 1}" for i, name in enumerate(header)]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise errors.InvalidData(
            f"{path}, line 1: the column name {twice!r} stands twice.", remedy="Rename one of them.", field=twice
        )
    return names, num_lines


def _check_quotes(local: Path, path: str, *, encoding: str, delimiter: str, width: int) -> None:
    """Arrow reads an open quote to the end of the file without a word, so a truncated file must be noticed here.

    An odd number of quotes is only a suspicion (5" is a value); the slower reader decides.
    """
    num_quotes = 0
    with local.open("rb") as stream:
        while block := stream.read(2**20):
            num_quotes += block.count(b'"')
    if num_quotes % 2:
        _find_fault(local, path, encoding=encoding, delimiter=delimiter, width=width)


def _find_fault(local: Path, path: str, *, encoding: str, delimiter: str, width: int) -> None:
    """Read again with Python's slower reader, which knows line numbers, and raise what is wrong, if it finds it."""
    line = 1
    try:
        with local.open(encoding=encoding, newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for row in reader:
                if row and len(row) != width:
                    raise errors.InvalidData(
                        f"{path}, line {line}: expected {width} values as in the header, found {len(row)}.",
                        remedy="Correct the line; quote values that hold the delimiter.",
                        line=line,
                    )
                line = reader.line_num + 1
    except UnicodeError as error:
        raise _bad_encoding(local, path, encoding) from error
    except csv.Error as error:
        raise errors.InvalidData(
            f"{path}, line {line}: a quoted value that starts here is broken ({error}).",
            remedy="Close the quote, or fetch the file again: it may be truncated.",
            line=line,
        ) from error


def _bad_encoding(local: Path, path: str, encoding: str) -> errors.InvalidData:
    name = "utf-8" if encoding == "utf-8-sig" else encoding
    where = ""
    if name == "utf-8":  # in other encodings a byte 10 is not always the end of a line
        with io.BufferedReader(io.FileIO(local)) as stream:
            line = next((i for i, row in enumerate(stream, start=1) if not _decodes(row)), 0)
        where = f", line {line}"
    return errors.InvalidData(
        f"{path}{where}: the bytes are not {name}.",
        remedy="Say which encoding it is, such as `encoding: latin-1` or `encoding: cp1252`.",
        field="with.encoding",
    )


def _decodes(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True
