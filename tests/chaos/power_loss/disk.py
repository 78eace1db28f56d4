"""A disk as a power loss may leave it: what was synced for certain, and of the rest whatever chance decides.

The model is harsher than ext4, XFS and btrfs are. A file's bytes are certain once an fsync or fdatasync that began after
they were written has ended; a name is certain once its folder was synced so. Of what is not certain, each part may be
there or not, independently of order: names one by one (a rename is two), bytes in sectors of 512 or 4,096 that are kept, lost
or, beyond the old end, read as zeros. A sector is whole, and a sync that was answered was true.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from chaos.power_loss.operations import Operation

SECTORS = (512, 4096)
SHARED_MEMORY = "-shm"
"""SQLite writes these files through memory, unseen here, and trusts them only while a process has them open."""


@dataclass(eq=False)
class File:
    """Bytes that are certain, and later writes and truncations that are not."""

    is_fifo: bool = False
    certain: bytearray = field(default_factory=bytearray)
    uncertain: list[Operation] = field(default_factory=list)
    size: int = 0

    def change(self, operation: Operation) -> None:
        if operation.kind == "write" and operation.offset is None:
            operation = replace(operation, offset=self.size)
        self.uncertain.append(operation)
        self.size = _size_after(operation, self.size)

    def sync(self, began: int) -> None:
        for operation in self.uncertain:
            if operation.ended < began:
                _write(self.certain, operation)
        self.uncertain = [operation for operation in self.uncertain if operation.ended >= began]

    def now(self) -> bytes:
        content = bytearray(self.certain)
        for operation in self.uncertain:
            _write(content, operation)
        return bytes(content)

    def after_loss(self, rng: random.Random) -> bytes:
        """Its bytes when the power comes back."""
        fate = rng.choice(("lost", "kept", "first", "some", "some"))
        sector, chance = rng.choice(SECTORS), rng.choice((0.1, 0.5, 0.9)) if fate == "some" else 1.0
        num = {"lost": 0, "first": rng.randint(0, len(self.uncertain))}.get(fate, len(self.uncertain))
        content = bytearray(self.certain)
        for operation in self.uncertain[:num]:
            for part in _parts(operation, sector):
                if rng.random() < chance:
                    _write(content, part)
        if rng.random() < 0.3:  # the new size reached the disk, and the bytes did not
            content.extend(bytes(max(0, self.size - len(content))))
        return bytes(content)


@dataclass(eq=False)
class Folder:
    """Names that are certain, and later changes that are not; None removes a name."""

    certain: dict[str, Node] = field(default_factory=dict)
    uncertain: list[tuple[int, str, Node | None]] = field(default_factory=list)
    now: dict[str, Node] = field(default_factory=dict)

    def change(self, ended: int, name: str, node: Node | None) -> None:
        self.uncertain.append((ended, name, node))
        _name(self.now, name, node)

    def sync(self, began: int) -> None:
        for ended, name, node in self.uncertain:
            if ended < began:
                _name(self.certain, name, node)
        self.uncertain = [change for change in self.uncertain if change[0] >= began]

    def after_loss(self, rng: random.Random) -> dict[str, Node]:
        """Its names when the power comes back."""
        names, chance = dict(self.certain), rng.choice((0.0, 0.5, 0.9, 1.0))
        for _, name, node in self.uncertain:
            if rng.random() < chance:
                _name(names, name, node)
        return names


Node = File | Folder


class Disk:
    """The tree of a folder under a log of operations. It begins empty."""

    def __init__(self) -> None:
        self.root = Folder()

    def apply(self, operation: Operation) -> None:
        """Let one operation happen; they come in the order in which they ended."""
        node = self._find(operation.path)
        if operation.kind == "sync":
            if node is not None:
                node.sync(operation.began)
        elif operation.kind not in ("write", "truncate"):
            self._rename(operation, node)
        elif isinstance(node, File):  # else its name went while somebody still wrote to it
            node.change(operation)

    def lose_power(self, folder: Path, rng: random.Random) -> None:
        """Make what a power loss leaves, at a path that is free."""
        _make(folder, self.root, rng, {})

    def contents(self) -> dict[str, bytes]:
        """What every file holds now, as processes see it, by path; without FIFOs and what is written through memory."""
        return dict(_walk(self.root, ""))

    def _rename(self, operation: Operation, node: Node | None) -> None:
        folder, name = self._parent(operation.path)
        if operation.kind in ("move", "link"):
            target, new_name = self._parent(operation.target)
            target.change(operation.ended, new_name, node)
        if operation.kind in ("move", "remove"):
            folder.change(operation.ended, name, None)
        elif node is None:
            made = Folder() if operation.kind == "mkdir" else File(is_fifo=operation.kind == "fifo")
            folder.change(operation.ended, name, made)

    def _find(self, path: str) -> Node | None:
        found: Node | None = self.root
        for name in path.split("/") if path else ():
            found = found.now.get(name) if isinstance(found, Folder) else None
        return found

    def _parent(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        folder = self._find(parent)
        assert isinstance(folder, Folder), f"nobody was seen to make the folder of {path}"
        return folder, name


def _make(path: Path, node: Node, rng: random.Random, made: dict[int, bytes]) -> None:
    if isinstance(node, Folder):
        path.mkdir()
        for name, inner in sorted(node.after_loss(rng).items()):
            _make(path / name, inner, rng, made)
    elif node.is_fifo:
        os.mkfifo(path)
    elif path.name.endswith(SHARED_MEMORY):
        path.write_bytes(rng.randbytes(32768))
    else:  # a file of two names has one content
        path.write_bytes(made.setdefault(id(node), node.after_loss(rng)))


def _walk(folder: Folder, prefix: str) -> Iterator[tuple[str, bytes]]:
    for name, node in folder.now.items():
        if isinstance(node, Folder):
            yield from _walk(node, f"{prefix}{name}/")
        elif not node.is_fifo and not name.endswith(SHARED_MEMORY):
            yield prefix + name, node.now()


def _name(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _size_after(operation: Operation, size: int) -> int:
    if operation.kind == "truncate":
        return operation.size
    return max(size, (operation.offset or 0) + len(operation.data))


def _write(content: bytearray, operation: Operation) -> None:
    offset = operation.size if operation.kind == "truncate" else operation.offset or 0
    content.extend(bytes(max(0, offset - len(content))))
    if operation.kind == "truncate":
        del content[offset:]
    else:
        content[offset : offset + len(operation.data)] = operation.data


def _parts(operation: Operation, sector: int) -> Iterator[Operation]:
    """A write as the disk sees it: in pieces that end where sectors do."""
    if operation.kind == "truncate":
        yield operation
        return
    start, data = operation.offset or 0, operation.data
    edges = [0, *range(sector - start % sector, len(data), sector), len(data)]
    for left, right in pairwise(edges):
        yield replace(operation, offset=start + left, data=data[left:right])
