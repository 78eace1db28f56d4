"""What one does with a run that is there: cancel, pause, resume, retry, run again; and the tasks that were set aside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from millrace.cli.options import ago, json_option, open_client, parse_pairs, parse_value, print_json
from millrace.cli.run import no_cache_option, refresh_option

if TYPE_CHECKING:
    from millrace.client.runs import Run
    from millrace.contracts.views import RunView


@click.command()
@click.argument("run_id")
@click.option("--reason", default="", help="Why; it stands in the journal.")
@json_option
def cancel(run_id: str, reason: str, as_json: bool) -> int:
    """End a run. What it released before stays released. The exit code is 0 only if it ended cancelled.

    A paused or queued run can be cancelled too. `millrace retry` goes on with it later.
    """
    with open_client() as client:
        run = client.run(run_id)
        run.cancel(reason=reason)
        view = run.wait_end()
    _print(view, as_json=as_json)
    return 0 if view.status == "cancelled" else 1


@click.command()
@click.argument("run_id")
@click.option("--reason", default="", help="Why; it stands in the journal.")
@json_option
def pause(run_id: str, reason: str, as_json: bool) -> int:
    """Start nothing more of a run, and free what it holds. The exit code is 0 only if it is paused then.

    \b
    Stages that save checkpoints save one now, and go on from it after `millrace resume`.
    What an attempt finishes before it is asked still counts.
    """
    with open_client() as client:
        view = client.run(run_id).pause(reason=reason)
    _print(view, as_json=as_json)
    return 0 if view.status == "paused" else 1


@click.command()
@click.argument("run_id")
@json_option
def resume(run_id: str, as_json: bool) -> int:
    """Go on with a paused run."""
    with open_client() as client:
        view = client.run(run_id).resume()
    _print(view, as_json=as_json)
    return 0


@click.command()
@click.argument("run_id")
@click.option("--follow", is_flag=True, help="Follow it to its end; the exit code is then that of the run.")
@json_option
def retry(run_id: str, follow: bool, as_json: bool) -> int:
    """Go on with a run that failed, was rejected or cancelled, under its own id.

    \b
    Stages that succeeded are kept; the others begin again. Of a stage with many tasks
    those that succeeded are kept, and the rest resume from their checkpoints.
    To change something first, see `millrace rerun`.
    """
    with open_client() as client:
        run = client.run(run_id)
        last = run.view.seq
        run.retry()
        return _shown(run, after=last, follow=follow, as_json=as_json)


@click.command()
@click.argument("run_id")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter that differs.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A word of your own to find the run by.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher goes first; as it was unless given.")
@click.option("--seed", type=click.IntRange(0), help="Of everything random in the run; as it was unless given.")
@no_cache_option
@refresh_option
@click.option("--key", default="", help="Idempotency key: the same key starts one run, however often it is given.")
@click.option("--follow", is_flag=True, help="Follow it to its end; the exit code is then that of the run.")
@json_option
def rerun(
    run_id: str, params: tuple[str, ...], labels: tuple[str, ...], priority: int | None, seed: int | None,
    cache: Any, key: str, follow: bool, as_json: bool,
) -> int:  # fmt: skip
    """Start a run's pipeline again as a new run, with what you change.

    \b
    The pipeline, its data and all that is not given are as they were, also if the file
    has changed since: millrace rerun RUN --param learning_rate=0.001
    """
    values = {name: parse_value(text) for name, text in parse_pairs(params, option="--param").items()}
    words = parse_pairs(labels, option="--label")
    with open_client() as client:
        again = client.run(run_id).rerun(
            params=values, labels=words, priority=priority, seed=seed, cache=cache or "use", idempotency_key=key
        )
        return _shown(again, after=0, follow=follow, as_json=as_json)


@click.command("dead-letters")
@click.option("--run", "run_id", default="", help="Only of this run.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 200))
@json_option
def dead_letters(run_id: str, limit: int, as_json: bool) -> int:
    """List tasks that were set aside after their last attempt, newest first.

    \b
    A task is poison when it took its worker or child along again and again; undeliverable
    when the broker gave up on it. Its run failed; `millrace retry RUN` tries again.
    """
    with open_client() as client:
        letters = client.dead_letters(run=run_id, limit=limit)
    if as_json:
        print_json(letters)
        return 0
    for x in letters:
        click.echo(
            f"{x.run_id}  {x.stage} {x.phase} {x.index}: {x.reason} after {x.attempts} attempts, {ago(x.died_at)}"
        )
        click.echo(f"  {x.error.message}")
        if x.workers:
            click.echo(f"  held by {', '.join(dict.fromkeys(x.workers))}")
    if not letters:
        click.echo("No dead letters.")
    return 0


def _shown(run: Run, *, after: int, follow: bool, as_json: bool) -> int:
    """Follow a run from an event on, if that is wanted, and print it; the exit code.

    Raises:
        RunFailed: It was followed for people, and ended otherwise than by success; with the cause.
    """
    from rich.console import Console

    from millrace.cli.follow import check_followed, show

    if follow and not as_json:
        show(Console(), f"{run.view.pipeline}  {run.id}", run.follow(signals=True, after=after))
    elif follow:
        run.wait_end()
    _print(run.refresh(), as_json=as_json)
    if follow and not as_json:
        check_followed(run.view)
    return 0 if not follow or run.view.status == "succeeded" else 1


def _print(view: RunView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
    else:
        click.echo(f"{view.run_id} {view.status}")
