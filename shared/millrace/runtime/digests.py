"""The stage code digest: which code a worker would execute for a kind, so that a cache or a conductor can tell.

It covers the sources of the kind's own package, every module of ours or beside it that those import, however deep and
wherever in a function, the versions of all distributions that they stand on, and Python's. Reading imports from the sources
imports nothing. Of a user's function nobody knows what it will import: it counts all that is installed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from millrace.contracts.graph import FUNCTIONS_SERVICE
from millrace.contracts.stages import FUNCTION_KIND, StageKind, installed_kinds

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
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


class WorkerCode:
    """The digests of a worker's kinds. Reading sources takes half a second, so it is done when first asked for, once."""

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
    yield from (f"distribution {name}={version}" for name, version in _versions(tops))


def _facts_of_functions() -> Iterator[str]:
    for name in _ALWAYS:
        if (path := _source_of(name)) is not None:
            yield f"module {name}={_read(path, name)[0]}"
    for distribution in metadata.distributions():
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
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    if name in _DYNAMIC:
        found |= set(_modules_of(package))
    parents = {".".join(name.split(".")[:n]) for name in found for n in range(1, name.count(".") + 1)}
    return hashlib.sha256(source).hexdigest(), tuple(sorted(found | parents))


@cache
def _source_of(name: str) -> Path | None:
    """The file of a module; None if it is no module, or not Python's."""
    search: list[str] | None = None
    spec = None
    for depth in range(1, name.count(".") + 2):
        spec = PathFinder.find_spec(".".join(name.split(".")[:depth]), search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


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
    return top not in sys.stdlib_module_names and not _distributions_of(top) and _source_of(top) is not None


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


# --- distributions ---------------------------------------------------------------------------------------------------


def _versions(tops: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name, version) of the distributions that packages belong to, and of all that those require in turn."""
    todo = [name for top in tops if top not in sys.stdlib_module_names for name in _distributions_of(top) or (top,)]
    seen: set[str] = set()
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name not in seen and name != OUR_PREFIX:
            seen.add(name)
            version, requires = _distribution(name)
            yield name, version
            todo += requires


@cache
def _distributions_of(top: str) -> tuple[str, ...]:
    return tuple(_all_distributions().get(top, ()))


@cache
def _all_distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def _distribution(name: str) -> tuple[str, tuple[str, ...]]:
    """A distribution's version, `absent` if it is not installed, and what it requires without extras."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return "absent", ()
    needed = (text for text in found.requires or () if "extra ==" not in text.replace("'", '"'))
    return found.version, tuple(match[0] for text in needed if (match := _NAME.match(text)))
