"""Reading images and sounds, and text files that are one row each: their bytes as they are; decoding is for steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa

from millrace_cleaning.read.encoding import open_text
from millrace_cleaning.read.files import Files, format_of
from millrace_cleaning.read.jsonl import BadRow, too_long
from millrace_cleaning.read.pixels import HEAD_BYTES, image_size, is_audio
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.rows import Media, to_batches
from millrace_cleaning.read.stream import read_up_to
from millrace_cleaning.read.text import COLUMN, read_document
from millrace_cleaning.read_settings import ReadConfig

LABEL = "label"


def read_files(
    files: Files, paths: Sequence[str], *, has_labels: bool, config: ReadConfig, rejects: Rejects
) -> Iterator[pa.RecordBatch]:
    """Yield batches with a row for each file: `image`, `audio` or `text`, and `label` where folders tell rows apart.

    Raises:
        InvalidData: A file is no image or sound, or too large, and that is not allowed.
    """
    yield from to_batches(_rows(files, paths, has_labels, config, rejects))


def folders_differ(paths: Sequence[str]) -> bool:
    """Whether files lie in more than one folder, whose names are then their labels."""
    return len({PurePosixPath(path).parent.name for path in paths}) > 1


def checked_media(content: bytes, size_bytes: int, kind: str, config: ReadConfig) -> None:
    """Refuse bytes that are no image or sound, or an image that would fill memory.

    Raises:
        BadRow: With the reason.
    """
    if size_bytes > config.max_row_bytes:
        raise too_long(size_bytes, config)
    if not size_bytes:
        raise BadRow("is empty", reason="empty", remedy="Fetch it again.")
    if kind == "audio":
        if not is_audio(content[:16]):
            raise BadRow("is no WAV, FLAC, Ogg or MP3", reason="format", remedy="Leave it out, or correct its name.")
        return
    size = image_size(content[:HEAD_BYTES])
    if size is None:
        raise BadRow(
            "is no PNG, JPEG, WebP, BMP, GIF or TIFF", reason="format", remedy="Leave it out, or correct its name."
        )
    if size[0] * size[1] > config.max_pixels:
        raise BadRow(
            f"says that it is {size[0]} by {size[1]} pixels, which is more than {config.max_pixels}",
            reason="pixels",
            remedy="If it is meant, raise `max_pixels`.",
        )


def read_media(stream: BinaryIO, path: str, *, kind: str, config: ReadConfig) -> tuple[Media, int]:
    """One image or sound, and its size. Raises BadRow."""
    content = read_up_to(stream, config.max_row_bytes + 1)
    checked_media(content, len(content), kind, config)
    return Media(content, path), len(content)


def _rows(
    files: Files, paths: Sequence[str], has_labels: bool, config: ReadConfig, rejects: Rejects
) -> Iterator[tuple[dict[str, Any], int]]:
    for position, path in enumerate(paths):
        try:
            row = _row(files.fetch(path), path, position, config, rejects)
        except BadFile as fault:
            rejects.row(
                path, fault.message, reason=fault.reason, position=position, remedy=fault.remedy, size_bytes=files.sizes[path]
            )  # fmt: skip
            continue
        if row is not None:
            label = {LABEL: PurePosixPath(path).parent.name} if has_labels else {}
            yield {**row, **label}, files.sizes[path]


def _row(local: Path, path: str, position: int, config: ReadConfig, rejects: Rejects) -> dict[str, Any] | None:
    kind = format_of(path)
    if kind == "text":
        with open_text(local, path, config=config) as stream:
            text = read_document(stream, path, config=config, rejects=rejects, position=position)
        return None if text is None else {COLUMN: text}
    with local.open("rb") as stream:
        try:
            return {str(kind): read_media(stream, path, kind=str(kind), config=config)[0]}
        except BadRow as fault:
            stream.seek(0)
            rejects.row(
                path, f"{path} {fault}.", reason=fault.reason, position=position, remedy=fault.remedy,
                raw=stream.read(HEAD_BYTES), size_bytes=local.stat().st_size,
            )  # fmt: skip
            return None
