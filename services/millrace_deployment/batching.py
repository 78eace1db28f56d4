"""Greedy micro-batching: whenever the model is idle it takes all that is queued. No timer, so one caller never waits.

A timed window halves the throughput of a quiet server (it waits for company that does not come); a greedy one makes
batches exactly when there is a queue. Requests share a call of the model, never an answer: each gets the slice of
rows it sent, and one with a fault fails alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from millrace import errors

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Job(Generic[Request, Answer]):
    request: Request
    num_rows: int
    future: asyncio.Future[Answer]


class GreedyBatcher(Generic[Request, Answer]):
    """Queues requests of one model. Lives in one event loop; the model runs in the executor, one call at a time.

    Args:
        run: Takes requests, answers in the same order, an exception in place of an answer for a request at fault.
        executor: Where `run` is called.
        observe: Told the number of rows of every call.
        max_batch_rows: Rows of one call; bounds its memory and the wait of who comes next.
        max_queued_rows: Above, new requests are refused: a queue that only grows helps nobody.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Sequence[Answer | BaseException]],
        *,
        executor: Executor,
        observe: Callable[[int], None],
        max_batch_rows: int = 1024,
        max_queued_rows: int = 8192,
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_batch_rows = max_batch_rows
        self._max_queued_rows = max_queued_rows
        self._observe = observe
        self._queue: deque[_Job[Request, Answer]] = deque()
        self._queued_rows = 0
        self._running: asyncio.Future[Any] | None = None

    @property
    def queued_rows(self) -> int:
        return self._queued_rows

    def submit(self, request: Request, *, num_rows: int) -> asyncio.Future[Answer]:
        """Queue a request; the future answers it.

        Raises:
            Unavailable: The queue is full.
        """
        if self._queue and self._queued_rows + num_rows > self._max_queued_rows:
            raise errors.Unavailable(
                f"The endpoint has {self._queued_rows} rows waiting, and takes no more.", remedy="Retry in a second."
            )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(_Job(request, num_rows, future))
        self._queued_rows += num_rows
        if self._running is None:
            self._dispatch()
        return future

    async def drain(self) -> None:
        """Return when nothing is queued or running."""
        while self._running is not None:
            await asyncio.wait((self._running,))
            await asyncio.sleep(0)

    def _take(self) -> list[_Job[Request, Answer]]:
        """What is queued, up to the limit; a request larger than the limit goes alone. Who left is skipped."""
        jobs: list[_Job[Request, Answer]] = []
        rows = 0
        while self._queue and (not jobs or rows + self._queue[0].num_rows <= self._max_batch_rows):
            job = self._queue.popleft()
            self._queued_rows -= job.num_rows
            if not job.future.done():
                jobs.append(job)
                rows += job.num_rows
        return jobs

    def _dispatch(self) -> None:
        jobs = self._take()
        if not jobs:
            self._running = None
            return
        self._observe(sum(job.num_rows for job in jobs))
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._executor, self._run, [job.request for job in jobs])
        self._running.add_done_callback(lambda done: self._settle(jobs, done))

    def _settle(
        self, jobs: Sequence[_Job[Request, Answer]], done: asyncio.Future[Sequence[Answer | BaseException]]
    ) -> None:
        failure = errors.Unavailable("The endpoint stopped.") if done.cancelled() else done.exception()
        answers = [failure] * len(jobs) if failure is not None else done.result()
        for job, answer in zip(jobs, answers, strict=True):
            if job.future.done():
                continue
            if isinstance(answer, BaseException):
                job.future.set_exception(answer)
            else:
                job.future.set_result(answer)
        self._dispatch()
