"""`millrace migrate`: bring the ledger's schema up to date ahead of an upgrade, or say whether that is needed."""

from __future__ import annotations

from dataclasses import asdict

import click

from millrace.cli.options import json_option, print_json
from millrace.settings import load_settings


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if a migration is due.")
@json_option
def migrate(check: bool, as_json: bool) -> int:
    """Bring the ledger's schema up to date. Conductors and gateways do the same when they start.

    It is safe beside running processes, may be interrupted, and goes on where it was. Older code that a migration would
    break is named, and the migration refused until it is stopped.
    """
    from millrace.ledger import migrating
    from millrace.ledger.connect import open_database
    from millrace.ledger.migrations import CODE

    database = open_database(load_settings().database)
    try:
        schema = migrating.read_schema(database) if check else migrating.migrate(database)
    finally:
        database.close()
    if as_json:
        print_json({**asdict(schema), "code": CODE})
    else:
        click.echo(f"{schema.describe(code=CODE)}.")
    return 1 if schema.version < CODE or schema.oldest_code > CODE else 0
