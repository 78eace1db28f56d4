"""Where results come from: explain the cache, walk lineage, replay a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from millrace.cli.options import json_option, open_client, print_json, print_table

if TYPE_CHECKING:
    from millrace.contracts.provenance import CacheView, LineageNode

SHORT = 12
"""Digits of a digest that people read; `--json` has all of them."""


@click.command()
@click.argument("run_id")
@click.argument("stage", required=False)
@json_option
def explain(run_id: str, stage: str | None, as_json: bool) -> int:
    """Say whether stages of a run were answered from the cache, and if not, why.

    A miss is told field by field against the nearest earlier run of that pipeline and stage.
    """
    with open_client() as client:
        run = client.run(run_id)
        views = [run.explain(name) for name in ([stage] if stage else [s.name for s in run.view.stages])]
    if as_json:
        print_json(views)
        return 0
    for view in views:
        _print_cache(view)
    return 0


@click.command()
@click.argument("artifact")
@click.option("--forward", is_flag=True, help="What came of it, in place of what it came from.")
@json_option
def lineage(artifact: str, forward: bool, as_json: bool) -> int:
    """Print what something came from: data, code and pipeline; or, forward, what came of it: models and endpoints.

    ARTIFACT is a digest or its start, a run's id, or the name of an endpoint.
    """
    with open_client() as client:
        view = client.lineage(artifact, forward=forward)
    if as_json:
        print_json(view)
        return 0
    for root in view.roots:
        for line in _lines(root, ""):
            click.echo(line)
    return 0


@click.command()
@click.argument("run_id")
@json_option
def replay(run_id: str, as_json: bool) -> int:
    """Execute a run again without the cache, and compare what both made by digest.

    Stages with effects outside, such as deploy, are left out. The exit code is 0 only if nothing differs that should not.
    A stage that did not succeed in both is `missing`, and counts as one that differs.
    """
    from rich.console import Console

    from millrace.cli.follow import show

    with open_client() as client:
        run = client.run(run_id)
        again = run.replay()
        if not as_json:
            show(Console(), f"replay  {again.id}", again.follow(signals=True))
        ended = again.wait_end()
        found = run.compare(again.id)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found.run_id} replayed as {found.replay}")
        if ended.status != "succeeded":
            click.echo(f"The replay {ended.status}; see: millrace status {found.replay}", err=True)
        rows = [(s.stage, s.kind, s.verdict.replace("_", " "), ", ".join(s.ports)) for s in found.stages]
        print_table(("stage", "kind", "verdict", "ports that differ"), rows, empty="No stages.")
    return 0 if found.is_equal else 1


def _print_cache(view: CacheView) -> None:
    click.echo(f"{view.stage}: {view.answer} - {view.reason}")
    for look in view.looks:
        if look.reason:  # it was not looked up, for the reason above
            continue
        where = look.phase if not look.round else f"{look.phase} of round {look.round}"
        click.echo(f"  {where}: {look.num_hits} from the cache, {look.num_shared} shared, {look.num_misses} computed")
        if look.compared_with and look.differences:
            click.echo(f"  differs from {look.compared_with} in:")
        elif look.compared_with:
            click.echo(f"  the key is that of {look.compared_with}: its answer came later, or what it names is gone")
        elif look.num_misses:
            click.echo("  no earlier run of this pipeline and stage has left an answer")
        for change in look.differences:
            click.echo(f"    {change.field}: {_short(change.before) or '-'} -> {_short(change.now) or '-'}")


def _lines(node: LineageNode, indent: str) -> Iterator[str]:
    """Two lines an artifact, which fit a narrow terminal: what it is and who made it; of what, and where it serves."""
    name = f"{indent}{node.port} {node.digest[:SHORT]}" if node.port else indent + node.digest[:SHORT]
    if node.is_repeated:
        yield f"{name} (see above)"
        return
    m = node.maker
    yield f"{name} {f'by {m.stage} of {m.pipeline}, {m.run_id}' if m is not None else 'given'}"
    words = (
        []
        if m is None
        else [f"spec {m.spec_digest[:SHORT]}, code {m.code_digest[:SHORT] or 'not told'}, seed {m.seed}"]
    )
    words += [f"released as {release}" for release in node.serves]
    if words:
        yield f"{indent}    {'; '.join(words)}"
    for child in node.children:
        yield from _lines(child, indent + "  ")


def _short(text: str) -> str:
    """A value for people: digests by their first digits."""
    parts = text.split(",")
    if all(len(part) == 64 for part in parts):
        return ",".join(part[:SHORT] for part in parts)
    return text if len(text) <= 100 else text[:99] + "…"
