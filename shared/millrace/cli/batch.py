"""`millrace batch`: predict a whole data file."""

from __future__ import annotations

from pathlib import Path

import click

from millrace.cli.options import json_option, open_client


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Where the predictions go, as Parquet.")
@json_option
def batch(model: str, data: str, out: Path, as_json: bool) -> int:
    """Predict every row of DATA with MODEL (an endpoint's name or a model's digest), in parallel shards.

    DATA is a file, a directory or an s3:// URL. The result has one row per input row, aligned by row_id.
    """
    import json

    with open_client() as client:
        written = client.batch(model, data, out=out)
    click.echo(json.dumps({"out": str(written)}) if as_json else str(written))
    return 0
