"""Random histories of writers, readers, a clock and a collector that is killed at any step: nothing named is ever missing."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from millrace.contracts.artifacts import Ref
from millrace.ledger.ledger import open_ledger
from millrace.settings import Settings
from millrace.store.artifacts import read_manifest, refresh_artifact, write_manifest
from millrace.store.connect import open_store
from millrace_conductor import collecting
from millrace_conductor.collecting import Collector, policy_of

GRACE_S = 60.0
ANNOUNCE_S = 25.0
"""A writer announces what it stored within less than half the grace."""

ARTIFACTS = {"ab": b"ab", "bc": b"bc", "cd": b"cd", "ad": b"ad"}
"""Artifacts by name: a file a letter, so that they share files."""

names = st.sampled_from(sorted(ARTIFACTS))


class Killed(BaseException):
    """The collector's process dies here."""


class Histories(RuleBasedStateMachine):
    """Time passes by making files older, which is the same and takes none."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        home = Path(self.folder.name)
        self.settings = Settings(home=home, gc_grace_s=GRACE_S)
        self.store = open_store(self.settings)
        self.database = open_ledger(self.settings.database).database
        self.digests = {name: self._put(name) for name in ARTIFACTS}
        self.now = 0.0
        self.put_at = dict.fromkeys(ARTIFACTS, 0.0)
        self.named: dict[str, str] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def _put(self, name: str) -> str:
        files = {letter: letter.encode() for letter in name}
        return write_manifest(self.store, "model", files, meta={}).digest

    @rule(name=names)
    def store_it(self, name: str) -> None:
        assert self._put(name) == self.digests[name]
        self.put_at[name] = self.now

    @rule(name=names, how=st.sampled_from(["ref", "run"]))
    def announce(self, name: str, how: str) -> None:
        if name not in self.named and self.now - self.put_at[name] <= ANNOUNCE_S:
            self._name(name, how)

    @rule(
        name=names, seconds=st.sampled_from([10, 24]), num_steps=st.integers(0, 40), how=st.sampled_from(["ref", "run"])
    )
    def announce_late(self, name: str, seconds: int, num_steps: int, how: str) -> None:
        self.store_it(name)
        self.let_time_pass(seconds)
        self.collect_until_killed(num_steps)
        self.announce(name, how)

    @rule(name=names)
    def submit_by_digest(self, name: str) -> None:
        if name not in self.named and refresh_artifact(self.store, self.digests[name]):
            self._name(name, "run")

    @rule(name=names)
    def forget(self, name: str) -> None:
        how = self.named.pop(name, "")
        if how == "ref":
            self.store.delete_ref(f"names/{name}")
        elif how:
            self.database.transact(lambda tx: tx.run("DELETE FROM inbox WHERE event_id = ?", (name,)))

    @rule(seconds=st.sampled_from([1, 10, 29, 31, 61, 200]))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds
        for path in (Path(self.folder.name) / "store").rglob("?" * 64):
            modified_at = path.stat().st_mtime - seconds
            os.utime(path, (modified_at, modified_at))
        for state, tenant in self.database.read("SELECT state, tenant FROM collections"):
            told = json.loads(state)
            told["untouched_since"] -= seconds
            self.database.transact(
                lambda tx, t=told, o=tenant: tx.run(
                    "UPDATE collections SET state = ? WHERE tenant = ?", (json.dumps(t), o)
                )  # type: ignore[misc]  # bound at once
            )

    @rule(num_steps=st.integers(0, 40))
    def collect_until_killed(self, num_steps: int) -> None:
        left = num_steps

        def step(_phase: str, _how_far: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        collector = Collector(
            self.database, self.store, policy=policy_of(self.settings), folder=self.settings.home / "gc", owner="c", say=step
        )  # fmt: skip
        with contextlib.suppress(Killed):
            collector.collect()

    @rule()
    @precondition(lambda self: any((self.settings.home / "gc").rglob("*.marks")))
    def lose_the_mark_set(self) -> None:
        for path in (self.settings.home / "gc").rglob("*.marks*"):
            path.unlink()

    @invariant()
    def everything_named_is_there(self) -> None:
        for name in self.named:
            for entry in read_manifest(self.store, self.digests[name]).files:
                assert self.store.get_bytes(entry.digest) == entry.path.encode()

    def _name(self, name: str, how: str) -> None:
        self.named[name] = how
        target = {"digest": self.digests[name]}
        if how == "ref":
            ref = Ref(target=target, generation=1, nonce=f"n{self.now}")
            assert self.store.write_ref(f"names/{name}", ref, expected=None)
        else:
            sql = "INSERT INTO inbox (event_id, run_id, event, received_at) VALUES (?,'r',?,0)"
            self.database.transact(lambda tx: tx.run(sql, (name, json.dumps(target))))


def test_nothing_named_is_ever_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "BATCH", 1)  # so that it can be killed after each blob
    run_state_machine_as_test(
        Histories,
        settings=settings(max_examples=10, stateful_step_count=20, deadline=None, derandomize=True, database=None),
    )
