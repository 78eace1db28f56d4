"""Commands about flow: queues, limits."""

from __future__ import annotations

import click

from millrace import errors
from millrace.cli.options import json_option, open_client, print_json, print_table
from millrace.contracts.flow import LimitView

USAGE = "millrace limits set KEY MAX, or millrace limits set KEY none"


@click.command()
@json_option
def queues(as_json: bool) -> int:
    """Show what waits and what is at work in each resource class, and the limits at which tasks wait."""
    with open_client() as client:
        view = client.queues()
    if as_json:
        print_json(view)
        return 0
    print_table(
        ("service", "class", "slots", "pending", "dispatched", "running", "of others"),
        [
            (q.service, q.resource_class, *map(str, (q.slots, q.pending, q.dispatched, q.running, q.others_held)))
            for q in view.queues
        ],
        empty="Nothing waits, and no worker has announced itself. Start one with `millrace worker SERVICE`.",
    )
    for limit in view.saturated:
        click.echo(f"limit {limit.key}: {limit.held} of {limit.max} hold it, {limit.waiting} wait")
    return 0


@click.command()
@click.argument("action", type=click.Choice(["list", "set"]), default="list")
@click.argument("key", default="")
@click.argument("maximum", metavar="[MAX]", default="")
@json_option
def limits(action: str, key: str, maximum: str, as_json: bool) -> int:
    """List limits by key, or set one: `millrace limits set KEY MAX`. MAX `none` lets the stages' own hold again."""
    if action == "set" and not (key and maximum):
        raise errors.InvalidInput("Which limit, and how many?", field="KEY" if not key else "MAX", remedy=USAGE)
    with open_client() as client:
        found = [client.set_limit(key, _maximum(maximum))] if action == "set" else client.limits()
    if as_json:
        print_json(found)
        return 0
    print_table(
        ("key", "max", "by", "held", "waiting"),
        [(v.key, "-" if v.max is None else str(v.max), _by(v), str(v.held), str(v.waiting)) for v in found],
        empty="No limits. A stage has one with `limit: {key: gpu:0, max: 1}`.",
    )
    return 0


def _by(view: LimitView) -> str:
    return "operator" if view.ruled else "stages" if view.max is not None else "-"


def _maximum(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or int(text) > 100_000:
        raise errors.InvalidInput(f"Expected 0 to 100000 or none; found {text!r}.", field="MAX", remedy=USAGE)
    return int(text)
