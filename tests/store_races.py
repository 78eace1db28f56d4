"""What several processes do to one store at the same moment, for its conformance suite."""

from __future__ import annotations

import multiprocessing
import os
import resource
import uuid
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from millrace.contracts.artifacts import Ref
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store

Step = Callable[..., Any]


def in_processes(num: int, step: Step, settings: Settings, *args: Any) -> list[Any]:
    """Run ``step(store, i, *args)`` in so many processes, which start at the same moment; return what they return."""
    # A fork server: processes are forked from one that has imported all this and has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "store_races", "millrace.store.s3"])
    start, answers = context.Barrier(num), context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(start, answers, step, settings, index, args)) for index in range(num)
    ]
    for process in processes:
        process.start()
    results = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return results


def _run(
    start: Barrier, answers: SimpleQueue[Any], step: Step, settings: Settings, index: int, args: tuple[Any, ...]
) -> None:
    try:
        store = open_store(settings)
        start.wait(60)
        answers.put(step(store, index, *args))
    except BaseException as error:
        answers.put(error)
        raise


def claim(store: Store, index: int, name: str) -> tuple[bool, str]:
    """Try to write an absent ref; return (won, nonce)."""
    nonce = f"writer-{index}"
    return store.write_ref(name, Ref(target={"writer": index}, generation=1, nonce=nonce), expected=None), nonce


def increment(store: Store, index: int, name: str, num_times: int) -> int:
    """Count a ref up by compare-and-set until it succeeded so many times; return that number."""
    num_done = 0
    while num_done < num_times:
        current = store.read_ref(name)
        count = int(current.target["count"]) + 1 if current else 1
        body = Ref(target={"count": count}, generation=count, nonce=uuid.uuid4().hex)
        num_done += store.write_ref(name, body, expected=current)
    return num_done


def put_same(store: Store, index: int, size: int) -> str:
    """Store a blob whose bytes are the same in each process; return its digest."""
    return store.put_bytes(b"same" * (size // 4))


def use_across_a_fork(store: Store, index: int) -> bool:
    """Use one store object in a parent and its forked child at once; return whether both read right bytes."""
    blobs = {store.put_bytes(text): text for text in (b"%d" % number for number in range(20))}
    pid = os.fork()
    is_right = all(store.get_bytes(digest) == text for _ in range(5) for digest, text in blobs.items())
    if pid == 0:
        os._exit(0 if is_right else 1)
    return os.waitpid(pid, 0)[1] == 0 and is_right


class Zeros:
    """A readable stream of zeros that exists nowhere."""

    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        """Return up to size zeros."""
        taken = self._left if size < 0 else min(size, self._left)
        self._left -= taken
        return bytes(taken)


def grow_by_streaming(store: Store, index: int, size: int, destination: Path) -> int:
    """Store a stream and fetch it again; return by how many bytes this process's peak memory grew."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, _ = store.put_stream(Zeros(size))  # type: ignore[arg-type]  # only `read` is called
    store.fetch(digest, destination)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def write_or_collect(store: Store, index: int, num_blobs: int, untouched_since: float) -> list[str]:
    """As process 0 delete all old blobs; return which those were. As another store blobs again; return what is missing."""
    if index == 0:
        return store.delete_blobs([blob.digest for blob in store.list_blobs()], untouched_since=untouched_since)
    numbers = range(num_blobs) if index % 2 else reversed(range(num_blobs))
    return [digest for digest in (store.put_bytes(b"blob %d" % n) for n in numbers) if not store.exists(digest)]
