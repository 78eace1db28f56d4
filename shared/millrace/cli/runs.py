"""Commands that show runs: status, runs, events, logs."""

from __future__ import annotations

import json

import click

from millrace.cli.options import (
    ago,
    duration,
    error_of,
    json_option,
    open_client,
    parse_pairs,
    plain,
    print_json,
    print_table,
)
from millrace.contracts.views import EventView, RunView, StageView

STATUSES = ("queued", "running", "paused", "succeeded", "failed", "rejected", "cancelled")


@click.command()
@click.argument("run_id")
@click.option("--follow", is_flag=True, help="Show it live until it ends.")
@json_option
def status(run_id: str, follow: bool, as_json: bool) -> int:
    """Show one run, stage by stage. With --follow, live; the exit code is then that of the run."""
    from rich.console import Console

    from millrace.cli.follow import show

    with open_client() as client:
        run = client.run(run_id)
        if follow and not as_json:
            show(Console(), f"{run.view.pipeline}  {run.id}", run.follow(signals=True))
        elif follow:
            run.wait_end()
        view, is_resting = run.refresh(), client.started_factory  # it ends with the client
    if as_json:
        print_json(view)
    else:
        print_run(view)
        if is_resting and view.status in ("queued", "running"):
            click.echo("No factory runs here, so it rests. It goes on with: millrace up", err=True)
    return 0 if not follow or view.status == "succeeded" else 1


@click.command()
@click.option("--status", "wanted", type=click.Choice(STATUSES), help="Only runs in this state.")
@click.option("--pipeline", default="", help="Only runs of this pipeline.")
@click.option("--label", default="", metavar="NAME=VALUE", help="Only runs with this label.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@json_option
def runs(wanted: str | None, pipeline: str, label: str, limit: int, as_json: bool) -> int:
    """List runs, newest first."""
    pair = next(iter(parse_pairs([label], option="--label").items())) if label else None
    with open_client() as client:
        page = client.runs(status=wanted, pipeline=pipeline, label=pair, limit=limit)  # type: ignore[arg-type]  # click checked it
    if as_json:
        print_json(page)
        return 0
    print_table(
        ("run", "pipeline", "status", "submitted", "took"),
        [(r.run_id, r.pipeline, r.status, ago(r.submitted_at), _took(r)) for r in page.runs],
        empty="No runs yet. Start one with `millrace run pipeline.yaml`.",
    )
    return 0


@click.command()
@click.argument("run_id")
@click.option("--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--after", default=0, show_default=True, type=click.IntRange(0), help="Only events above this number.")
@json_option
def events(run_id: str, follow: bool, after: int, as_json: bool) -> int:
    """Print a run's journal, an event a line."""
    with open_client() as client:
        run = client.run(run_id)
        for event in run.follow(after=after) if follow else run.events(after=after):
            if as_json:
                click.echo(json.dumps(plain(event), ensure_ascii=False))
            else:
                click.echo(_line(event))
    return 0


@click.command()
@click.argument("run_id")
@click.option("--stage", default="", help="Only this stage.")
@json_option
def logs(run_id: str, stage: str, as_json: bool) -> int:
    """Print what the finished attempts of a run logged, oldest first. What one at work prints comes at its end."""
    with open_client() as client:
        lines = client.run(run_id).logs(stage)
        if as_json:
            print_json(list(lines))
        else:
            for line in lines:
                click.echo(line)
    return 0


def _line(event: EventView) -> str:
    """Number, time, type and stage; below that, what went wrong."""
    line = f"{event.seq:>5}  {event.time:%H:%M:%S.%f}  {event.type:<24} {event.data.get('stage', '')}".rstrip()
    error = error_of(event.data)
    return f"{line}\n{'':7}{error}" if error else line


def print_run(view: RunView) -> None:
    """Print a run: its stages, what they report, what it waits for, and why it ended where that was no success."""
    from rich.text import Text

    from millrace.cli.reports import print_report, report_console

    console = report_console()
    console.print(f"[bold]{view.pipeline}[/bold]  {view.run_id}  {view.status}  {ago(view.submitted_at)}")
    print_table(
        ("stage", "kind", "status", "tasks", "attempts", "took"),
        [
            (
                s.name,
                s.kind,
                _status(s, view),
                f"{s.num_done}/{s.num_tasks}" if s.num_tasks else "",
                str(s.attempts),
                _took(s),
            )
            for s in view.stages
        ],
        empty="No stages.",
    )
    for stage in view.stages:
        print_report(console, stage)
    waiting = [s.name for s in view.stages if view.status == s.status == "running" and not s.attempts]
    if waiting:
        console.print(
            f"{', '.join(waiting)}: waits for a slot, a limit, or another run that computes the same; see millrace queues",
            highlight=False,
        )
    if view.error is not None:
        told = Text(view.stage or view.status, style="red")
        console.print(told.append(f": {view.error.message}", style="default"))
        if view.error.remedy:
            console.print(Text("to do", style="cyan").append(f": {view.error.remedy}", style="default"))


def _status(stage: StageView, run: RunView) -> str:
    if stage.is_cached:
        return "cached"
    return "paused" if run.status == "paused" and stage.status == "running" else stage.status


def _took(view: RunView | StageView) -> str:
    if view.started_at is None or view.finished_at is None:
        return ""
    return duration((view.finished_at - view.started_at).total_seconds())
