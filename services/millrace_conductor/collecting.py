"""Garbage collection of one tenant: trim the ledger by age, mark what is named, sweep what is not.

Why it is safe. Marking begins at M by the store's clock, before any root is read, and only what nothing named and nobody
touched since M - grace is deleted, however long the sweep takes, after however many crashes. Whoever names something later
than M has stored or refreshed it before, and stores touch what is older than half the grace: so it was touched after
M - grace if its writer announced it within the other half. Deletion looks at the age once more, beside writers.

Phases, each of which may be run again: trim, mark (every root, into a file), expand (what manifests name), sweep (the store
in order; the cursor is the last digest), tidy. A row in the ledger says which, and whose; the mark set is a file of this
host. Where that file is not, marking begins anew.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

from millrace.contracts.base import canonical_json
from millrace.ledger import collections, retention, roots
from millrace.ledger.collections import Collection, CollectionPhase
from millrace.ledger.database import Database
from millrace.ledger.retention import Retention
from millrace.ledger.tasks import results_in_order
from millrace.settings import Settings
from millrace.store import BlobInfo, Store
from millrace.store.pages import write_pages
from millrace_conductor.expanding import named_by
from millrace_conductor.marks import Marks, digests_in

BATCH = 500
"""Blobs that are judged, and at most deleted, in one step."""

BEAT_S = 10.0
"""How often the lease is prolonged while nothing else is written."""

HEADS = "tasks/"
"""Refs of tasks: tasks/<run>/..."""

Say = Callable[[CollectionPhase, str], None]
"""Called between steps with the phase and how far it is. Where it sleeps the collection waits, where it raises it ends."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Policy:
    """What goes when. `grace_s` must not be less than any writer's."""

    grace_s: float
    retention: Retention


@dataclass(frozen=True, slots=True)
class Report:
    """What a collection did, or would do: counts of rows by kind, and (blobs, bytes) by reason."""

    tenant: str
    trimmed: Mapping[str, int]
    heads: int
    removed: tuple[int, int]
    kept: Mapping[str, tuple[int, int]]
    leftovers: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """For `millrace gc --json`."""
        return asdict(self)


def policy_of(settings: Settings) -> Policy:
    """The policy that settings state."""
    return Policy(
        grace_s=settings.gc_grace_s,
        retention=Retention(
            runs_days=settings.gc_runs_days,
            cache_days=settings.gc_cache_days,
            uploads_days=settings.gc_uploads_days,
            dead_letters_days=settings.gc_dead_letters_days,
        ),
    )


class Collector:
    """Collects one tenant's garbage; one at a time does, whoever claims the tenant's row."""

    def __init__(
        self,
        database: Database,
        store: Store,
        *,
        policy: Policy,
        folder: Path,
        owner: str,
        say: Say = lambda _phase, _how_far: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._store = store
        self._policy = policy
        self._folder = folder / store.tenant
        self._say = say
        self._clock = clock
        self._row = Collection(store.tenant, "", owner)
        self._beaten_at = time.monotonic()

    def collect(self) -> Report:
        """Begin a collection, or go on with one whose collector is gone, and finish it.

        Raises:
            Conflict: Another collector is at it, or took over.
            Unavailable and others: It goes on where it was when it is called again.
        """
        tenant, owner = self._row.tenant, self._row.owner
        self._row = self._database.transact(
            lambda tx: collections.claim(tx, tenant, owner=owner, now=self._clock())
        )  # fmt: skip
        try:
            return self._go_on()
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong is said already; the lease then runs out by itself
                self._database.transact(lambda tx: collections.release(tx, self._row))
            raise

    def survey(self) -> Report:
        """Say what `collect` would find now; nothing is deleted."""
        begin = self._clock()
        self._row = replace(self._row, untouched_since=self._store.clock() - self._policy.grace_s, started_at=begin)
        trimmed = retention.count_old(self._database, self._row.tenant, self._policy.retention, now=begin)
        self._note(trimmed=trimmed, heads=sum(len(names) for names in self._stale_heads()))
        with tempfile.TemporaryDirectory() as folder, contextlib.closing(Marks(Path(folder) / "marks")) as marks:
            self._mark(marks, beat=lambda: None)
            self._expand(marks, beat=lambda: None)
            for page in _pages(self._store.list_blobs(), BATCH):
                why, doomed = self._judge(marks, page)
                self._account(page, why, doomed)
        return self._report(self._clock())

    # --- phases

    def _go_on(self) -> Report:
        path = self._folder / f"{self._row.id}.marks"
        self._forget_others(path)
        if self._row.phase != "trim" and not path.exists():
            self._save(phase="trim", cursor="", untouched_since=0.0, facts={})
        if self._row.phase == "trim":
            self._trim()
            self._save(phase="mark", untouched_since=self._store.clock() - self._policy.grace_s)
        with contextlib.closing(Marks(path)) as marks:
            if self._row.phase == "mark":
                self._mark(marks, beat=self._beat)
                self._save(phase="expand")
            if self._row.phase == "expand":
                self._expand(marks, beat=self._beat)
                self._save(phase="sweep")
            if self._row.phase == "sweep":
                self._sweep(marks)
                self._save(phase="tidy")
        num = self._store.clear_leftovers(untouched_since=self._row.untouched_since)
        self._note(leftovers=num)
        report = self._report(self._clock())
        self._save(phase="done", finished_at=self._clock())
        self._forget_others(None)
        return report

    def _trim(self) -> None:
        counts = retention.trim(
            self._database, self._row.tenant, self._policy.retention, now=self._clock(), beat=self._beat
        )
        num_heads = 0
        for names in self._stale_heads():
            for name in names:
                self._store.delete_ref(name)
            num_heads += len(names)
            self._beat()
        self._note(trimmed=counts, heads=num_heads)

    def _mark(self, marks: Marks, *, beat: Callable[[], None]) -> None:
        """Read every root. The order of sources is roots.py's; refs are read before the journal, which copies them."""
        finished = marks.finished()
        for name, texts in self._sources():
            if name in finished:
                continue
            for page in texts:
                marks.add({digest for text in page for digest in digests_in(text)}, why=name)
                self._say("mark", name)
                beat()
            marks.finish(name)

    def _expand(self, marks: Marks, *, beat: Callable[[], None]) -> None:
        num = 0
        while page := marks.unseen():
            for digest, why in page:
                named = named_by(self._store, digest)
                marks.see(digest, why=why, files=named.files, named=named.artifacts)
            num += len(page)
            self._say("expand", f"{num} artifacts")
            beat()

    def _sweep(self, marks: Marks) -> None:
        for page in _pages(self._store.list_blobs(after=self._row.cursor), BATCH):
            why, doomed = self._judge(marks, page)
            self._save()  # nothing is deleted by a collector that another one has replaced
            gone, since = set[str](), self._row.untouched_since
            while doomed and (deleted := self._store.delete_blobs(doomed, untouched_since=since)):
                gone |= set(deleted)
                doomed = [digest for digest in doomed if digest not in gone]
                self._save()
            self._account(page, why, gone)
            self._save(cursor=page[-1].digest)
            self._say("sweep", f"{page[-1].digest[:2]} of ff")

    # --- parts

    def _sources(self) -> Iterator[tuple[str, Iterable[list[str]]]]:
        yield "refs", ([self._ref_text(name) for name in page] for page in _pages(self._store.list_refs(), BATCH))
        yield "merges", ([digest] for digest in self._indices())
        for source in roots.SOURCES:
            yield source.name, roots.texts(self._database, source, self._row.tenant)

    def _ref_text(self, name: str) -> str:
        ref = self._store.read_ref(name)
        return "" if ref is None else canonical_json(ref.target)

    def _indices(self) -> Iterator[str]:
        """Indexes that open merges read, of which only commands know: each is written again, which touches it."""
        for run_id, stage, round_ in roots.open_merges(self._database, self._row.tenant):
            rows = results_in_order(self._database, run_id, stage, round_)
            yield write_pages(self._store, "plan", rows).digest

    def _stale_heads(self) -> Iterator[list[str]]:
        """Refs of tasks whose runs are over, some runs' at a time."""
        ended_before = self._clock() - self._policy.grace_s
        by_run = ((run, list(names)) for run, names in groupby(self._store.list_refs(HEADS), _run_of))
        for page in _pages(by_run, BATCH):
            over = retention.runs_without_heads(self._database, [run for run, _ in page], ended_before=ended_before)
            yield [name for run, names in page if run in over for name in names]

    def _judge(self, marks: Marks, page: Sequence[BlobInfo]) -> tuple[dict[str, str], list[str]]:
        """Why marked blobs stay, and which of the others are old enough to go."""
        why = marks.why([blob.digest for blob in page])
        since = self._row.untouched_since
        return why, [blob.digest for blob in page if blob.digest not in why and blob.modified_at < since]

    def _account(self, page: Sequence[BlobInfo], why: Mapping[str, str], gone: Iterable[str]) -> None:
        kept = {name: tuple(counts) for name, counts in self._row.facts.get("kept", {}).items()}
        removed, gone = tuple(self._row.facts.get("removed", (0, 0))), set(gone)
        for blob in page:
            if blob.digest in gone:
                removed = (removed[0] + 1, removed[1] + blob.size_bytes)
            else:
                reason = why.get(blob.digest, "young")
                num, size = kept.get(reason, (0, 0))
                kept[reason] = (num + 1, size + blob.size_bytes)
        self._note(removed=removed, kept=kept)

    def _note(self, **facts: Any) -> None:
        self._row = replace(self._row, facts={**self._row.facts, **facts})

    def _save(self, **changes: Any) -> None:
        """Write how far it is, which keeps the lease."""
        row = replace(self._row, **changes)
        self._database.transact(lambda tx: collections.save(tx, row, now=self._clock()))
        self._row, self._beaten_at = row, time.monotonic()

    def _beat(self) -> None:
        if time.monotonic() - self._beaten_at > BEAT_S:
            self._save()

    def _forget_others(self, path: Path | None) -> None:
        """Remove mark sets of collections that are over."""
        for other in self._folder.glob("*.marks*"):
            if path is None or not other.name.startswith(path.name):
                other.unlink(missing_ok=True)

    def _report(self, now: float) -> Report:
        facts = self._row.facts
        return Report(
            tenant=self._row.tenant,
            trimmed=facts.get("trimmed", {}),
            heads=facts.get("heads", 0),
            removed=tuple(facts.get("removed", (0, 0))),
            kept={name: tuple(counts) for name, counts in facts.get("kept", {}).items()},
            leftovers=facts.get("leftovers", 0),
            seconds=round(now - self._row.started_at, 3),
        )


def _run_of(head: str) -> str:
    return head.split("/")[1]


def _pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page
