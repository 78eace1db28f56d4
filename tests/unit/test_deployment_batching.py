"""Micro-batching: company shares a call of the model, never an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import errors
from millrace_deployment.batching import GreedyBatcher

Request = list[int]
Answer = list[str]


def echo(requests: Sequence[Request]) -> Sequence[Answer | BaseException]:
    """Answers each value by its name; a request with a negative value is at fault."""
    return [errors.InvalidData("negative") if min(r) < 0 else [f"v{value}" for value in r] for r in requests]


def unobserved(_rows: int) -> None:
    """Nobody counts."""


@given(
    arrivals=st.lists(
        st.tuples(st.lists(st.integers(-1, 9), min_size=1, max_size=5), st.booleans()), min_size=1, max_size=40
    ),
    max_batch_rows=st.integers(1, 16),
)
@settings(deadline=None, max_examples=60)
def test_everyone_gets_the_answers_to_their_own_rows(
    arrivals: list[tuple[list[int], bool]], max_batch_rows: int
) -> None:
    async def serve(executor: ThreadPoolExecutor) -> list[Answer | BaseException]:
        batcher = GreedyBatcher(echo, executor=executor, observe=unobserved, max_batch_rows=max_batch_rows)
        waiting = []
        for rows, pause in arrivals:
            waiting.append(batcher.submit(rows, num_rows=len(rows)))
            if pause:
                await asyncio.sleep(0)
        return await asyncio.gather(*waiting, return_exceptions=True)

    with ThreadPoolExecutor(1) as executor:
        answers = asyncio.run(serve(executor))
    for (rows, _), answer in zip(arrivals, answers, strict=True):
        if min(rows) < 0:
            assert isinstance(answer, errors.InvalidData)
        else:
            assert answer == [f"v{value}" for value in rows]


def test_an_idle_model_starts_at_once_and_then_takes_all_that_is_queued() -> None:
    sizes: list[int] = []
    busy, may_go = threading.Event(), threading.Event()

    def slow(requests: Sequence[Request]) -> Sequence[Answer | BaseException]:
        busy.set()
        may_go.wait(5)
        return echo(requests)

    async def serve(executor: ThreadPoolExecutor) -> None:
        batcher = GreedyBatcher(slow, executor=executor, observe=sizes.append)
        first = batcher.submit([1], num_rows=1)
        await asyncio.to_thread(busy.wait, 5)
        rest = [batcher.submit([i], num_rows=1) for i in range(10)]
        may_go.set()
        await asyncio.gather(first, *rest)
        await batcher.drain()

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(serve(executor))
    assert sizes == [1, 10]


def test_a_full_queue_refuses_and_one_large_request_is_taken_by_an_empty_one() -> None:
    may_go = threading.Event()

    def slow(requests: Sequence[Request]) -> Sequence[Answer | BaseException]:
        may_go.wait(5)
        return echo(requests)

    async def serve(executor: ThreadPoolExecutor) -> None:
        batcher = GreedyBatcher(slow, executor=executor, observe=unobserved, max_queued_rows=4)
        taken = [batcher.submit([1], num_rows=1), batcher.submit([2] * 9, num_rows=9)]
        with pytest.raises(errors.Unavailable, match="9 rows waiting"):
            batcher.submit([3], num_rows=1)
        assert batcher.queued_rows == 9
        may_go.set()
        assert [len(answer) for answer in await asyncio.gather(*taken)] == [1, 9]
        assert batcher.queued_rows == 0

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(serve(executor))


def test_who_left_the_queue_costs_the_model_nothing() -> None:
    seen: list[Request] = []
    may_go = threading.Event()

    def slow(requests: Sequence[Request]) -> Sequence[Answer | BaseException]:
        may_go.wait(5)
        seen.extend(requests)
        return echo(requests)

    async def serve(executor: ThreadPoolExecutor) -> None:
        batcher = GreedyBatcher(slow, executor=executor, observe=unobserved)
        waiting = [batcher.submit([i], num_rows=1) for i in range(3)]
        waiting[1].cancel()
        may_go.set()
        await asyncio.gather(waiting[0], waiting[2])

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(serve(executor))
    assert seen == [[0], [2]]


def test_a_model_that_breaks_fails_its_batch_and_serves_the_next() -> None:
    calls = 0

    def broken_once(requests: Sequence[Request]) -> Sequence[Answer | BaseException]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("broken")
        return echo(requests)

    async def serve(executor: ThreadPoolExecutor) -> Answer:
        batcher = GreedyBatcher(broken_once, executor=executor, observe=unobserved)
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.submit([1], num_rows=1)
        return await batcher.submit([2], num_rows=1)

    with ThreadPoolExecutor(1) as executor:
        assert asyncio.run(serve(executor)) == ["v2"]
