"""A worker's directory for its attempts, held by a lock: it tells what a killed worker left, and whom it held.

A lock that can be taken belongs to the dead. Records survive a SIGKILL, not a power loss: after that, leases tell.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from millrace.contracts.base import Contract
from millrace.contracts.commands import ExecuteAttempt
from millrace.contracts.events import AttemptEvent, Holder

_RECORD = ".holder"


class Record(Contract):
    """Whom a worker held, as its successor reads it."""

    tenant: str
    traceparent: str = ""
    subject: AttemptEvent = Field(description="The fields of every attempt's event.")


class Workdir:
    """A directory with a file for each holder whose end has not been confirmed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, command: ExecuteAttempt, holder: Holder) -> None:
        """Note a holder, before its child starts."""
        subject = {
            "run_id": command.run_id, "stage": command.stage, "phase": command.phase, "index": command.index,
            "round": command.round, "holder": holder.model_dump(),
        }  # fmt: skip
        traceparent = command.trace.get("traceparent", "")
        record = json.dumps({"tenant": command.tenant, "traceparent": traceparent, "subject": subject})
        fd = os.open(self._record(holder), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, record.encode())
        finally:
            os.close(fd)

    def forget(self, holder: Holder) -> None:
        """Forget a holder: whoever must know how it ended does."""
        os.unlink(self._record(holder))

    def _record(self, holder: Holder) -> str:
        return f"{self.path}/{holder.nonce}{_RECORD}"


@contextmanager
def own_workdir(home: Path, worker_id: str) -> Iterator[Workdir]:
    """Make `work/<worker>` under home for the block. What is recorded there at its end, a successor reports."""
    root = home / "work"
    root.mkdir(parents=True, exist_ok=True)
    lock, directory, draft = root / f"{worker_id}.lock", root / worker_id, root / f"{worker_id}.new"
    with draft.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        directory.mkdir()
        draft.rename(lock)  # held before anybody can find it
        try:
            yield Workdir(directory)
        finally:
            if not any(directory.glob(f"*{_RECORD}")):
                _remove(lock)


def bury_dead(home: Path, report: Callable[[Record], bool], *, buried: Callable[[str], None]) -> None:
    """Report every holder of workers that died on this home, then remove what they left.

    Args:
        home: Of the factory.
        report: Says durably that the holder is lost; False: it could not, and the holder is left for another to report.
        buried: Hears the id of each worker of which all was reported.
    """
    for lock in (home / "work").glob("*.lock"):
        with _taken(lock) as is_dead:
            if is_dead and all(report(record) for record in _records(lock.with_suffix(""))):
                _remove(lock)
                buried(lock.stem)


@contextmanager
def _taken(lock: Path) -> Iterator[bool]:
    """Hold a dead worker's lock; False if its worker lives, or another is at it."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _records(directory: Path) -> Iterator[Record]:
    for path in sorted(directory.glob(f"*{_RECORD}")):
        try:
            yield Record.model_validate_json(path.read_bytes())
        except ValidationError:  # its worker was killed as it wrote this, and so before there was a child
            continue


def _remove(lock: Path) -> None:
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
