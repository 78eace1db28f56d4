"""`millrace run` and `millrace plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from millrace import errors
from millrace.cli.options import json_option, open_client, parse_pairs, parse_value, plain, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from millrace.client import Client
    from millrace.client.runs import Run
    from millrace.contracts.pipelines import Graph
    from millrace.contracts.views import RunView

CANCEL_S = 20.0
"""How long an interrupted command waits for its run to end; a child that ignores the wish is killed sooner."""

data_option = click.option(
    "--data",
    "data",
    multiple=True,
    metavar="[NAME=]PATH",
    help="A file, directory or s3:// URL for a data set parameter.",
)
param_option = click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter's value.")
no_cache_option = click.option(
    "--no-cache", "cache", flag_value="off", default=None, help="Neither take answers from the cache nor keep any."
)
refresh_option = click.option(
    "--refresh", "cache", flag_value="refresh", help="Compute all anew, and keep the answers."
)


@click.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@data_option
@param_option
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A word of your own to find the run by.")
@click.option("--priority", default=0, show_default=True, type=click.IntRange(-100, 100), help="Higher goes first.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of everything random in the run.")
@click.option("--key", default="", help="Idempotency key: the same key starts one run, however often it is given.")
@no_cache_option
@refresh_option
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    help="A directory to download what the stages made into, whether or not the run succeeds.",
)
@click.option(
    "--follow/--detach", default=True, show_default=True, help="Follow the run to its end, or return at once."
)
@json_option
def run(
    pipeline: Path, data: tuple[str, ...], params: tuple[str, ...], labels: tuple[str, ...], priority: int, seed: int,
    key: str, cache: Any, save: Path | None, follow: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run a pipeline file and follow it: stages live, then its reports, endpoint and a sample request.

    The exit code is 0 only if the run succeeded and, where it deployed, the endpoint answered.
    Ctrl-C cancels the run. With --detach it goes on by itself; see `millrace status RUN --follow`.
    """
    from millrace.client import Pipeline

    loaded = Pipeline.load(pipeline)
    values = values_of(data, params)
    with open_client() as client:
        started = client.submit(
            loaded,
            params=values,
            labels=parse_pairs(labels, option="--label"),
            priority=priority,
            seed=seed,
            idempotency_key=key,
            cache=cache or "use",
        )
        if not follow:
            _say_detached(started, client, as_json=as_json)
            return 0
        try:
            code = _follow_json(started) if as_json else _follow_and_report(started, client, loaded.name)
        except KeyboardInterrupt:
            _cancel(started)
            raise
        except errors.RunFailed:  # the report of a gate that failed is what is looked for now
            _save(client, started, save)
            raise
        _save(client, started, save)
        return code


@click.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@data_option
@param_option
@json_option
def plan(pipeline: Path, data: tuple[str, ...], params: tuple[str, ...], as_json: bool) -> int:
    """Show the graph that a run would execute: inputs bound, implied stages added, defaults filled in."""
    from millrace.client import Pipeline

    loaded = Pipeline.load(pipeline)
    with open_client() as client:
        graph = client.plan(loaded, params=values_of(data, params))
    if as_json:
        print_json(graph)
    else:
        _print_graph(graph)
    return 0


def _cancel(run: Run) -> None:
    """What Ctrl-C does to a run that is followed: it is over when the command is, one way or the other."""
    try:
        run.cancel(reason="interrupted in the terminal")
        view = run.wait_end(timeout_s=CANCEL_S)
        click.echo(f"Run {run.id} {view.status}.", err=True)
    except errors.Conflict as error:  # its end came first
        click.echo(error.message, err=True)
    except errors.DeadlineExceeded:
        click.echo(f"Run {run.id} is being cancelled; see `millrace status {run.id}`.", err=True)


def _save(client: Client, run: Run, directory: Path | None) -> None:
    if directory is None:
        return
    for stage in run.refresh().stages:
        for port, artifact in (stage.outputs.artifacts if stage.outputs else {}).items():
            client.download(artifact, directory / stage.name / port)


def values_of(data: Sequence[str], params: Sequence[str]) -> dict[str, Any]:
    """Parameters by name; `--data PATH` without a name is for the parameter `data`."""
    values: dict[str, Any] = {name: parse_value(text) for name, text in parse_pairs(params, option="--param").items()}
    for item in data:
        name, sign, path = item.partition("=")
        name, path = (name, path) if sign and name.isidentifier() else ("data", item)
        if not path:
            raise errors.InvalidInput("Expected [NAME=]PATH; found no path.", field="--data", remedy="Name the data.")
        values[name] = path if path.startswith("s3://") else Path(path).absolute()
    return values


def _follow_json(run: Run) -> int:
    """One JSON document a line: the journal's events, then the run as it ended."""
    import json

    for event in run.follow():
        click.echo(json.dumps(plain(event), ensure_ascii=False))
    view = run.refresh()
    click.echo(json.dumps({"run": plain(view)}, ensure_ascii=False))
    return 0 if view.status == "succeeded" else 1


def _follow_and_report(run: Run, client: Client, name: str) -> int:
    from millrace.cli.follow import check_followed, show
    from millrace.cli.reports import print_report, report_console

    console = report_console()
    show(console, f"{name}  {run.id}", run.follow(signals=True))
    view = run.refresh()
    for stage in view.stages:
        print_report(console, stage)
    check_followed(view)
    _ask_endpoint(console, client, view)
    console.print(f"\n[green]succeeded[/green] {run.id}")
    return 0


def _ask_endpoint(console: Console, client: Client, view: RunView) -> None:
    """Send the sample request to the live endpoint; a wrong or missing answer is an error like any other.

    Raises:
        Unavailable and others: The endpoint did not answer.
    """
    from millrace.cli.reports import answer

    stage = next((s for s in view.stages if s.kind == "deploy" and s.status == "succeeded"), None)
    if stage is None or stage.outputs is None:
        return
    summary = stage.outputs.summary
    endpoint = client.endpoint(str(summary["endpoint"]))
    request = summary["sample_request"]
    if isinstance(request, dict) and "prompt" in request:
        response: Any = endpoint.generate(**request)
    else:
        rows = request.get("rows", [request]) if isinstance(request, dict) else request
        response = endpoint.predict(rows)
    if not response:
        raise errors.Unavailable(f"Endpoint {endpoint.name!r} gave an empty answer.", remedy="See `millrace logs`.")
    console.print(f"\n[bold]endpoint {endpoint.name}[/bold]  {client.url}/v1/endpoints/{endpoint.name}/predict")
    console.print(answer(request, plain(response)))
    if client.started_factory:
        console.print("  The factory of this command stops now. To keep the endpoint: [bold]millrace up[/bold]")


def _say_detached(run: Run, client: Client, *, as_json: bool) -> None:
    if as_json:
        print_json(run.refresh())
        return
    click.echo(run.id)
    if client.started_factory:
        click.echo("It goes on when a factory next runs here: millrace up", err=True)
    else:
        click.echo(f"Follow it with: millrace status {run.id} --follow", err=True)


def _print_graph(graph: Graph) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("stage", "kind", "inputs", "outputs"):
        table.add_column(column, no_wrap=True)
    for stage in graph.stages:
        inputs, sources = [], set()
        for port, bound in stage.inputs.items():
            for binding in bound if isinstance(bound, tuple) else (bound,):
                source = f"{binding.stage}.{binding.port}" if binding.artifact is None else binding.artifact.digest[:12]
                inputs.append(f"{port} = {source}")
                sources.add(binding.stage)
        others = [f"  after {need}" for need in stage.needs if need not in sources]
        name = "\n".join([stage.name, *(["  (implied)"] if stage.implied else []), *others])
        table.add_row(name, stage.kind, "\n".join(inputs), "\n".join(stage.outputs))
    Console().print(table)
