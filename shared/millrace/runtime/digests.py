"""The stage code digest: which code a worker would execute for a kind, so that a cache or a conductor can tell.

It covers the sources of the kind's own package, every module of ours or beside it that those import, however deep and
wherever in a function, the versions of all distributions that they stand on, and Python's. Reading imports from the sources
imports nothing. Of a user's function nobody knows what it will import: it counts all that is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from millrace.contracts.graph import FUNCTIONS_SERVICE
from millrace.contracts.stages import FUNCTION_KIND, StageKind, installed_kinds
from millrace.runtime.distributions import installed, owners_of, versions

OUR_PREFIX = "millrace"
"""Of this library's and its services' packages: one distribution holds them all, so their modules count one by one."""

_ALWAYS = ("millrace.runtime.code", "millrace.runtime.phases", "millrace.runtime.stage")
"""What stands between a command and the stage's code."""

_CANNOT_MATTER = ("millrace.bus", "millrace.ledger", "millrace.client", "millrace.cli")
"""What carries and keeps work, and what users hold in hand: it cannot change what a stage makes."""

_FRONT_DOORS = frozenset({"millrace", "millrace_gateway", "millrace_conductor"})

_DYNAMIC = frozenset({"millrace.architectures.registry"})
"""Modules that import others of their package by a name made at run time."""

_SKIPPED = frozenset({".git", ".venv", "venv", "node_modules", "__pycache__", "build", "dist", "tests"})

_COMMENT_OR_CONTINUATION = re.compile(r"#[^\n]*|\\\r?\n")
_IMPORT = re.compile(r"(?:^|[;:])[ \t]*(?:from\b\s*([.\w]+?)\s*\b)?import\b\s*(\([^)]*\)|[^\n;]*)", re.MULTILINE)
_IMPORTED = re.compile(r"(?:^|,)[\s(]*([.\w]+)")


class WorkerCode:
    """The digests of a worker's kinds. Reading sources takes a fifth of a second, so it is done when first asked for, once."""

    def __init__(self, services: Collection[str]) -> None:
        self._services = services
        self._reading = threading.Lock()
        self._by_kind: Mapping[str, str] | None = None

    @property
    def by_kind(self) -> Mapping[str, str]:
        with self._reading:
            if self._by_kind is None:
                kinds = [kind for kind in installed_kinds().values() if kind.service in self._services]
                self._by_kind = code_digests(kinds, with_functions=FUNCTIONS_SERVICE in self._services)
            return self._by_kind


def code_digests(kinds: Iterable[StageKind], *, with_functions: bool = False) -> Mapping[str, str]:
    """Digest of each kind's code by its name; with functions, also that of what a user's function would find here."""
    digests = {kind.name: _digest(_facts_of(kind)) for kind in kinds}
    return digests | ({FUNCTION_KIND: _digest(_facts_of_functions())} if with_functions else {})


def _digest(facts: Iterable[str]) -> str:
    total = hashlib.sha256(f"python {sys.version_info.major}.{sys.version_info.minor}\n".encode())
    for fact in sorted(set(facts)):
        total.update(f"{fact}\n".encode())
    return total.hexdigest()


def _facts_of(kind: StageKind) -> Iterator[str]:
    """`module name=digest of its source` and `distribution name=version` of all that a kind stands on."""
    own = kind.module.partition(".")[0]
    todo = [kind.module, kind.config.__module__, *_ALWAYS, *kind.preload]
    todo += [] if own in _FRONT_DOORS else _modules_of(own)
    seen: set[str] = set()
    tops: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name in _FRONT_DOORS or name.startswith(_CANNOT_MATTER):
            continue
        seen.add(name)
        top = name.partition(".")[0]
        if top != own and not _is_loose(top):
            tops.add(top)
            continue
        if (path := _source_of(name)) is not None:
            digest, imports = _read(path, name)
            yield f"module {name}={digest}"
            todo += imports
    libraries = (name for top in tops if top not in sys.stdlib_module_names for name in owners_of(top) or (top,))
    yield from (f"distribution {name}={version}" for name, version in versions(libraries, without=OUR_PREFIX))


def _facts_of_functions() -> Iterator[str]:
    for name in _ALWAYS:
        if (path := _source_of(name)) is not None:
            yield f"module {name}={_read(path, name)[0]}"
    for distribution in installed():
        yield f"distribution {distribution.name}={distribution.version}"
    for root in _loose_roots():
        for path in _python_files(root):
            yield f"file {path.relative_to(root)}={hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- sources ---------------------------------------------------------------------------------------------------------


@cache
def _read(path: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Digest of a source, and the modules that it imports, with the packages they are in."""
    source = path.read_bytes()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set(_imports(source.decode(errors="replace"), package))
    if name in _DYNAMIC:
        found |= set(_modules_of(package))
    parents = {".".join(name.split(".")[:n]) for name in found for n in range(1, name.count(".") + 1)}
    return hashlib.sha256(source).hexdigest(), tuple(sorted(found | parents))


def _imports(source: str, package: str) -> Iterator[str]:
    """Modules, and names in modules, that a source of a package imports.

    They are told by their looks: to parse all sources takes a third of a second. A sentence that looks like an import names
    one too many, which errs to the safe side.
    """
    for base, names in _IMPORT.findall(_COMMENT_OR_CONTINUATION.sub("", source)):
        imported = _IMPORTED.findall(names)
        if not base:
            yield from imported
            continue
        level = len(base) - len(base.lstrip("."))
        above = package.split(".")[: package.count(".") + 2 - level] if level else []
        module = ".".join([*above, *filter(None, [base.lstrip(".")])])
        yield from (module, *(f"{module}.{name}" for name in imported))


def _source_of(name: str) -> Path | None:
    """The file of a module; None if it is no module, or not Python's."""
    spec = _spec_of(name)
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


@cache
def _spec_of(name: str) -> ModuleSpec | None:
    package = name.rpartition(".")[0]
    if not package:
        return PathFinder.find_spec(name)
    above = _spec_of(package)
    return PathFinder.find_spec(name, list(above.submodule_search_locations or [])) if above is not None else None


def _modules_of(package: str) -> Iterator[str]:
    """Every module of a package by its dotted name; nothing where it is a single file."""
    path = _source_of(package)
    if path is None or path.name != "__init__.py":
        return
    for inner in sorted(path.parent.rglob("*.py")):
        parts = inner.relative_to(path.parent).with_suffix("").parts
        yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])


@cache
def _is_loose(top: str) -> bool:
    """Whether a package is ours or belongs to no distribution: then its modules count, for it has no version to tell."""
    if top.startswith(OUR_PREFIX):
        return True
    return top not in sys.stdlib_module_names and not owners_of(top) and _source_of(top) is not None


def _loose_roots() -> list[Path]:
    """Directories whose code has no version: on PYTHONPATH, or installed editable."""
    roots = {Path(p).resolve() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p}
    for distribution in metadata.distributions():
        told = json.loads(distribution.read_text("direct_url.json") or "{}")
        if told.get("dir_info", {}).get("editable") and str(told.get("url", "")).startswith("file://"):
            roots.add(Path(told["url"].removeprefix("file://")))
    return sorted(root for root in roots if root.is_dir())


def _python_files(root: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        yield from (Path(directory, name) for name in sorted(names) if name.endswith(".py"))
