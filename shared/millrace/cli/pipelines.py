"""Commands about pipelines that start by themselves: apply, pipelines, triggers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from millrace import errors
from millrace.cli.options import ago, json_option, open_client, print_json, print_table
from millrace.cli.run import data_option, param_option, values_of
from millrace.contracts.triggers import CronTrigger, TriggerView


@click.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@data_option
@param_option
@json_option
def apply(pipeline: Path, data: tuple[str, ...], params: tuple[str, ...], as_json: bool) -> int:
    """Keep a pipeline file under its name; its `triggers` start runs from now on.

    \b
    triggers:
      - {cron: "0 3 * * *", timezone: Europe/Zurich}          # each night
      - {new_objects: "s3://bucket/reviews/", param: data}    # when new data has come to rest

    --data and --param hold for all those runs. Applying again replaces what was there.
    """
    from millrace.client import Pipeline

    with open_client() as client:
        view = client.apply(Pipeline.load(pipeline), params=values_of(data, params))
    if as_json:
        print_json(view)
        return 0
    click.echo(f"Pipeline {view.name} is kept, version {view.version[:12]}.")
    _print_triggers(view.triggers)
    return 0


@click.command()
@click.argument("action", type=click.Choice(["list", "forget"]), default="list")
@click.argument("name", default="")
@json_option
def pipelines(action: str, name: str, as_json: bool) -> int:
    """List kept pipelines, or forget one and its triggers: `millrace pipelines forget NAME`."""
    if action == "forget" and not name:
        raise errors.InvalidInput("Which pipeline?", field="NAME", remedy="millrace pipelines forget NAME")
    with open_client() as client:
        if action == "forget":
            client.forget_pipeline(name)
        found = client.pipelines()
    if as_json:
        print_json(found)
        return 0
    print_table(
        ("pipeline", "version", "applied", "triggers"),
        [(p.name, p.version[:12], ago(p.applied_at), str(len(p.triggers))) for p in found],
        empty="No pipelines are kept. `millrace apply pipeline.yaml` keeps one.",
    )
    return 0


@click.command()
@click.argument("action", type=click.Choice(["list", "pause", "resume"]), default="list")
@click.argument("trigger_id", default="")
@json_option
def triggers(action: str, trigger_id: str, as_json: bool) -> int:
    """List triggers, hold one or let it go on: `millrace triggers pause TRIGGER`."""
    if action != "list" and not trigger_id:
        raise errors.InvalidInput("Which trigger?", field="TRIGGER", remedy=f"millrace triggers {action} TRIGGER")
    with open_client() as client:
        if action == "pause":
            client.pause_trigger(trigger_id)
        elif action == "resume":
            client.resume_trigger(trigger_id)
        found = [t for p in client.pipelines() for t in p.triggers]
    if as_json:
        print_json(found)
    else:
        _print_triggers(found)
    return 0


def _print_triggers(found: Sequence[TriggerView]) -> None:
    """Two lines each, as ids and times do not fit side by side in a narrow terminal."""
    if not found:
        click.echo("No triggers: nothing starts by itself.")
    for trigger in found:
        click.echo(f"{trigger.trigger_id}  {trigger.pipeline}  {_what(trigger)}")
        click.echo(f"    next {_next(trigger)}  latest run {trigger.latest_run or '-'}")
        if trigger.error:
            click.echo(f"    {click.style('error', fg='red')}: {trigger.error}")


def _what(view: TriggerView) -> str:
    trigger = view.trigger
    return f"cron {trigger.cron} {trigger.timezone}" if isinstance(trigger, CronTrigger) else trigger.new_objects


def _next(view: TriggerView) -> str:
    if view.is_paused:
        return "paused"
    return "never" if view.next_at is None else f"{view.next_at:%Y-%m-%d %H:%M:%S} UTC"
