"""Which of a source's files hold data, and what each is by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from millrace import errors
from millrace_cleaning.read_settings import Format

SUFFIXES: dict[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet",
    ".json": "json", ".zip": "archive", ".tar": "archive", ".tgz": "archive", ".txt": "text", ".text": "text",
    ".md": "text", ".png": "image", ".jpg": "image", ".jpeg": "image", ".webp": "image", ".bmp": "image",
    ".gif": "image", ".tif": "image", ".tiff": "image", ".wav": "audio", ".flac": "audio", ".ogg": "audio",
    ".mp3": "audio",
}  # fmt: skip
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_COMPRESSIBLE = ("csv", "jsonl", "json", "text", "archive")  # Parquet and media compress themselves
# What is read where a source holds several kinds: a README beside tables is no data.
_PREFERENCE: tuple[tuple[Format, ...], ...] = (
    ("csv", "jsonl", "json", "parquet", "archive"), ("image",), ("audio",), ("text",),
)  # fmt: skip


class _Entry(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Files:
    """A source's files: the size of each by its manifest path, and how to have one locally."""

    sizes: Mapping[str, int]
    fetch: Callable[[str], Path]

    @classmethod
    def of(cls, entries: Iterable[_Entry], fetch: Callable[[str], Path]) -> Files:
        """Of a manifest's entries, such as `Files.of(source.manifest.files, source.file)`."""
        return cls({entry.path: entry.size_bytes for entry in entries}, fetch)


def compression_of(path: str) -> str:
    """`gzip`, `zstd` or nothing, by the name."""
    suffix = PurePosixPath(path).suffix.lower()
    return "gzip" if suffix == ".tgz" else COMPRESSED.get(suffix, "")


def format_of(path: str) -> Format | None:
    """What a file is by its name, under its compression; None for what Millrace does not read."""
    name = PurePosixPath(path)
    suffix = name.suffix.lower()
    if suffix not in COMPRESSED:
        return SUFFIXES.get(suffix)
    found = SUFFIXES.get(PurePosixPath(name.stem).suffix.lower())
    return found if found in _COMPRESSIBLE and PurePosixPath(name.stem).suffix.lower() not in (".zip", ".tgz") else None


def is_hidden(path: str) -> bool:
    """Whether a file is passed over by its name: `.x`, and what tools leave beside data, as `_SUCCESS` or `__MACOSX/x`.

    A name with a low line that ends as data does is data: `_strptime.txt`.
    """
    name = PurePosixPath(path)
    if any(part.startswith(".") and part != ".." for part in name.parts):
        return True
    in_hidden = any(folder.startswith("_") for folder in name.parts[:-1])
    return in_hidden or (name.name.startswith("_") and format_of(path) is None)


def has_fixed_columns(path: str) -> bool:
    """Whether the format itself says that every row has the same columns."""
    return format_of(path) in ("csv", "parquet")


def data_files(paths: Sequence[str], *, formats: Sequence[Format] = ()) -> tuple[list[str], list[str]]:
    """Return (files to read, files left out because they are no data), both sorted.

    Args:
        formats: What to read; by default the first kinds that are there of tables and archives, images, audio, text.

    Raises:
        InvalidData: Nothing is left to read.
    """
    visible = [path for path in sorted(paths) if not is_hidden(path)]
    kinds = {path: format_of(path) for path in visible}
    there = set(kinds.values())
    wanted = tuple(formats) or next((group for group in _PREFERENCE if there & set(group)), ())
    readable = [p for p in visible if kinds[p] in wanted]
    if not readable:
        found = ", ".join(visible[:3]) or "no file"
        of_kind = f" of the formats {', '.join(formats)}" if formats else ""
        raise errors.InvalidData(
            f"The source holds no data file{of_kind}: found {found}.",
            remedy=f"Give files that end in {', '.join(SUFFIXES)}; most may be compressed as .gz or .zst.",
        )
    return readable, [p for p in visible if kinds[p] not in wanted]
