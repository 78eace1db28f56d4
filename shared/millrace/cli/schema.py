"""`millrace schema`: what an editor needs to complete and check pipeline files."""

from __future__ import annotations

import click

from millrace.cli.options import json_option, print_json


@click.command()
@json_option
def schema(as_json: bool) -> int:  # noqa: ARG001 - it prints JSON either way
    """Print the JSON Schema of pipeline files, with the settings of every installed stage kind.

    For editors with yaml-language-server: save it, and begin the pipeline with
    `# yaml-language-server: $schema=pipeline.schema.json`.
    """
    from millrace.contracts.editors import pipeline_schema
    from millrace.contracts.stages import installed_kinds

    print_json(pipeline_schema(installed_kinds()))
    return 0
