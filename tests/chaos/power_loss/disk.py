"""A disk as a power loss may leave it: what was synced for certain, and of the rest whatever chance decides.

The model is harsher than ext4, XFS and btrfs are. A file's bytes are certain once an fsync or fdatasync that began after
they were written has ended; a name is certain once its folder was synced so. Of what is not certain, each part may be
there or not, independently of order: names one by one (a rename is two), bytes in sectors of 512 or 4,096 that are kept, lost
or, beyond the old end, read as zeros. A sector is whole, and a sync that was answered was true.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from chaos.power_loss.operations import Operation

SECTORS = (512, 4096)
SHARED_MEMORY = "-shm"
"""SQLite writes these files by memory alone, unseen here, and says that it trusts them only while a process has them."""


@dataclass(eq=False)
class File:
    """Bytes that are certain, and later writes and truncations that are not."""

    certain: bytearray = field(default_factory=bytearray)
    uncertain: list[Operation] = field(default_factory=list)
    is_fifo: bool = False

    @property
    def size(self) -> int:
        size = len(self.certain)
        for change in self.uncertain:
            size = _resized(size, change)
        return size

    def sync(self, began: int) -> None:
        for change in self.uncertain:
            if change.ended < began:
                _write(self.certain, change)
        self.uncertain = [change for change in self.uncertain if change.ended >= began]

    def survivor(self, rng: random.Random) -> bytes:
        """Its bytes after a power loss."""
        content, fate = bytearray(self.certain), rng.choice(("lost", "kept", "first", "some", "some"))
        if fate == "lost":
            return bytes(content)
        sector, chance = rng.choice(SECTORS), 1.0 if fate == "kept" else rng.choice((0.1, 0.5, 0.9))
        num = rng.randint(0, len(self.uncertain)) if fate == "first" else len(self.uncertain)
        for change in self.uncertain[:num]:
            for part in _sectors(change, sector):
                if fate == "first" or rng.random() < chance:
                    _write(content, part)
        if rng.random() < 0.3 and self.size > len(content):  # the new size reached the disk, and the bytes did not
            content.extend(bytes(self.size - len(content)))
        return bytes(content)


@dataclass(eq=False)
class Folder:
    """Names that are certain, and later changes that are not; None removes a name."""

    certain: dict[str, File | Folder] = field(default_factory=dict)
    uncertain: list[tuple[int, str, File | Folder | None]] = field(default_factory=list)
    now: dict[str, File | Folder] = field(default_factory=dict)

    def change(self, ended: int, name: str, to: File | Folder | None) -> None:
        self.uncertain.append((ended, name, to))
        _put(self.now, name, to)

    def sync(self, began: int) -> None:
        for ended, name, to in self.uncertain:
            if ended < began:
                _put(self.certain, name, to)
        self.uncertain = [change for change in self.uncertain if change[0] >= began]

    def survivor(self, rng: random.Random) -> dict[str, File | Folder]:
        """Its names after a power loss."""
        names, chance = dict(self.certain), rng.choice((0.0, 0.5, 0.9, 1.0))
        for _, name, to in self.uncertain:
            if rng.random() < chance:
                _put(names, name, to)
        return names


class Disk:
    """A folder's tree under a log of operations, applied one after the other. It begins empty."""

    def __init__(self) -> None:
        self.root = Folder()

    def apply(self, operation: Operation) -> None:
        if operation.kind == "sync":
            if (synced := self._find(operation.path)) is not None:
                synced.sync(operation.began)
        elif operation.kind in ("write", "truncate"):
            self._change(operation)
        else:
            self._name(operation)

    def crash(self, folder: Path, rng: random.Random) -> None:
        """Make what a power loss now leaves, in a new folder."""
        self._make(folder, self.root, lambda inode: inode.survivor(rng), {}, rng)

    def stop(self, folder: Path) -> None:
        """Make what processes see now, in a new folder."""
        self._make(folder, self.root, lambda inode: _seen(inode), {}, random.Random(0))

    def _change(self, operation: Operation) -> None:
        file = self._find(operation.path)
        if not isinstance(file, File):
            return  # written to by whom it was open after its name had gone
        file.uncertain.append(_placed(operation, file.size) if operation.offset is None else operation)

    def _name(self, operation: Operation) -> None:
        folder, name = self._folder(operation.path)
        if operation.kind == "remove":
            folder.change(operation.ended, name, None)
        elif operation.kind in ("move", "link"):
            moved, (target, new_name) = folder.now[name], self._folder(operation.target)
            target.change(operation.ended, new_name, moved)
            if operation.kind == "move":
                folder.change(operation.ended, name, None)
        elif name and name not in folder.now:
            made = Folder() if operation.kind == "mkdir" else File(is_fifo=operation.kind == "fifo")
            folder.change(operation.ended, name, made)

    def _find(self, path: str) -> File | Folder | None:
        found: File | Folder | None = self.root
        for name in path.split("/") if path else ():
            found = found.now.get(name) if isinstance(found, Folder) else None
        return found

    def _folder(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        folder = self._find(parent)
        assert isinstance(folder, Folder), f"{path}: its folder was made unseen"
        return folder, name
