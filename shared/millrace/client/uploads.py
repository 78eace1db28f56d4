"""What an upload sends: one file raw, or a directory as multipart, streamed from disk and never held in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from millrace import errors
from millrace.client import calls
from millrace.client.calls import Call
from millrace.contracts.artifacts import ArtifactRef, ArtifactType

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class LocalData:
    """A file or directory to upload, and what tells whether it changed since it was last uploaded."""

    files: tuple[tuple[str, Path], ...]
    """Path in the artifact, path here."""
    version: tuple[tuple[str, int, int, int, int], ...]
    """Path, inode, size, modification and change time of each file: the last no program can set back."""

    def call(self) -> Call[ArtifactRef]:
        if len(self.files) == 1:
            name, path = self.files[0]
            return calls.upload(
                "source", partial(_read, path), content_type="application/octet-stream", filename=name, meta={}
            )
        return _multipart("source", dict(self.files), meta={})


def local_data(path: Path, *, field: str) -> LocalData:
    """List what a path holds. In a directory, names that start with a dot are left out.

    Raises:
        NotFound: Nothing is there.
        InvalidData: It cannot be read, or is empty.
    """
    if not path.exists():
        raise errors.NotFound(f"There is no file or directory {str(path)!r}.", field=field, remedy="Correct the path.")
    try:
        files = tuple(_walk(path)) if path.is_dir() else ((path.name, path),)
        stats = [(str(here), here.stat()) for _, here in files]
        for _, here in files[:1]:
            here.open("rb").close()
    except OSError as error:
        raise errors.InvalidData(f"Cannot read {error.filename}: {error.strerror}.", field=field) from None
    if not any(stat.st_size for _, stat in stats):
        raise errors.InvalidData(f"{str(path)!r} holds no data.", field=field, remedy="Give a file that is not empty.")
    return LocalData(files, tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats))


def files_call(type: ArtifactType, files: Mapping[str, bytes], meta: Mapping[str, Any]) -> Call[ArtifactRef]:
    """Upload a few small files as an artifact, such as a function's code."""
    return _multipart(type, files, meta=meta)


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(directory) / name
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix(), path


def _multipart(
    type: ArtifactType, files: Mapping[str, Path] | Mapping[str, bytes], *, meta: Mapping[str, Any]
) -> Call[ArtifactRef]:
    boundary = f"millrace-{os.urandom(16).hex()}"
    return calls.upload(
        type,
        partial(_parts, files, boundary),
        content_type=f"multipart/form-data; boundary={boundary}",
        filename="data",
        meta=meta,
    )


def _parts(files: Mapping[str, Path] | Mapping[str, bytes], boundary: str) -> Iterator[bytes]:
    for name, content in files.items():
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "%0D").replace("\n", "%0A")
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        yield from (content,) if isinstance(content, bytes) else _read(content)
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
