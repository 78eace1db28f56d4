"""Installed distributions: their versions, what they require, and which packages are whose.

`importlib.metadata` parses a distribution's metadata, readme and all, each time it is asked for a name. A worker that starts
asks about all of them, and waits for the answer before it offers its slots: here headers are read, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_SEPARATORS = re.compile(r"[-_.]+")
_RECORDED = re.compile(r'^"?([^/,"\n]+?)(?:/[^,\n]*)?\.py["\n,]', re.MULTILINE)
"""A Python file in a RECORD, by its topmost folder, or by its own name."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution.

    Attributes:
        requires: Names of what it requires without extras.
    """

    name: str
    version: str
    requires: tuple[str, ...]


def installed() -> Iterable[Distribution]:
    """All of them."""
    return _by_name().values()


def owners_of(package: str) -> tuple[str, ...]:
    """Names of the distributions that a topmost package or module came with; empty if none did."""
    return _owners().get(package, ())


def versions(names: Iterable[str], *, without: str) -> Iterator[tuple[str, str]]:
    """(name, version) of distributions and of all that they require in turn, save one; `absent` where it is not here."""
    todo, seen = list(names), {without}
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name not in seen:
            seen.add(name)
            found = _by_name().get(_normalized(name))
            yield name, found.version if found is not None else "absent"
            todo += found.requires if found is not None else ()


@cache
def _distributions() -> tuple[metadata.Distribution, ...]:
    return tuple(metadata.distributions())


@cache
def _by_name() -> Mapping[str, Distribution]:
    """By normalized name: of two the one that Python would import, which comes first."""
    found: dict[str, Distribution] = {}
    for distribution in map(_read, _distributions()):
        found.setdefault(_normalized(distribution.name), distribution)
    return found


def _read(distribution: metadata.Distribution) -> Distribution:
    text = distribution.read_text("METADATA")
    if text is None:  # an egg
        return Distribution(distribution.name, distribution.version, _needed(distribution.requires or ()))
    fields: dict[str, list[str]] = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.lower(), []).append(value.strip())
    [name], [version] = fields["name"], fields["version"]
    return Distribution(name, version, _needed(fields.get("requires-dist", ())))


def _needed(requirements: Iterable[str]) -> tuple[str, ...]:
    needed = (text for text in requirements if "extra ==" not in text.replace("'", '"'))
    return tuple(match[0] for text in needed if (match := _NAME.match(text)))


@cache
def _owners() -> Mapping[str, tuple[str, ...]]:
    owners: dict[str, tuple[str, ...]] = {}
    for distribution in _distributions():
        packages = (distribution.read_text("top_level.txt") or "").split()
        for package in dict.fromkeys(packages or _RECORDED.findall(distribution.read_text("RECORD") or "")):
            owners[package] = (*owners.get(package, ()), _read(distribution).name)
    return owners


def _normalized(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
