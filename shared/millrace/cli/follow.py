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

from millrace.cli.options import duration
from millrace.contracts.views import EventView, SignalView

MARKS = {"succeeded": "✓", "failed": "✗", "rejected": "✗", "skipped": "-", "cancelled": "-"}
STYLES = {"succeeded": "green", "failed": "red", "rejected": "yellow", "skipped": "dim", "cancelled": "dim"}
PLAIN_EVERY_S = 5.0


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
    rate: float = 0.0
    rate_from: tuple[float, float] = (0.0, 0.0)
    printed: float = 0.0

    def hear(self, signal: SignalView, now: float) -> None:
        """Take in progress; the rate is over what was done since the attempt's first word."""
        payload = signal.payload
        self.done, self.total = float(payload["done"]), float(payload["total"])
        self.unit, self.values = str(payload.get("unit", "")), payload.get("values", {})
        since, at = self.rate_from
        if not since or self.done < at:
            self.rate_from = (now, self.done)
        elif now > since:
            self.rate = (self.done - at) / (now - since)

    @property
    def share(self) -> float:
        whole = self.num_tasks if self.num_tasks > 1 else self.total
        part = self.num_done if self.num_tasks > 1 else self.done
        return min(1.0, part / whole) if whole else 0.0

    def details(self) -> str:
        """Rate, time left and values, such as `412 rows/s, 3 s left, loss 0.31`."""
        parts = []
        if self.num_tasks > 1:
            parts.append(f"{self.num_done}/{self.num_tasks} tasks")
        if self.rate > 0:
            parts.append(
                f"{self.rate:,.0f} {self.unit or 'steps'}/s"
                if self.rate >= 10
                else f"{self.rate:.2g} {self.unit or 'steps'}/s"
            )
            if self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / self.rate)} left")
        parts += [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.values.items()]
        return ", ".join(parts)


class Board:
    """The state of the display: folded from events and signals, rendered on demand."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.stages: dict[str, StageLine] = {}

    def hear(self, message: EventView | SignalView) -> None:
        now = time.monotonic()
        if isinstance(message, SignalView):
            line = self.stages.get(message.stage)
            if line is not None and message.kind == "progress":
                line.hear(message, now)
            return
        data = message.data
        if message.type == "run.started.v1":
            self.stages = {name: StageLine(name) for name in data["stages"]}
        line = self.stages.get(str(data.get("stage", "")))
        if line is None:
            return
        if message.type == "stage.started.v1":
            line.status, line.began = "running", now
        elif message.type == "stage.planned.v1":
            line.num_tasks, line.num_done = int(data["num_tasks"]), 0
        elif message.type == "attempt.succeeded.v1" and data["phase"] == "work":
            line.num_done += 1
        elif message.type == "stage.finished.v1":
            line.status, line.ended = str(data["status"]), now

    def render(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for line in self.stages.values():
            table.add_row(*_row(line))
        return Group(Text(self.title, style="bold"), table)

    def text(self, line: StageLine) -> str:
        took = f" in {duration(line.ended - line.began)}" if line.ended and line.began else ""
        return f"{line.name}: {line.status}{took}"


def _row(line: StageLine) -> tuple[Any, ...]:
    if line.status == "running":
        bar = ProgressBar(total=1.0, completed=line.share, width=24, pulse=not line.share)
        elapsed = duration(time.monotonic() - line.began)
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


def show(console: Console, title: str, messages: Iterable[EventView | SignalView]) -> None:
    """Show a run until its messages end: live in a terminal, else a line per change."""
    board = Board(title)
    if not console.is_terminal:
        _show_plain(console, board, messages)
        return
    with Live(get_renderable=board.render, console=console, refresh_per_second=8, transient=False):
        for message in messages:
            board.hear(message)


def _show_plain(console: Console, board: Board, messages: Iterable[EventView | SignalView]) -> None:
    console.print(board.title, highlight=False)
    for message in messages:
        board.hear(message)
        line = board.stages.get(
            message.stage if isinstance(message, SignalView) else str(message.data.get("stage", ""))
        )
        if line is None:
            continue
        if isinstance(message, EventView) and message.type in ("stage.started.v1", "stage.finished.v1"):
            console.print(board.text(line), highlight=False)
        elif isinstance(message, SignalView) and time.monotonic() - line.printed > PLAIN_EVERY_S and line.details():
            line.printed = time.monotonic()
            console.print(f"{line.name}: {line.share:.0%}, {line.details()}", highlight=False)
