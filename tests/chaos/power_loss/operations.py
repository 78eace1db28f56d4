"""What processes did to files, in order, read from strace's output: the log that a power loss is replayed from.

Paths are relative to the recorded folder. Reads, and what happened to files elsewhere, are not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CREATING = "openat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat"
MOVING = "rename,renameat,renameat2,unlink,unlinkat,rmdir"
WRITING = "creat,open,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate"
COPYING = "sendfile,copy_file_range,splice"
SYNCING = "fsync,fdatasync,sync_file_range,msync"
TRACED = ",".join((CREATING, MOVING, WRITING, COPYING, SYNCING))

_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")
_RESULT = re.compile(r"^(.*?)\)?\s+= (-?\d+)(?:<([^>]*)>(\(deleted\))?)?")
_FD = re.compile(r"^\d+<([^>]*)>(\(deleted\))?$")


class NotModelled(Exception):
    """A system call changed a recorded file in a way that the replay does not know."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that changed a file or a folder, or waited for the disk.

    Attributes:
        target: Of `move` and `link`: the new name.
        began, ended: Positions in the log. What ended before a sync began is what that sync is about.
        offset: Of `write`: where, in bytes; None: at the end.
        size: Of `truncate`: the new size in bytes.
    """

    kind: Literal["create", "mkdir", "fifo", "link", "move", "remove", "write", "truncate", "sync"]
    path: str
    began: int
    ended: int
    target: str = ""
    offset: int | None = None
    data: bytes = b""
    size: int = 0


def parse(lines: Iterable[str], root: Path) -> list[Operation]:
    """Read the output of `strace -f -y -xx`.

    Raises:
        NotModelled: Something was done below root that a replay would get wrong.
    """
    found: list[Operation] = []
    begun: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        pid, resumed, call, rest = match.groups()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = (number, call, rest.removesuffix("<unfinished ...>").rstrip())
            continue
        began, before = number, ""
        if resumed:
            began, call, before = begun.pop(pid)
        if result := _RESULT.match(before + rest):
            found += _operations(call, result, root, began=began, ended=number)
    return found


def _operations(call: str, result: re.Match[str], root: Path, *, began: int, ended: int) -> Iterator[Operation]:
    words, returned = result[1].split(", "), int(result[2])
    if returned < 0:
        return
    if call == "openat":
        path = _inside(_decoded(result[3] or ""), root)
        if path is None or result[4] or "O_TMPFILE" in words[2]:
            return
        if "O_CREAT" in words[2]:
            yield Operation("create", path, began, ended)
        if "O_TRUNC" in words[2]:
            yield Operation("truncate", path, began, ended)
    elif call in CREATING.split(",") or call in MOVING.split(","):
        yield from _naming(call, words, root, began=began, ended=ended)
    elif (path := _path_of(words[1] if call in ("sendfile", "copy_file_range") else words[0], root)) is not None:
        if call == "write":
            yield Operation("write", path, began, ended, data=_text(words[1])[:returned])
        elif call == "pwrite64":
            yield Operation("write", path, began, ended, data=_text(words[1])[:returned], offset=int(words[3]))
        elif call == "ftruncate":
            yield Operation("truncate", path, began, ended, size=int(words[1]))
        elif call in ("fsync", "fdatasync"):
            yield Operation("sync", path, began, ended)
        else:
            raise NotModelled(f"{call} of {path}")


def _naming(call: str, words: list[str], root: Path, *, began: int, ended: int) -> Iterator[Operation]:
    names = [_inside(path, root) for path in _names(words)]
    if call.startswith("mk"):
        if names[0] is not None:
            yield Operation("mkdir" if call.startswith("mkdir") else "fifo", names[0], began, ended)
    elif call.startswith(("unlink", "rmdir")):
        if names[0] is not None:
            yield Operation("remove", names[0], began, ended)
    elif names[0] is not None and names[1] is not None and not call.startswith("symlink"):
        kind: Literal["move", "link"] = "move" if call.startswith("rename") else "link"
        yield Operation(kind, names[0], began, ended, target=names[1])
    elif names[0] != names[1]:
        raise NotModelled(f"{call} from {names[0]} to {names[1]}: both belong inside")


def _names(words: list[str]) -> Iterator[str]:
    """Paths among arguments, each joined to the folder descriptor before it."""
    folder = ""
    for word in words:
        if word.startswith("AT_FDCWD<"):
            folder = _decoded(word.removeprefix("AT_FDCWD<").removesuffix(">"))
        elif match := _FD.match(word):
            folder = _decoded(match[1])
        elif word.startswith('"'):
            yield str(Path(folder) / _text(word).decode())


def _path_of(word: str, root: Path) -> str | None:
    """The name of an open file; None for one that lies elsewhere or has none any more."""
    match = _FD.match(word)
    return None if match is None or match[2] else _inside(_decoded(match[1]), root)


def _inside(path: str, root: Path) -> str | None:
    top = str(root)
    if path == top:
        return ""
    return path[len(top) + 1 :] if path.startswith(top + "/") and not path.endswith(" (deleted)") else None


def _text(word: str) -> bytes:
    return bytes.fromhex(word.strip('"').replace("\\x", ""))


def _decoded(hexadecimal: str) -> str:
    return _text(hexadecimal).decode()
