"""Following a run in a terminal: a line for each stage with bar, rate and time left; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from millrace import errors
from millrace.cli.options import duration, error_of
from millrace.contracts.views import EventView, RunView, SignalView

MARKS = {"succeeded": "✓", "cached": "✓", "failed": "✗", "rejected": "✗", "skipped": "-", "cancelled": "-"}
STYLES = {
    "succeeded": "green",
    "cached": "green",
    "failed": "red",
    "rejected": "yellow",
    "skipped": "dim",
    "cancelled": "dim",
}
PLAIN_EVERY_S = 5.0
RUN_WORDS = {"run.paused.v1": "paused", "run.resumed.v1": "", "run.retried.v1": "retried"}
"""What is said of the run itself from these events on."""
MAX_FAILURES_SHOWN = 3
"""Failed attempts of a stage that are told one by one where there is no terminal; later ones are in `millrace events`."""


@dataclass(slots=True)
class StageLine:
    """What is shown of a stage."""

    name: str
    status: str = "pending"
    began: float = 0.0
    ended: float = 0.0
    num_tasks: int = 0
    num_done: int = 0
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    attempt: str = ""
    rate: float = 0.0
    rate_from: tuple[float, float] = (0.0, 0.0)
    printed: float = 0.0
    is_retried: bool = False
    num_failed: int = 0

    def hear(self, signal: SignalView, now: float) -> None:
        """Take in progress; the rate is over what was done since the attempt, or its present round, began to count.

        Of a stage with many tasks, the tasks are what is counted: their own progress comes from several at once.
        """
        payload = signal.payload
        self.values = payload.get("values") or {}
        if self.num_tasks > 1:
            return
        before = self.attempt, self.unit
        last, self.done, self.total = self.done, _number(payload.get("done")), _number(payload.get("total"))
        self.unit = str(payload.get("unit", ""))
        since, at = self.rate_from
        if before != (signal.attempt_id, self.unit) or self.done < last:
            self.attempt, self.rate_from, self.rate = signal.attempt_id, (now, self.done), 0.0
        elif now > since:
            self.rate = (self.done - at) / (now - since)

    def plan(self, num_tasks: int, now: float) -> None:
        """The stage has so many tasks from now on."""
        self.num_tasks, self.num_done = num_tasks, 0
        self.unit, self.rate, self.rate_from = "tasks", 0.0, (now, 0.0)

    def finish_task(self, now: float) -> None:
        self.num_done += 1
        since, at = self.rate_from
        self.rate = (self.num_done - at) / max(now - since, 1e-3)

    @property
    def amount(self) -> tuple[float, float]:
        """(done, in all), in tasks where there are many, else in the stage's own unit."""
        return (self.num_done, self.num_tasks) if self.num_tasks > 1 else (self.done, self.total)

    @property
    def share(self) -> float:
        done, total = self.amount
        return max(0.0, min(1.0, done / total)) if total else 0.0

    def details(self) -> str:
        """Rate, time left, failed attempts and values, such as `412 rows/s, 3 s left, loss 0.31`."""
        parts = []
        if self.num_tasks > 1:
            parts.append(f"{self.num_done}/{self.num_tasks} tasks")
        if self.rate > 0:
            done, total = self.amount
            number = f"{self.rate:,.0f}" if self.rate >= 10 else f"{self.rate:.2g}"
            parts.append(f"{number} {self.unit or 'steps'}/s")
            if total > done:
                parts.append(f"{duration((total - done) / self.rate)} left")
        if self.num_failed:
            parts.append(f"{self.num_failed} failed {'attempt' if self.num_failed == 1 else 'attempts'}")
        parts += [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.values.items()]
        return ", ".join(parts)


class Board:
    """The state of the display: folded from events and signals, rendered on demand. Times are those of the messages."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.stages: dict[str, StageLine] = {}
        self.note = ""

    def hear(self, message: EventView | SignalView) -> None:
        now = message.time.timestamp()
        if isinstance(message, SignalView):
            line = self.stages.get(message.stage)
            if line is not None and message.kind == "progress":
                line.hear(message, now)
            return
        data = message.data
        if message.type == "run.started.v1":
            self.stages = {name: StageLine(name) for name in data["stages"]}
        elif message.type in RUN_WORDS:
            self.note = RUN_WORDS[message.type]
        if message.type == "run.retried.v1":
            self._begin_again(data["stages"])
        line = self.stages.get(str(data.get("stage", "")))
        if line is None:
            return
        if message.type == "stage.started.v1":
            kept = (line.num_tasks, line.num_done, line.unit) if line.is_retried else (0, 0, "")
            line = StageLine(line.name, "running", began=now, num_tasks=kept[0], num_done=kept[1], unit=kept[2])
            line.rate_from = (now, float(line.num_done))
            self.stages[line.name] = line
        elif message.type == "stage.planned.v1":
            line.plan(int(data["num_tasks"]), now)
        elif message.type == "attempt.succeeded.v1" and data["phase"] == "work":
            line.finish_task(now)
        elif message.type == "attempt.failed.v1":
            line.num_failed += 1
        elif message.type == "stage.finished.v1":
            line.status, line.ended = "cached" if data.get("cached") else str(data["status"]), now

    def _begin_again(self, names: Iterable[str]) -> None:
        """A retried run keeps what succeeded, stages and tasks."""
        for name in names:
            line = self.stages.setdefault(name, StageLine(name))
            line.status, line.ended, line.is_retried = "pending", 0.0, True

    def render(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for line in self.stages.values():
            table.add_row(*_row(line))
        return Group(Text(f"{self.title}  {self.note}".rstrip(), style="bold"), table)

    def text(self, line: StageLine) -> str:
        took = f" in {duration(line.ended - line.began)}" if line.ended and line.began else ""
        return f"{line.name}: {line.status}{took}"


def _row(line: StageLine) -> tuple[Any, ...]:
    if line.status == "running":
        bar = ProgressBar(total=1.0, completed=line.share, width=24, pulse=not line.share)
        elapsed = duration(max(0.0, time.time() - line.began))
        return Spinner("dots"), Text(line.name), bar, Text(elapsed), Text(line.details(), style="dim")
    style = STYLES.get(line.status, "dim")
    took = duration(line.ended - line.began) if line.ended and line.began else ""
    return (
        Text(MARKS.get(line.status, "·"), style=style),
        Text(line.name, style=style),
        Text(line.status, style=style),
        Text(took),
        Text(""),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def show(console: Console, title: str, messages: Iterable[EventView | SignalView]) -> None:
    """Show a run until its messages end: live in a terminal, else a line per change."""
    board = Board(title)
    if not console.is_terminal:
        _show_plain(console, board, messages)
        return
    with Live(get_renderable=board.render, console=console, refresh_per_second=8, transient=False):
        for message in messages:
            board.hear(message)


def check_followed(view: RunView) -> None:
    """Pass a run that succeeded.

    Raises:
        RunFailed: It ended otherwise; with the cause, what to do about it, and how to go on with the run.
    """
    from millrace.client.results import check_succeeded

    try:
        check_succeeded(view)
    except errors.RunFailed as error:
        retry = f"`millrace retry {view.run_id}`"
        if retry not in error.remedy:
            then = f"Go on from there by {retry}, or start anew with changes by `millrace rerun`."
            error.remedy = f"{error.remedy} {then}".lstrip()
        raise


def _show_plain(console: Console, board: Board, messages: Iterable[EventView | SignalView]) -> None:
    console.print(board.title, highlight=False, markup=False)
    for message in messages:
        board.hear(message)
        if isinstance(message, EventView) and message.type in RUN_WORDS:
            console.print(f"run {message.type.split('.')[1]}", highlight=False, markup=False)
        line = board.stages.get(
            message.stage if isinstance(message, SignalView) else str(message.data.get("stage", ""))
        )
        if line is None:
            continue
        if isinstance(message, EventView) and message.type in ("stage.started.v1", "stage.finished.v1"):
            console.print(board.text(line), highlight=False, markup=False)
        elif isinstance(message, EventView) and message.type == "attempt.failed.v1":
            if line.num_failed <= MAX_FAILURES_SHOWN:
                console.print(
                    f"{line.name}: an attempt failed: {error_of(message.data)}", highlight=False, markup=False
                )
        elif isinstance(message, SignalView) and time.monotonic() - line.printed > PLAIN_EVERY_S and line.details():
            line.printed = time.monotonic()
            console.print(f"{line.name}: {line.share:.0%}, {line.details()}", highlight=False, markup=False)
