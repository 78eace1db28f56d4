"""Whether what cached answers name is still in the store: asked outside of any transaction, because it may be slow or away."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

from millrace import errors
from millrace.store import Store
from millrace.store.artifacts import read_manifest
from millrace_conductor.relay import StoreOf

log = structlog.get_logger()

KNOWN_S = 10.0
"""How long an artifact that was seen counts as there. One that goes meanwhile is noticed by whoever reads it."""

MAX_KNOWN = 20_000
NUM_THREADS = 8
RETRY_S = 1.0

_DIGEST = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class Named:
    """What an answer needs: artifacts with all their files, and single blobs."""

    artifacts: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.artifacts or self.blobs)


def named_in(answer: Mapping[str, Any]) -> Named:
    """What must be there for an answer to be worth something.

    Of a task's result every text that may be a digest must name a blob: stages put there what they have stored.
    """
    artifacts, blobs = set(_artifacts(answer.get("outputs") or {})), set[str]()
    if plan := answer.get("plan"):
        artifacts.add(str(plan["digest"]))
    for inner, is_artifact in _digests(answer.get("result") or {}):
        (artifacts if is_artifact else blobs).add(inner)
    return Named(frozenset(artifacts), frozenset(blobs))


def _artifacts(outputs: Mapping[str, Any]) -> Iterator[str]:
    for ref in (outputs.get("artifacts") or {}).values():
        yield str(ref["digest"])
    for refs in (outputs.get("lists") or {}).values():
        yield from (str(ref["digest"]) for ref in refs)


def _digests(value: Any) -> Iterator[tuple[str, bool]]:
    """(digest, whether it is an artifact's) of all digests in a JSON value."""
    if isinstance(value, str) and _DIGEST.match(value):
        yield value, False
    elif isinstance(value, list):
        for inner in value:
            yield from _digests(inner)
    elif isinstance(value, Mapping):
        if "artifacts" in value and "summary" in value:  # a whole stage's outputs, as one task's result
            yield from ((digest, True) for digest in _artifacts(value))
        elif "type" in value and "tenant" in value and isinstance(value.get("digest"), str):
            yield str(value["digest"]), True
        else:
            for inner in value.values():
                yield from _digests(inner)


@dataclass(slots=True)
class Verifier:
    """What is known of answers by cache key: whether all that they name is there. Thread-safe.

    Attributes:
        num_threads: How many answers are looked at together; 1: each in turn, in the caller's thread.
    """

    stores: StoreOf
    num_threads: int = NUM_THREADS
    _known: OrderedDict[str, tuple[bool, float]] = field(default_factory=OrderedDict)
    _wanted: dict[str, tuple[str, Named]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wait_until: float = float("-inf")

    def is_whole(self, key: str) -> bool | None:
        """Whether all that the answer names is there; None: not known."""
        with self._lock:
            found = self._known.get(key)
        return None if found is None or time.monotonic() - found[1] > KNOWN_S else found[0]

    def forget(self, key: str) -> None:
        with self._lock:
            self._known.pop(key, None)

    def want(self, wanted: Mapping[str, tuple[str, Named]]) -> bool:
        """Ask about answers, key to (tenant, what it names); whether there is something to look at just now."""
        with self._lock:
            self._wanted.update(wanted)
            return bool(self._wanted) and time.monotonic() >= self._wait_until

    def verify_wanted(self) -> None:
        """Look at what was asked about. While the store is away, it is tried again in a second."""
        with self._lock:
            if not self._wanted or time.monotonic() < self._wait_until:
                return
            wanted, self._wanted = self._wanted, {}
        done = self._look_at(wanted.values())
        now = time.monotonic()
        with self._lock:
            for key, found in zip(wanted, done, strict=True):
                if found is None:
                    self._wanted.setdefault(key, wanted[key])
                    self._wait_until = now + RETRY_S
                else:
                    self._known[key] = (found, now)
                    self._known.move_to_end(key)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)

    def _look_at(self, wanted: Iterable[tuple[str, Named]]) -> list[bool | None]:
        if self.num_threads == 1:
            return [self._look(one) for one in wanted]
        with ThreadPoolExecutor(self.num_threads, thread_name_prefix="verify") as pool:
            return list(pool.map(self._look, wanted))

    def _look(self, wanted: tuple[str, Named]) -> bool | None:
        """Whether it is all there; None while the store does not say."""
        tenant, named = wanted
        try:
            return _is_whole(self.stores(tenant), named)
        except errors.MillraceError as error:
            log.warning("cache_waits", reason=str(error))
            return None


def _is_whole(store: Store, named: Named) -> bool:
    try:
        files = {f.digest for digest in named.artifacts for f in read_manifest(store, digest).files}
    except (errors.NotFound, errors.Corrupt, errors.InvalidData):
        return False
    return all(store.exists(digest) for digest in files | named.blobs)
