"""`millrace data reveal` and `millrace data key-id`: tokens back into what they stand for, by whoever has the key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from millrace import errors
from millrace.settings import Settings, load_settings

if TYPE_CHECKING:  # it imports cryptography
    from millrace.datasets.pii_tokens import Tokens

_MAX_KEY_BYTES = 4096

key_file_option = click.option(
    "--key-file", type=click.Path(path_type=Path), help="A file that holds the key alone; default: MILLRACE_PII_KEY."
)


@click.command()
@click.argument("tokens", nargs=-1)
@click.option(
    "--file", "source", type=click.Path(path_type=Path), help="Text, .jsonl, .csv or .parquet with tokens in it."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the file goes; default: standard output.")
@key_file_option
def reveal(tokens: tuple[str, ...], source: Path | None, out: Path | None, key_file: Path | None) -> int:
    """Turn reversible tokens back into the data they stand for.

    TOKENS are texts with tokens such as '<EMAIL:...>' in them; without any, and without --file, standard input is read.
    The key is never an argument, as other users of the machine can see those.
    """
    if source is not None and tokens:
        raise errors.InvalidInput("Give tokens or --file, not both.", field="--file")
    if out is not None and source is None:
        raise errors.InvalidInput("--out is where a --file goes.", field="--out")
    opener = _opener(key_file)
    if source is None:
        for text in tokens or sys.stdin:
            click.echo(opener.reveal(text.rstrip("\n")))
        return 0
    from millrace.datasets.revealing import reveal_file

    if out is None:
        reveal_file(source, sys.stdout.buffer, tokens=opener)
        return 0
    partial = out.with_name(f".{out.name}.part")
    try:
        with partial.open("wb") as stream:
            reveal_file(source, stream, tokens=opener)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)  # where one token does not open nothing is left
    click.echo(str(out))
    return 0


@click.command("key-id")
@key_file_option
def key_id(key_file: Path | None) -> int:
    """Say which key it is, without giving it away: what a recipe's `key_id` names."""
    click.echo(_opener(key_file).key_id)
    return 0


def _opener(key_file: Path | None) -> Tokens:
    try:
        from millrace.datasets.pii_tokens import Tokens
    except ImportError as error:
        raise errors.InvalidInput(f"Tokens need {error.name}.", remedy="pip install 'millrace[pii]'") from None
    return Tokens(_key(key_file))


def _key(key_file: Path | None) -> str:
    """Raises: InvalidInput: There is no key; what was found is never said."""
    if key_file is None:
        key = load_settings(Settings).pii_key.get_secret_value()
        if not key:
            raise errors.InvalidInput(
                "There is no key.", remedy="Set MILLRACE_PII_KEY, or name a file by --key-file; see docs/privacy.md."
            )
        return key
    if not key_file.is_file():
        raise errors.NotFound(f"There is no file {str(key_file)!r}.", remedy="Correct the path.", field="--key-file")
    with key_file.open("rb") as file:
        raw = file.read(_MAX_KEY_BYTES + 1)
    try:
        key = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        key = ""
    if not key or len(raw) > _MAX_KEY_BYTES or "\n" in key:
        raise errors.InvalidInput(
            f"{key_file} does not hold a key alone: one line of text.",
            remedy="See docs/privacy.md.",
            field="--key-file",
        )
    return key
