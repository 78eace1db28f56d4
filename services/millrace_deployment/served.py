"""A loaded model that answers for one generation of an endpoint. Importing this imports Arrow and a runtime."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import accumulate
from pathlib import Path

import structlog

from millrace import errors
from millrace.contracts.events import EndpointDesired
from millrace.contracts.views import GenerateRequest
from millrace.models.generator import Generator, load_generator
from millrace.models.package import read_card, read_golden
from millrace.models.predictor import Predictor, load_predictor
from millrace.models.rows import from_batch, to_batch
from millrace.models.signature import ModelCard
from millrace_deployment.batching import GreedyBatcher
from millrace_deployment.measures import Measures
from millrace_deployment.registry import Rows

GENERATIVE_TASKS = frozenset({"language_modelling"})

MAX_GENERATIONS = 2
"""Texts of one model that are generated at once; more would only slow each other down on the same cores."""

MAX_WAITING_GENERATIONS = 64

GRACE_S = 0.5
"""A request that has just found this model may be a turn of the loop away from asking it."""

log = structlog.get_logger()


class ServedModel:
    """Answers predictions in batches, or generates text. Loaded and warmed by whoever constructs it, off the loop."""

    def __init__(self, desired: EndpointDesired, *, directory: Path, measures: Measures) -> None:
        """Load and warm.

        Raises:
            InvalidData: The package is wrong, or its model cannot run here.
            ResourceExhausted: It does not fit into memory.
        """
        assert desired.model is not None
        self.desired = desired
        self.digest = desired.model.digest
        self.card: ModelCard = read_card(directory)
        self.is_generative = self.card.task in GENERATIVE_TASKS
        self._measures = measures
        self._predictor: Predictor | None = None
        self._generator: Generator | None = None
        self._num_generations = 0
        self._turns = asyncio.Semaphore(MAX_GENERATIONS)
        try:
            self._load(directory)
        except MemoryError as error:
            raise errors.ResourceExhausted(
                f"Model {self.digest[:12]} does not fit into this host's memory.",
                remedy="Serve a smaller variant, or on a larger host.",
            ) from error
        name = f"model-{desired.name}"
        self._executor = ThreadPoolExecutor(MAX_GENERATIONS if self.is_generative else 1, thread_name_prefix=name)
        self.batcher: GreedyBatcher[Rows, Rows] = GreedyBatcher(
            self._answer_all, executor=self._executor, observe=measures.batch_rows.labels(desired.name).observe
        )

    async def predict(self, rows: Rows) -> Rows:
        """Answer rows in their order.

        Raises:
            InvalidData: A row is at fault; the field says which.
            InvalidInput: This endpoint generates text.
            Unavailable: Too many rows wait.
        """
        if self.is_generative:
            raise errors.InvalidInput(
                f"Endpoint {self.desired.name!r} serves a language model, which generates text.",
                remedy=f"POST a prompt to /v1/endpoints/{self.desired.name}/generate.",
            )
        return await self.batcher.submit(rows, num_rows=len(rows))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[str, None]:
        """Yield pieces of text as they are made; closing the iterator stops the model within a token.

        Raises:
            InvalidInput: This endpoint predicts rows, or the prompt does not fit.
            Unavailable: Too many prompts wait.
        """
        if self._generator is None:
            raise errors.InvalidInput(
                f"Endpoint {self.desired.name!r} does not serve a language model.",
                remedy=f"POST rows to /v1/endpoints/{self.desired.name}/predict.",
            )
        if self._num_generations >= MAX_GENERATIONS + MAX_WAITING_GENERATIONS:
            raise errors.Unavailable(
                f"{self._num_generations} prompts wait, and no more are taken.", remedy="Retry in a few seconds."
            )
        self._num_generations += 1
        try:
            async with self._turns, aclosing(self._stream(self._generator, request)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._num_generations -= 1

    async def close(self) -> None:
        """Answer what is queued, then let the threads go."""
        await asyncio.sleep(GRACE_S)
        await self.batcher.drain()
        while self._num_generations:
            await asyncio.sleep(0.05)
        self._executor.shutdown(wait=False)

    def _load(self, directory: Path) -> None:
        """Load, then run once: the first call of a session compiles and allocates, which no user should wait for."""
        num_threads = len(os.sched_getaffinity(0))
        if self.is_generative:
            self._generator = load_generator(directory, num_threads=num_threads)
            next(self._generator.generate(_WARM_PROMPT, max_tokens=1, temperature=0.0, top_k=0, seed=0), "")
            return
        self._predictor = load_predictor(directory, num_threads=num_threads)
        golden, _ = read_golden(directory)
        for num_rows in (1, golden.num_rows):
            self._predictor.predict(golden.slice(0, num_rows))

    def _answer_all(self, requests: Sequence[Rows]) -> Sequence[Rows | BaseException]:
        """One call for all; if it fails, each alone, so that only who is at fault hears of it."""
        try:
            return self._answer_together(requests)
        except Exception as error:
            if len(requests) > 1:
                return [self._answer_all([rows])[0] for rows in requests]
            if isinstance(error, errors.MillraceError):
                return [error]
            log.exception("prediction_failed", endpoint=self.desired.name, model=self.digest)
            return [_unexpected(self.desired.name, error)]

    def _answer_together(self, requests: Sequence[Rows]) -> Sequence[Rows]:
        assert self._predictor is not None
        signature = self.card.signature
        rows = [row for request in requests for row in request]
        answers = from_batch(self._predictor.predict(to_batch(rows, signature)), signature)
        if len(answers) != len(rows):
            raise errors.StageFailed(f"The model answered {len(answers)} rows to {len(rows)}.")
        ends = list(accumulate(map(len, requests)))
        return [answers[end - len(request) : end] for request, end in zip(requests, ends, strict=True)]

    async def _stream(self, generator: Generator, request: GenerateRequest) -> AsyncGenerator[str, None]:
        """Carry pieces from the generating thread to the loop; `max_tokens` bounds what waits for a slow reader."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        stop = threading.Event()

        def produce() -> None:
            try:
                for piece in _pieces(generator, request):
                    if stop.is_set():
                        return
                    loop.call_soon_threadsafe(pieces.put_nowait, piece)
            finally:
                loop.call_soon_threadsafe(pieces.put_nowait, None)

        counter = self._measures.tokens.labels(self.desired.name)
        producing = loop.run_in_executor(self._executor, produce)
        try:
            while (piece := await pieces.get()) is not None:
                counter.inc()
                yield piece
            await producing
        finally:
            stop.set()


_WARM_PROMPT = "The"


def _pieces(generator: Generator, request: GenerateRequest) -> Iterator[str]:
    return generator.generate(
        request.prompt,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_k=request.top_k,
        seed=request.seed,
    )


def _unexpected(endpoint: str, error: Exception) -> errors.MillraceError:
    return errors.StageFailed(
        f"The model of endpoint {endpoint!r} failed on these rows ({type(error).__name__}).",
        remedy="The model server's log has the cause.",
    )
