"""Commands about what is served: models, endpoints, predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from millrace import errors
from millrace.cli.options import ago, json_option, open_client, plain, print_json, print_table

MAX_ROWS_FILE_BYTES = 16 * 2**20


@click.command()
@json_option
def models(as_json: bool) -> int:
    """List released models, newest first."""
    with open_client() as client:
        found = client.models()
    if as_json:
        print_json(found)
        return 0
    print_table(
        ("endpoint", "release", "model", "run", "released"),
        [(m.endpoint, str(m.release), m.model.digest[:12], m.run_id, ago(m.released_at)) for m in found],
        empty="Nothing is released yet. A pipeline with a `deploy` stage releases its model.",
    )
    return 0


@click.command()
@click.argument("action", type=click.Choice(["list", "stop"]), default="list")
@click.argument("name", default="")
@json_option
def endpoints(action: str, name: str, as_json: bool) -> int:
    """List endpoints, or stop one: `millrace endpoints stop NAME`."""
    if action == "stop" and not name:
        raise errors.InvalidInput("Which endpoint?", field="NAME", remedy="millrace endpoints stop NAME")
    with open_client() as client:
        found = [client.endpoint(name).stop()] if action == "stop" else client.endpoints()
    if as_json:
        print_json(found)
        return 0
    print_table(
        ("endpoint", "status", "release", "generation", "model", "changed"),
        [
            (
                e.name,
                e.status,
                str(e.release),
                str(e.generation),
                e.model.digest[:12] if e.model else "-",
                ago(e.updated_at),
            )
            for e in found
        ],
        empty="No endpoints yet. A pipeline with a `deploy` stage makes one.",
    )
    return 0


@click.command()
@click.argument("endpoint")
@click.option(
    "--row", "rows", multiple=True, metavar="JSON", help='A row, such as \'{"text": "..."}\'; may be repeated.'
)
@click.option("--file", "file", type=click.Path(path_type=Path), help="A JSON list of rows, or JSON Lines.")
@click.option("--prompt", default="", help="For a language model: the text to go on from.")
@click.option("--max-tokens", default=128, show_default=True, type=click.IntRange(1, 4096))
@click.option("--temperature", default=0.8, show_default=True, type=click.FloatRange(0, 5))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@json_option
def predict(
    endpoint: str, rows: tuple[str, ...], file: Path | None, prompt: str, max_tokens: int, temperature: float, seed: int,
    as_json: bool,
) -> int:  # fmt: skip
    """Ask an endpoint for predictions of rows, or for text that goes on from a prompt."""
    asked = [] if prompt else _rows(rows, file)
    with open_client() as client:
        target = client.endpoint(endpoint)
        if prompt:
            text = target.generate(prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
            click.echo(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) if as_json else prompt + text)
            return 0
        answers = target.predict(asked)
    if as_json:
        print_json(plain(answers))
    else:
        for answer in answers:
            click.echo(json.dumps(answer, ensure_ascii=False))
    return 0


def _rows(texts: tuple[str, ...], file: Path | None) -> list[dict[str, Any]]:
    rows = [_object(text, f"--row {number}") for number, text in enumerate(texts, start=1)]
    if file is not None:
        rows += _rows_of(file)
    if not rows:
        raise errors.InvalidInput(
            "No row was given.", field="--row", remedy="Give --row JSON, --file PATH or --prompt TEXT."
        )
    return rows


def _rows_of(file: Path) -> list[dict[str, Any]]:
    try:
        if file.stat().st_size > MAX_ROWS_FILE_BYTES:
            raise errors.InvalidInput(
                f"{file} is larger than {MAX_ROWS_FILE_BYTES} bytes.",
                field="--file",
                remedy="Use `millrace batch` for many rows.",
            )
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise errors.InvalidInput(f"Cannot read {file}: {error.strerror}.", field="--file") from None
    except UnicodeDecodeError as error:
        raise errors.InvalidInput(
            f"{file} is not UTF-8 text (byte {error.start}).", field="--file", remedy="Save it as UTF-8."
        ) from None
    if text.startswith("["):
        return [_checked(row, f"{file} row {number}") for number, row in enumerate(_json(text, str(file)), start=1)]
    return [
        _object(line, f"{file} line {number}") for number, line in enumerate(text.split("\n"), start=1) if line.strip()
    ]


def _object(text: str, where: str) -> dict[str, Any]:
    return _checked(_json(text, where), where)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise errors.InvalidInput(f"Not valid JSON at character {error.pos + 1}: {error.msg}.", field=where) from None
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        raise errors.InvalidInput("Not JSON that can be read.", field=where) from None


def _checked(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.InvalidInput(
            f"Expected a JSON object with the model's columns; found {str(value)[:60]!r}.", field=where
        )
    return value
