"""Bringing a model package from the store to this host: only files that its card names, every byte verified."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, FileEntry
from millrace.models.package import CARD, read_card
from millrace.models.signature import ModelCard
from millrace.store import Store
from millrace.store.artifacts import check_path, read_manifest


def fetch_package(store: Store, ref: ArtifactRef, *, cache: Path) -> Path:
    """Return a local directory that holds the model package.

    A package may come from anywhere, so a file that its card does not name is never written, and no path leaves the
    directory. Files that are there already are hashed again: a cache is a disk like any other.

    Raises:
        InvalidData: It is not a model package.
        NotFound, Corrupt, Unavailable: From the store.
        ResourceExhausted: The disk is full.
    """
    manifest = read_manifest(store, ref.digest)
    entries = {entry.path: entry for entry in manifest.files}
    if manifest.type != "model" or CARD not in entries:
        raise errors.InvalidData(
            f"Expected a model, found an artifact of type {manifest.type!r} with {len(entries)} files.",
            remedy="Give the digest of a model.",
        )
    root = cache / ref.digest
    _bring(store, entries[CARD], root)
    os.utime(root)  # how eviction knows that it is wanted
    for path in sorted(named_files(read_card(root)) & entries.keys()):
        _bring(store, entries[path], root)
    return root


def named_files(card: ModelCard) -> set[str]:
    """Manifest paths that a card names."""
    named = {CARD, card.golden, card.weights, *(op.asset for op in card.signature.featurizer)}
    for program in card.programs:
        named |= {program.path, *program.files}
    return named


def evict(cache: Path, *, keep: Collection[str], min_age_s: float = 3600) -> None:
    """Remove packages that this server does not want and that nobody asked for lately: servers of a home share it."""
    newest = time.time() - min_age_s
    for path in cache.iterdir() if cache.is_dir() else ():
        if path.name not in keep and path.stat().st_mtime < newest:
            shutil.rmtree(path, ignore_errors=True)


def _bring(store: Store, entry: FileEntry, root: Path) -> None:
    check_path(entry.path)
    target = root / entry.path
    try:
        if not _is_whole(target, entry):
            target.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(entry.digest, target)
    except OSError as error:
        raise errors.ResourceExhausted(
            f"The model's file {entry.path!r} could not be written to {root}: {error.strerror}.",
            remedy="Free disk space, or move MILLRACE_HOME to a larger disk.",
        ) from error


def _is_whole(path: Path, entry: FileEntry) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.digest
