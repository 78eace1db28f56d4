"""Searching whatever a factory leaves behind for words that must not be there."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow.parquet as pq


def found_under(root: Path, words: Collection[str], *, sources: Collection[bytes]) -> dict[str, str]:
    """Return each file under a directory that holds one of the words, and the word.

    Files are searched as bytes, and Parquet, SQLite and gzip also by what is in them. Copies of the sources are passed over.
    """
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        content = path.read_bytes()
        if content in sources:
            continue
        whole = b"\0".join([content, *_within(path, content)])
        for word in words:
            if word.encode() in whole:
                found[str(path.relative_to(root))] = word
    return found


def _within(path: Path, content: bytes) -> Iterator[bytes]:
    if content.startswith(b"PAR1"):
        yield str(pq.read_table(path).to_pylist()).encode()
    elif content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif content.startswith(b"SQLite format 3\0"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            yield "\n".join(database.iterdump()).encode()
        database.close()
