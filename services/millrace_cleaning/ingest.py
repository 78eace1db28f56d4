"""The ingest stage: copies an outside location into the store once, streaming; everything after reads the copy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, FileEntry
from millrace.contracts.events import StageOutputs
from millrace.runtime.stage import Context, Inputs, Task, outputs
from millrace.settings import Settings, load_settings
from millrace.store.artifacts import check_path, media_type, write_manifest
from millrace.store.pages import read_pages
from millrace_cleaning.read.files import is_hidden
from millrace_cleaning.settings import IngestConfig


@dataclass(frozen=True, slots=True)
class OutsideFile:
    """A file to copy: its path in the manifest, its size, and how to open it."""

    path: str
    size_bytes: int
    open: Callable[[], AbstractContextManager[BinaryIO]]


def work(context: Context, config: IngestConfig, inputs: Inputs, task: Task) -> StageOutputs:  # noqa: ARG001  # a source has no inputs, and one task
    uri, _, pinned = config.uri.partition("#")
    settings: Settings = load_settings()
    files = pinned_files(context, pinned, settings) if pinned else list_files(uri, settings=settings)
    total = sum(file.size_bytes for file in files)
    if total > config.max_bytes:
        raise errors.InvalidInput(
            f"{uri!r} holds {total} bytes, more than {config.max_bytes}.",
            remedy="Name a smaller part of it, or raise `max_bytes`.",
            field="with.max_bytes",
        )
    entries: dict[str, Path | bytes | FileEntry] = {}
    done = 0
    for file in files:
        check_path(file.path)
        with file.open() as stream:
            digest, size = context.store.put_stream(stream)
        entries[file.path] = FileEntry(path=file.path, digest=digest, size_bytes=size, media_type=media_type(file.path))
        done += size
        context.progress(done, max(total, done), unit="bytes")
    # Where it came from is not in the manifest: the same bytes from two places are one source, with the same row ids.
    source = write_manifest(context.store, "source", entries, meta={})
    context.log.info("source_copied", files=len(entries), size_bytes=done)
    return outputs({"source": source}, summary={"uri": uri[:500], "files": len(entries), "size_bytes": done})


def pinned_files(context: Context, digest: str, settings: Settings) -> list[OutsideFile]:
    """The very objects of a listing that a trigger stored, `{"url", "path", "etag", "size_bytes"}` a row."""
    from millrace.store.external import open_object

    def opener(url: str, etag: str) -> Callable[[], AbstractContextManager[BinaryIO]]:
        return lambda: open_object(url, settings, etag=etag)

    try:
        listing = ArtifactRef(digest=digest, type="plan", tenant=context.store.tenant)
    except ValueError:
        raise errors.InvalidInput(
            f"'#{digest[:80]}' is no listing's digest.", remedy="Leave out # and what follows.", field="with.uri"
        ) from None
    rows = read_pages(context.store, listing)
    files = [OutsideFile(r["path"], r["size_bytes"], opener(r["url"], r["etag"])) for r in rows]
    return [f for f in files if not is_hidden(f.path)]


def list_files(uri: str, *, settings: Settings) -> list[OutsideFile]:
    """Return the files that a URI names, sorted by path.

    Raises:
        InvalidInput: The URI is of no known kind, or names a local path where workers are on other hosts.
        NotFound: Nothing is there.
        Unauthorized, Unavailable: From the outside store.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return _local_files(Path(rest if separator else uri), uri, settings)
    if scheme == "s3":
        return _s3_files(uri, settings)
    raise errors.InvalidInput(
        f"{uri!r} cannot be ingested: {scheme}:// is not known.", remedy="Use s3://bucket/prefix.", field="with.uri"
    )


def _local_files(path: Path, uri: str, settings: Settings) -> list[OutsideFile]:
    if not settings.is_embedded:
        raise errors.InvalidInput(
            f"{uri!r} is a local path, and workers may be on other hosts.",
            remedy="Upload the file (`millrace run --data FILE` does), or put it at s3://bucket/prefix.",
            field="with.uri",
        )
    path = path.expanduser()
    if path.is_file():
        found = {path.name: path}
    else:
        inside = (p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
        found = {name: p for p in inside if not is_hidden(name := p.relative_to(path).as_posix())}
    if not found:
        raise errors.NotFound(f"No file is at {uri!r}.", remedy="Check the path.", field="with.uri")
    return [OutsideFile(name, p.stat().st_size, _opener(p)) for name, p in sorted(found.items())]


def _opener(path: Path) -> Callable[[], AbstractContextManager[BinaryIO]]:
    @contextlib.contextmanager
    def open_() -> Iterator[BinaryIO]:
        try:
            with path.open("rb") as stream:
                yield stream
        except PermissionError as error:
            raise errors.InvalidInput(
                f"{path} cannot be read: permission denied.", remedy="Give the worker's user the right to read it."
            ) from error

    return open_


def _s3_files(uri: str, settings: Settings) -> list[OutsideFile]:
    from millrace.store.external import list_objects, open_object  # the S3 client takes 60 ms to import

    def opener(url: str) -> Callable[[], AbstractContextManager[BinaryIO]]:
        return lambda: open_object(url, settings)

    files = [OutsideFile(o.path, o.size_bytes, opener(o.url)) for o in list_objects(uri, settings)]
    return [f for f in files if not is_hidden(f.path)]
