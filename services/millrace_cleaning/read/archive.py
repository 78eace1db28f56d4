"""Reading archives: tables within as tables; of other members, those that follow each other under one stem are one row,
as in WebDataset's shards (`0001.jpg`, `0001.cls`, `0001.json`)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import pyarrow as pa

from millrace_cleaning.read.csv import read_csv, read_header
from millrace_cleaning.read.encoding import SAMPLE_BYTES, as_utf8, detect
from millrace_cleaning.read.files import format_of
from millrace_cleaning.read.json import read_json
from millrace_cleaning.read.jsonl import BadRow, decoded, parse_row, read_jsonl, too_long
from millrace_cleaning.read.lines import HEAD_BYTES
from millrace_cleaning.read.media import LABEL, read_media
from millrace_cleaning.read.members import OTHER_KIND, Member, members, pass_over
from millrace_cleaning.read.parquet import read_parquet
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.rows import BYTES_PER_BATCH, ROWS_PER_BATCH, to_batch
from millrace_cleaning.read.stream import read_up_to
from millrace_cleaning.read.text import COLUMN, read_text
from millrace_cleaning.read_settings import ReadConfig

_TABLES = ("csv", "jsonl", "parquet")
_SPOOL_BYTES = 16 * 2**20


def read_archive(local: Path, path: str, *, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """Yield the batches of all members, in the archive's order.

    Raises:
        BadFile: The archive is damaged, a bomb, or nested, and that is not allowed; rows before the fault were yielded.
        InvalidData: A row cannot be read, and that is not allowed.
    """
    samples = _Samples(path, config, rejects)
    for member in members(local, path, config=config, rejects=rejects):
        kind = format_of(member.name)
        if config.formats and kind is not None and kind not in config.formats:
            pass_over(rejects, path, member.name, OTHER_KIND)
            continue
        if kind in _TABLES or (kind == "json" and _is_table(member)) or (kind == "text" and config.text_unit != "file"):
            yield from samples.close()
            yield from _read_table(member, f"{path}/{member.name}", config, rejects)
        else:
            yield from samples.add(member)
    yield from samples.close()


def _is_table(member: Member) -> bool:
    """Whether a JSON member is an array: an object is a row."""
    peek = member.stream.peek(64) if hasattr(member.stream, "peek") else b""
    return bytes(peek[:64]).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _read_table(member: Member, path: str, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    before = rejects.num_rows
    num_rows = 0
    try:
        for batch in _table(member, path, config, rejects):
            num_rows += batch.num_rows
            yield batch
    except BadFile as fault:
        if _ends_archive(fault, path):
            raise
        rejects.file(path, fault, size_bytes=member.size_bytes)
    rejects.offset += num_rows + rejects.num_rows - before


def _ends_archive(fault: BadFile, path: str) -> bool:
    """Whether nothing after this fault can be read: a tar is one stream; a zip's members stand apart."""
    return fault.reason in ("bomb", "truncated") and ".zip/" not in path


def _table(member: Member, path: str, config: ReadConfig, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    kind = format_of(member.name)
    if kind == "parquet":
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:  # its footer stands at the end
            size = 0
            while block := member.stream.read(2**20):
                spool.write(block)
                size += len(block)
            spool.seek(0)
            file = cast("BinaryIO", spool)
            yield from read_parquet(file, path, size_bytes=size, groups=None, config=config, rejects=rejects)
        return
    stream = _as_text(member.stream, config)
    if kind == "csv":
        header = read_header(stream, path, config=config)
        yield from read_csv(
            stream, path, header=header, config=config, rejects=rejects, lines_before=lambda: header.num_lines
        )
    elif kind == "json":
        yield from read_json(stream, path, config=config, rejects=rejects)
    else:
        read = read_jsonl if kind == "jsonl" else read_text
        yield from read(stream, path, config=config, rejects=rejects, lines_before=lambda: 0)


class _Samples:
    """Gathers members under one stem into a row, and rows into batches."""

    def __init__(self, path: str, config: ReadConfig, rejects: Rejects) -> None:
        self._path, self._config, self._rejects = path, config, rejects
        self._stem = ""
        self._row: dict[str, Any] = {}
        self._kinds: set[str] = set()
        self._fault: tuple[BadRow, Member, bytes] | None = None
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def add(self, member: Member) -> Iterator[pa.RecordBatch]:
        """Take a member; yield a batch when there are enough rows."""
        stem, kind = _stem(member.name), _kind(member.name)
        if stem != self._stem or kind in self._kinds:  # v1.0.txt and v1.1.txt have one stem, and are two texts
            self._end_row()
            self._stem = stem
        if kind:
            self._kinds.add(kind)
        if len(self._rows) >= ROWS_PER_BATCH or self._size > BYTES_PER_BATCH:
            yield from self._flush()
        content = b""
        try:
            if kind in ("image", "audio"):
                media, size = read_media(member.stream, f"{self._path}/{member.name}", kind=kind, config=self._config)
                values = {kind: media}
            elif kind:
                content = read_up_to(_as_text(member.stream, self._config), self._config.max_row_bytes + 1)
                values, size = self._values(kind, content, member.size_bytes), len(content)
            else:
                values, size = {}, 0
                pass_over(self._rejects, self._path, member.name, OTHER_KIND)
            self._row.update(values)
            self._size += size
            folder = PurePosixPath(member.name).parent.name
            if folder and values:
                self._row.setdefault(LABEL, folder)
        except BadRow as fault:
            self._fault = self._fault or (fault, member, content)
        except BadFile as damage:
            path = f"{self._path}/{member.name}"
            if _ends_archive(damage, path):
                self._end_row()
                yield from self._flush()
                raise
            self._rejects.file(path, damage, size_bytes=member.size_bytes)

    def close(self) -> Iterator[pa.RecordBatch]:
        """Yield what is left."""
        self._end_row()
        yield from self._flush()

    def _values(self, kind: str, content: bytes, size_bytes: int) -> dict[str, Any]:
        """Columns of a row that a text, a label or a JSON object of this many bytes brings."""
        if len(content) > self._config.max_row_bytes:
            raise too_long(size_bytes, self._config)
        if b"\0" in content:
            raise BadRow("holds NUL bytes, so it is no text", reason="binary", remedy="Leave binary files out.")
        text = decoded(content, self._config, self._rejects).strip()
        if kind == "json":
            return parse_row(text)
        return {LABEL if kind == LABEL else COLUMN: text} if text else {}

    def _end_row(self) -> None:
        if self._fault is not None:
            fault, member, content = self._fault
            path = f"{self._path}/{member.name}"
            self._rejects.row(
                path, f"{path}: {fault}.", reason=fault.reason, position=len(self._rows), remedy=fault.remedy,
                raw=content[:HEAD_BYTES], size_bytes=member.size_bytes, field=fault.field,
            )  # fmt: skip
            self._rejects.offset += 1
        elif self._row:
            self._rows.append(self._row)
        self._row, self._kinds, self._fault = {}, set(), None

    def _flush(self) -> Iterator[pa.RecordBatch]:
        if self._rows:
            batch = to_batch(self._rows)
            self._rejects.offset += len(self._rows)
            self._rows, self._size = [], 0
            yield batch


def _stem(name: str) -> str:
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.split('.', 1)[0]}"


def _kind(name: str) -> str:
    """What a member adds to its row; nothing if it is of a kind that is not read."""
    if name.lower().endswith(".cls"):
        return LABEL
    kind = format_of(name)
    return kind if kind in ("image", "audio", "text", "json") else ""


def _as_text(stream: BinaryIO, config: ReadConfig) -> BinaryIO:
    peek = getattr(stream, "peek", None)
    sample = b"" if peek is None else bytes(peek(SAMPLE_BYTES))
    return as_utf8(stream, detect(sample, asked=config.encoding))
