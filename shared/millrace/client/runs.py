"""A run and an endpoint as a script holds them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from millrace import errors
from millrace.client import calls
from millrace.client.requests import generate_request, predict_call, rerun_request
from millrace.client.results import Outcome, check_succeeded, reading
from millrace.client.session import Session
from millrace.client.sse import Follower
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import CacheUse
from millrace.contracts.ids import new_run_id
from millrace.contracts.pipelines import RunStatus
from millrace.contracts.provenance import CacheView, ComparisonView
from millrace.contracts.views import (
    TERMINAL_STATUSES,
    EndpointView,
    EventView,
    RunView,
    SignalView,
)

WAIT_S = 30.0
"""One question's longest wait for the run's end; below what proxies cut off."""


class Run:
    """A handle to a run: look, follow, wait, cancel, pause, resume, retry, run again. The run goes on without it."""

    def __init__(self, session: Session, view: RunView) -> None:
        self._session = session
        self._view = view

    @property
    def id(self) -> str:
        return self._view.run_id

    @property
    def view(self) -> RunView:
        """The run as it was when last asked for; `refresh()` asks."""
        return self._view

    @property
    def status(self) -> RunStatus:
        """As it is now; asks unless the run is known to be over."""
        return self._view.status if self._view.status in TERMINAL_STATUSES else self.refresh().status

    def refresh(self) -> RunView:
        """Ask for the run as it is now."""
        self._view = self._session.send(calls.get_run(self.id))
        return self._view

    @overload
    def follow(self, *, signals: Literal[False] = False, after: int = 0) -> Iterator[EventView]: ...

    @overload
    def follow(self, *, signals: bool, after: int = 0) -> Iterator[EventView | SignalView]: ...

    def follow(self, *, signals: bool = False, after: int = 0) -> Iterator[EventView | SignalView]:
        """Yield what happens, from the start until the run's end, once each and in order.

        A connection that drops is opened again where it broke off.

        Args:
            signals: Whether progress, metrics and log lines come too; these are best effort.
            after: Only events with a higher `seq`.

        Raises:
            NotFound: There is no such run.
            Unavailable: The gateway stayed away for two minutes.
        """
        follower = Follower(self.id, signals=signals, after=after)
        while not follower.is_over:
            lost: errors.Unavailable | None = None
            url = self._session.url
            try:
                with self._session.stream(follower.call()) as response:
                    follower.opened(response.status_code)
                    for line in response.iter_lines():
                        item = follower.read(line)
                        if item is not None:
                            yield item
                    follower.closed()
            except errors.Unavailable as error:
                lost = error
            if not follower.is_over:
                time.sleep(follower.lost(lost))
                if lost is not None:
                    self._session.moved(url)

    def wait(self, *, timeout_s: float | None = None) -> RunView:
        """Return the run when it has succeeded.

        Raises:
            RunFailed: It ended otherwise; with stage, cause and remedy.
            DeadlineExceeded: It is not over after timeout_s; it goes on.
        """
        return check_succeeded(self.wait_end(timeout_s=timeout_s))

    def wait_end(self, *, timeout_s: float | None = None) -> RunView:
        """Return the run when it is over, however it ended. Raises DeadlineExceeded as `wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._view.status not in TERMINAL_STATUSES:
            left_s = WAIT_S if deadline is None else deadline - time.monotonic()
            self._view = self._session.send(calls.get_run(self.id, wait_s=max(0.0, min(left_s, WAIT_S))))
            if self._view.status not in TERMINAL_STATUSES and left_s <= 0:
                raise still_running(self._view, timeout_s)
        return self._view

    def result(self, *, timeout_s: float | None = None) -> Result:
        """Wait for the run, and return what it made. Raises as `wait`."""
        return Result(self.wait(timeout_s=timeout_s), self._session)

    def cancel(self, *, reason: str = "") -> RunView:
        """Ask the run to stop; it ends `cancelled` once its attempts did. Raises Conflict if it ended otherwise."""
        self._view = self._session.send(calls.cancel_run(self.id, reason=reason))
        return self._view

    def pause(self, *, reason: str = "") -> RunView:
        """Start nothing more of the run: what works saves a checkpoint and is handed back. Raises Conflict if it ended."""
        self._view = self._session.send(calls.pause_run(self.id, reason=reason))
        return self._view

    def resume(self) -> RunView:
        """Go on with a paused run. Raises Conflict if it ended."""
        self._view = self._session.send(calls.resume_run(self.id))
        return self._view

    def retry(self) -> RunView:
        """Go on with a run that failed, was rejected or cancelled: what succeeded is kept, the other stages begin again.

        Raises:
            Conflict: It succeeded, has not ended, or has released its model.
        """
        self._view = self._session.send(calls.retry_run(self.id))
        return self._view

    def rerun(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        seed: int | None = None,
        cache: CacheUse | None = None,
        idempotency_key: str = "",
    ) -> Run:
        """Start the run's pipeline again, as a new run; what is not given is as it was, data sets too.

        Args:
            params: Values that differ. A data set is an artifact or an `s3://` URL.
            labels: Words besides those of this run.
            cache: `refresh` computes all anew and keeps the answers; `off` neither reads nor writes the cache.

        Raises:
            InvalidSpec: A parameter does not fit, with its name.
        """
        body = rerun_request(params, labels, priority, seed, cache, idempotency_key)
        return Run(self._session, self._session.send(calls.rerun_run(self.id, body)))

    def explain(self, stage: str) -> CacheView:
        """Say whether a stage was answered from the cache, and if not, why. Raises NotFound."""
        return self._session.send(calls.explain_stage(self.id, stage))

    def replay(self) -> Run:
        """Execute the run again as a new one, without the cache and without effects outside; then `compare` both."""
        return Run(self._session, self._session.send(calls.replay_run(self.id, replay=new_run_id())))

    def compare(self, other: str) -> ComparisonView:
        """Compare what this run and another of the same graph made, stage by stage, by digest."""
        return self._session.send(calls.compare_runs(self.id, other))

    def events(self, *, after: int = 0) -> list[EventView]:
        """What was journalled so far, at most 500 after a number."""
        return self._session.send(calls.list_events(self.id, after=after))

    def logs(self, stage: str = "") -> Iterator[str]:
        """Yield the log lines of finished attempts, of one stage or of all."""
        with self._session.stream(calls.stream_logs(self.id, stage=stage)) as response:
            yield from response.iter_lines()

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self._view.pipeline!r}, {self._view.status!r})"


@dataclass(frozen=True, slots=True)
class Result(Outcome):
    """What a run made: `stages`, `model`, `report`, `endpoint`; of a function, `value()`."""

    session: Session

    def value(self, stage: str = "") -> Any:
        """Return what a `@millrace.stage` function returned: JSON as it was, a Report as `{"metrics":, "details":}`.

        Tables, data sets and models are artifacts, to download or to hand on. Of a function that was mapped over items
        and merges nothing: the list, in the items' order.

        Args:
            stage: Its name; the last one that made something unless given.

        Raises:
            NotFound: The run made nothing under that name.
            InvalidInput: The stage has several outputs.
        """
        found = self.returned(stage)
        return [self._read(ref) for ref in found] if isinstance(found, tuple) else found and self._read(found)

    def _read(self, ref: ArtifactRef) -> Any:
        call = reading(ref)
        return ref if call is None else self.session.send(call)

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that the run deployed to. Raises NotFound if it deployed nothing."""
        return Endpoint(self.session, self.session.send(calls.get_endpoint(self.endpoint_name())))


class Endpoint:
    """An address that serves a model."""

    def __init__(self, session: Session, view: EndpointView) -> None:
        self._session = session
        self.view = view

    @property
    def name(self) -> str:
        return self.view.name

    def refresh(self) -> EndpointView:
        """Ask for the endpoint as it is now."""
        self.view = self._session.send(calls.get_endpoint(self.name))
        return self.view

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Ask about rows with the columns that the model was trained on; return one answer a row, in order.

        Raises:
            InvalidData: A row does not fit; with its number and column.
            Unavailable: No server is ready.
        """
        return [dict(answer) for answer in self._session.send(predict_call(self.name, rows)).predictions]

    def generate(
        self, prompt: str, *, max_tokens: int = 128, temperature: float = 0.8, top_k: int = 0, seed: int = 0
    ) -> str:
        """Return the text with which a language model goes on from a prompt; `top_k` 0 allows all tokens.

        Raises as `predict`.
        """
        request = generate_request(prompt, max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed)
        return self._session.send(calls.generate(self.name, request)).text

    def stop(self) -> EndpointView:
        """Stop serving; the releases stay."""
        self.view = self._session.send(calls.stop_endpoint(self.name))
        return self.view

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, release={self.view.release}, {self.view.status!r})"


def still_running(view: RunView, timeout_s: float | None) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(
        f"Run {view.run_id} is {view.status} after {timeout_s:g} s." if timeout_s is not None else view.status,
        remedy="It goes on: wait again, or cancel it.",
    )
