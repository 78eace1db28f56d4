"""The disk that is lost, and the log that it is made of, are what they claim to be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chaos.power_loss.disk import Disk
from chaos.power_loss.operations import NotModelled, Operation, parse

ROOT = Path("/r")


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def outcomes(disk: Disk, tmp_path: Path, *, num: int = 200) -> set[bytes | None]:
    """What the file `f` may hold after a power loss; None: it is not there."""
    found: set[bytes | None] = set()
    for seed in range(num):
        folder = tmp_path / str(seed)
        disk.lose_power(folder, random.Random(seed))
        found.add((folder / "f").read_bytes() if (folder / "f").exists() else None)
    return found


def made(*operations: Operation) -> Disk:
    disk = Disk()
    for operation in (Operation("create", "f", 0, 0), Operation("write", "f", 1, 1, data=b"old"), *operations):
        disk.apply(operation)
    return disk


SYNCED = (Operation("sync", "f", 2, 3), Operation("sync", "", 4, 5))


def test_what_was_synced_with_its_name_is_certain(tmp_path: Path) -> None:
    assert outcomes(made(*SYNCED), tmp_path) == {b"old"}


def test_bytes_without_a_synced_name_may_be_nowhere(tmp_path: Path) -> None:
    assert outcomes(made(SYNCED[0]), tmp_path) == {b"old", None}


def test_a_name_without_synced_bytes_may_be_empty_or_zeros(tmp_path: Path) -> None:
    assert outcomes(made(SYNCED[1]), tmp_path) == {b"old", b"", b"\0\0\0"}


def test_a_write_that_ended_after_a_sync_began_is_uncertain(tmp_path: Path) -> None:
    late = Operation("write", "f", 5, 7, data=b"new", offset=0)
    assert outcomes(made(*SYNCED, late, Operation("sync", "f", 6, 8)), tmp_path) == {b"old", b"new"}


def test_a_write_may_be_torn_where_sectors_end(tmp_path: Path) -> None:
    torn = outcomes(made(*SYNCED, Operation("write", "f", 6, 6, data=b"x" * 1024, offset=0)), tmp_path)
    assert b"x" * 512 in torn
    assert b"old" + bytes(509) + b"x" * 512 in torn


def test_a_rename_may_leave_both_names_or_the_old_file(tmp_path: Path) -> None:
    create, write = Operation("create", "g", 6, 6), Operation("write", "g", 7, 7, data=b"new")
    move = Operation("move", "g", 9, 9, target="f")
    disk = made(*SYNCED, create, write, Operation("sync", "g", 8, 8), move)
    assert outcomes(disk, tmp_path) == {b"old", b"new"}


def test_a_call_that_was_interrupted_by_anothers_is_one_operation() -> None:
    lines = [
        f'7 pwrite64(3<{hexed("/r/f")}>, "{hexed("ab")}", 2, 512 <unfinished ...>',
        f"8 fdatasync(4<{hexed('/r/f')}>) = 0",
        "7 <... pwrite64 resumed>) = 2",
    ]
    sync, write = sorted(parse(lines, ROOT), key=lambda o: o.kind)
    assert (write.data, write.offset, write.began, write.ended) == (b"ab", 512, 0, 2)
    assert (sync.path, sync.began) == ("f", 1)


def test_names_are_read_relative_to_their_folder() -> None:
    lines = [f'7 openat(5<{hexed("/r/d")}>, "{hexed("f")}", O_RDWR|O_CREAT, 0644) = 9<{hexed("/r/d/f")}>']
    assert [(o.kind, o.path) for o in parse(lines, ROOT)] == [("create", "d/f")]


def test_what_failed_or_lies_elsewhere_is_nothing() -> None:
    lines = [f'7 mkdir("{hexed("/r/d")}", 0777) = -1 EEXIST (File exists)', f'7 unlink("{hexed("/s/f")}") = 0']
    assert parse(lines, ROOT) == []


def test_a_call_that_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(NotModelled, match="fallocate"):
        parse([f"7 fallocate(3<{hexed('/r/f')}>, 0, 0, 4096) = 0"], ROOT)
