"""`millrace gc`: collect garbage now, or say what would go."""

from __future__ import annotations

import json

import click

from millrace.cli.options import json_option


@click.command()
@click.option("--dry-run", is_flag=True, help="Delete nothing; say what would go, and why the rest stays.")
@click.option(
    "--grace", "grace_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Instead of MILLRACE_GC_GRACE_S."
)
@click.option("--idle", is_flag=True, help="Nothing else uses the store now, so that any grace is safe.")
@json_option
def gc(dry_run: bool, grace_s: float | None, idle: bool, as_json: bool) -> int:
    """Collect garbage now: artifacts that nothing names, old events and tasks, unused answers, unfinished uploads.

    Conductors do the same once a day. It needs the ledger and the store, and is safe beside everything that runs.
    """
    from millrace.runtime.service import find_service

    options = {"dry_run": dry_run, "grace_s": grace_s, "idle": idle, "json": as_json}
    return find_service("conductor")(["gc", json.dumps(options)])
