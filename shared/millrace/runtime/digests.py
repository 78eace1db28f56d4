"""The stage code digest: which code a worker would execute for a kind, so that a cache or a conductor can tell."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from millrace.contracts.stages import StageKind

_LIBRARY = ("architectures", "contracts", "models", "store")
"""Parts of the library that stage code stands on; the rest cannot change what a stage makes."""


def code_digests(kinds: Iterable[StageKind]) -> Mapping[str, str]:
    """Digest of each kind's code: its package's sources, the library's parts below it, versions of what it preloads."""
    library = _sources_digest(Path(__file__).parents[1] / part for part in _LIBRARY)
    return {kind.name: _digest(kind, library) for kind in kinds}


def _digest(kind: StageKind, library: str) -> str:
    package = kind.module.partition(".")[0]
    spec = importlib.util.find_spec(package)
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    if spec is not None and not roots and spec.origin:
        roots = [Path(spec.origin)]
    versions = "".join(f"{name}={_version(name)};" for name in sorted(kind.preload))
    return hashlib.sha256(f"{kind.module}\n{_sources_digest(roots)}\n{library}\n{versions}".encode()).hexdigest()


def _sources_digest(roots: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for root in roots:
        files = [root] if root.is_file() else sorted(root.rglob("*.py"))
        for path in files:
            name = path.relative_to(root.parent).as_posix()
            total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _version(module: str) -> str:
    """The installed version of the distribution that a module is named for; empty where the names differ."""
    try:
        return metadata.version(module.partition(".")[0])
    except metadata.PackageNotFoundError:
        return ""
