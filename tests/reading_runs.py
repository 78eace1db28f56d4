"""Reads files as the clean stage does, without a store: part after part, with what was rejected."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace_cleaning.read import Files, Part, Rejects, parts_of, read_part
from millrace_cleaning.read_settings import ReadConfig


@dataclass(frozen=True)
class Read:
    """What was read: rows of all parts in order, each one's number in its file from 0, and what was not."""

    rows: list[dict[str, Any]]
    numbers: list[int]
    bad: list[dict[str, Any]]
    counts: list[dict[str, Any]]
    parts: list[Part]

    @property
    def reasons(self) -> list[str]:
        return [row["reason"] for row in self.bad]

    def column(self, name: str) -> list[Any]:
        return [row.get(name) for row in self.rows]


def lay(root: Path, files: Mapping[str, bytes]) -> Files:
    """Files under a folder, as a source."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return Files({path: len(content) for path, content in files.items()}, lambda path: root / path)


def read(root: Path, files: Mapping[str, bytes] | Files, *, bytes_per_part: int = 2**40, **config: Any) -> Read:
    """Read all parts; what is bad is quarantined unless the config says otherwise."""
    source = files if isinstance(files, Files) else lay(root, files)
    policy = ReadConfig.model_validate({"on_bad_row": "quarantine", "on_bad_file": "quarantine", **config})
    made = Read([], [], [], [], parts_of(source, config=policy, bytes_per_part=bytes_per_part))
    before: dict[str, int] = {}
    for part in made.parts:
        rejects = Rejects.of(policy, sink=lambda b: made.bad.extend(b.to_pylist()), first_row=before.get(part.path, 0))
        num_rows = 0
        for batch in read_part(source, part, config=policy, rejects=rejects):
            made.numbers.extend(rejects.numbers(batch.num_rows).tolist())
            made.rows.extend(batch.to_pylist())
            num_rows += batch.num_rows
        rejects.flush()
        made.counts.append(rejects.counts())
        before[part.path] = before.get(part.path, 0) + num_rows + rejects.num_rows
    return made


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def zip_of(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def tar_of(members: Mapping[str, bytes | tarfile.TarInfo], *, mode: str = "w") -> bytes:
    """A tar of files, and of whatever else a TarInfo says."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:  # type: ignore[call-overload]  # modes are literals there
        for name, content in members.items():
            info = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return sink.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG's header and nothing of its pixels."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0" + bytes(4)
