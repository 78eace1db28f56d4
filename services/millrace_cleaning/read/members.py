"""The members of an archive as streams, in order. Nothing is ever written under a member's name."""

from __future__ import annotations

import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from millrace_cleaning.read.files import compression_of, format_of, is_hidden
from millrace_cleaning.read.rejects import BadFile, Rejects
from millrace_cleaning.read.stream import BOMB_FLOOR_BYTES, bounded, open_bytes
from millrace_cleaning.read_settings import ReadConfig

_MAX_HEADER_BYTES = 2**20
LINK, SPECIAL, OTHER_KIND = "a link", "no regular file", "of a kind that is not read"
_REASONS = {LINK: "link", SPECIAL: "special", OTHER_KIND: "other_kind"}
_END_BYTES = 22 + 2**16  # a zip's end record and its longest comment


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; its stream is to be read before the next one is asked for.

    Attributes:
        name: A safe relative path.
        size_bytes: As the archive says.
    """

    name: str
    size_bytes: int
    stream: BinaryIO


def members(local: Path, path: str, *, config: ReadConfig, rejects: Rejects) -> Iterator[Member]:
    """Yield the files of a zip or tar. Folders and hidden files are no members; links and devices are passed over and
    counted; unsafe names, archives within and encrypted members are bad files.

    Raises:
        BadFile: The archive is damaged, a bomb, or has too many members.
    """
    is_zip = PurePosixPath(path).suffix.lower() == ".zip"
    found = _zip_members(local, path, config, rejects) if is_zip else _tar_members(local, path, config, rejects)
    for number, member in enumerate(found):
        if number >= config.max_members:
            raise _too_many(path, config)
        if is_hidden(member.name):
            continue
        fault = _unsafe(member.name) or _nested(member.name)
        if fault is None:
            yield member
        else:
            reason, what, remedy = fault
            shown = f"{path}/{ascii(member.name[:200])[1:-1]}"
            rejects.file(shown, BadFile(f"{shown} {what}.", reason=reason, remedy=remedy), size_bytes=member.size_bytes)


def _unsafe(name: str) -> tuple[str, str, str] | None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name or name[1:2] == ":":
        return "unsafe_path", "has a name that leaves its folder", "Whoever packed it may mean harm: look into it."
    return None


def _nested(name: str) -> tuple[str, str, str] | None:
    if format_of(name) == "archive" or compression_of(name) or PurePosixPath(name).suffix.lower() in (".7z", ".rar"):
        return "nested", "is packed once more, within an archive", "Unpack it first."
    return None


def _zip_members(local: Path, path: str, config: ReadConfig, rejects: Rejects) -> Iterator[Member]:
    _check_directory(local, path, config)
    total = 0
    try:
        with zipfile.ZipFile(local) as archive:
            for info in archive.infolist():
                is_link = info.create_system == 3 and (info.external_attr >> 28) == 0xA
                if info.is_dir() or (is_link and pass_over(rejects, path, info.filename, LINK)):
                    continue
                if info.flag_bits & 1:
                    fault = BadFile(f"{path}/{info.filename} is encrypted.", reason="encrypted", remedy="Decrypt it.")
                    rejects.file(f"{path}/{info.filename}", fault, size_bytes=info.file_size)
                    continue
                total += info.file_size  # what a member gives is never more than it says: zipfile sees to that
                _check_total(total, local, path, config)
                packed = max(info.compress_size, 1)
                with archive.open(info) as inner:
                    stream = bounded(inner, f"{path}/{info.filename}", packed_bytes=packed, config=config)
                    yield Member(info.filename, info.file_size, stream)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise _damaged(path, error) from error


def _check_directory(local: Path, path: str, config: ReadConfig) -> None:
    """Refuse a list of members that would fill memory, before it is read."""
    size = local.stat().st_size
    with local.open("rb") as stream:
        if stream.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise _damaged(path, ValueError("its first bytes are no ZIP's"))
        stream.seek(max(0, size - _END_BYTES - 76))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 20 > len(tail):
        raise _damaged(path, ValueError("it has no end record; it may be truncated"))
    count, directory_bytes = struct.unpack_from("<H", tail, at + 10)[0], struct.unpack_from("<I", tail, at + 12)[0]
    large = tail.rfind(b"PK\x06\x06")
    if directory_bytes == 0xFFFFFFFF and 0 <= large <= len(tail) - 48:
        count, directory_bytes = struct.unpack_from("<QQ", tail, large + 32)
    if count > config.max_members or directory_bytes > 256 * config.max_members or directory_bytes > size:
        raise _too_many(path, config)


def _check_total(total: int, local: Path, path: str, config: ReadConfig) -> None:
    packed = local.stat().st_size
    if total > config.max_archive_bytes or (total > BOMB_FLOOR_BYTES and total > config.max_archive_ratio * packed):
        raise BadFile(
            f"{path} holds {packed} bytes, and its members would give more than {total}: it is taken for a bomb.",
            reason="bomb",
            remedy="If it is none, raise `max_archive_ratio` or `max_archive_bytes`.",
        )


class _SmallHeaders(tarfile.TarInfo):
    """Refuses long names and extended headers of more than a megabyte, which tarfile would read into memory."""

    def _proc_gnulong(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_gnulong(tar)  # type: ignore[misc,no-any-return]  # typeshed leaves tarfile's hooks out

    def _proc_pax(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        self._check()
        return super()._proc_pax(tar)  # type: ignore[misc,no-any-return]

    def _check(self) -> None:
        if self.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a member's header has {self.size} bytes")


def _tar_members(local: Path, path: str, config: ReadConfig, rejects: Rejects) -> Iterator[Member]:
    try:
        with (
            open_bytes(local, path, config=config) as packed,
            tarfile.open(fileobj=packed, mode="r|", tarinfo=_SmallHeaders, errorlevel=2) as archive,
        ):
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would remember every member
                if info.isdir():
                    continue
                if info.issparse() or not info.isreg():
                    pass_over(rejects, path, info.name, LINK if info.issym() or info.islnk() else SPECIAL)
                    continue
                stream = archive.extractfile(info)
                assert stream is not None
                whole = bounded(stream, f"{path}/{info.name}", packed_bytes=max(info.size, 1), config=config)
                yield Member(info.name.removeprefix("./"), info.size, whole)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def pass_over(rejects: Rejects, path: str, name: str, what: str) -> bool:
    """Count a member that is left out, whatever the policy."""
    shown = f"{path}/{ascii(name[:200])[1:-1]}"
    rejects.pass_over(shown, f"{shown} is {what}: it was left out.", reason=_REASONS[what])
    return True


def _too_many(path: str, config: ReadConfig) -> BadFile:
    return BadFile(
        f"{path} has more than {config.max_members} members.",
        reason="members",
        remedy="If they are meant, raise `max_members`.",
    )


def _damaged(path: str, error: Exception) -> BadFile:
    said = str(error).splitlines() or [type(error).__name__]
    return BadFile(
        f"{path} is not a whole archive: {said[0][:160]}", reason="truncated", remedy="Fetch or pack it again."
    )
