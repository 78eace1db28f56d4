"""`millrace data steps`: what a recipe can be made of. It reads the schema that editors get, and imports no step's code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click
from click.shell_completion import CompletionItem

from millrace import errors
from millrace.cli.extras import missing_of
from millrace.cli.fields import FieldText, Schema, fields_of
from millrace.cli.options import json_option, print_json

_WIDTH = 100


class _StepName(click.ParamType[str]):
    """Completes to the steps there are."""

    name = "step"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        return [CompletionItem(name) for name in _all_steps()[0] if name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, default="", type=_StepName())
@json_option
def steps(name: str, as_json: bool) -> int:
    """List the steps of recipes, or say of one which fields it has, what it needs, and how it is written.

    A recipe stands under `with.steps` of a clean stage.
    """
    found, definitions = _all_steps()
    if name and name not in found:
        raise errors.NotFound(
            f"There is no step {name[:80]!r}; {errors.nearest(name, found)}",
            remedy="See `millrace data steps`.",
            field="NAME",
        )
    if as_json:
        chosen = {name: found[name]} if name else found
        print_json([_as_json(key, schema, definitions) for key, schema in chosen.items()])
    elif name:
        click.echo(_page(name, found[name], list(fields_of(found[name], definitions))), nl=False)
    else:
        click.echo(_list(found), nl=False)
    return 0


def _all_steps() -> tuple[Mapping[str, Schema], Mapping[str, Schema]]:
    """The schema of each step by name, families together, and the definitions that they refer to."""
    from millrace.contracts.stages import find_kind

    schema = find_kind("clean").config.model_json_schema()
    definitions: Mapping[str, Schema] = schema["$defs"]
    named = {
        name: definitions[reference.rpartition("/")[2]]
        for name, reference in schema["properties"]["steps"]["items"]["discriminator"]["mapping"].items()
    }
    return dict(sorted(named.items(), key=lambda item: (item[1]["x-family"], item[0]))), definitions


def _as_json(name: str, schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    return {
        "step": name,
        "family": schema["x-family"],
        "caption": _caption(schema),
        "extra": schema["x-extra"] or None,
        "is_installed": not _missing(schema),
        "example": schema["x-example"],
        "fields": [asdict(field) for field in fields_of(schema, definitions)],
    }


def _list(found: Mapping[str, Schema]) -> str:
    text = click.HelpFormatter(width=_WIDTH)
    for family, members in groupby(found.items(), key=lambda item: str(item[1]["x-family"])):
        with text.section(family):
            text.write_dl([(name, _caption(schema) + _need(schema)) for name, schema in members], col_max=20)
    text.write("\nOne of them, with its fields and an example: millrace data steps NAME\n")
    return text.getvalue().lstrip("\n")


def _page(name: str, schema: Schema, fields: Iterable[FieldText]) -> str:
    text = click.HelpFormatter(width=_WIDTH)
    text.write(f"{name} ({schema['x-family']})\n")
    for paragraph in str(schema.get("description", "")).split("\n\n"):
        text.write_paragraph()
        with text.indentation():
            text.write_text(paragraph)
    with text.section("Fields"):
        text.write_dl([(f"{f.path}: {f.type}", f"{f.meaning} {_default(f)}".strip()) for f in fields], col_max=30)
    with text.section("Needs"):
        text.write_text(_needs(schema))
    text.write(f"\nExample:\n  steps:\n    - {schema['x-example']}\n")
    return text.getvalue()


def _default(field: FieldText) -> str:
    if field.is_required:
        return "[required]"
    return "" if field.default is None else f"[default: {field.default}]"


def _caption(schema: Schema) -> str:
    return " ".join(str(schema.get("description", "")).split("\n\n")[0].split())


def _missing(schema: Schema) -> list[str]:
    return missing_of(schema["x-extra"] or "cleaning")


def _need(schema: Schema) -> str:
    return f" [not installed: millrace[{schema['x-extra'] or 'cleaning'}]]" if _missing(schema) else ""


def _needs(schema: Schema) -> str:
    extra, missing = schema["x-extra"], _missing(schema)
    if missing:
        return f"pip install 'millrace[{extra or 'cleaning'}]': {', '.join(missing)} not installed here"
    return f"the extra {extra}, which is installed here" if extra else "nothing beside the cleaning service"
