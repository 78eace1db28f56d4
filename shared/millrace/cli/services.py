"""Commands that start services: the whole factory under a supervisor, or one independent process."""

from __future__ import annotations

import click


@click.command()
@click.option("--attached", is_flag=True, help="End when standard input closes; for programs that start a factory.")
def up(attached: bool) -> int:
    """Start a factory and keep it: gateway, conductor, workers and model server.

    Embedded under MILLRACE_HOME unless MILLRACE_BROKER_URL, MILLRACE_DATABASE_URL and MILLRACE_STORE_URL are set. What
    dies is started again; Ctrl-C stops everything cleanly, and open runs go on at the next start.
    """
    from millrace.cli.factory import run_factory

    return run_factory(attached=attached)


@click.command()
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
@click.option("--classes", default="cpu", show_default=True, help="Resource classes, such as cpu or gpu, by commas.")
def worker(services: tuple[str, ...], classes: str) -> int:
    """Start one worker for some services: cleaning, training, evaluation, optimization, deployment, functions, or all.

    It needs the broker and the store, and nothing else. MILLRACE_SLOTS says how many attempts run at once.
    """
    return _start("worker", *services, "--classes", classes)


@click.command()
def conductor() -> int:
    """Start one conductor. Any number may run beside each other."""
    return _start("conductor")


@click.command()
def gateway() -> int:
    """Start one gateway on MILLRACE_GATEWAY_HOST:MILLRACE_GATEWAY_PORT."""
    return _start("gateway")


@click.command()
def serve() -> int:
    """Start one model server on MILLRACE_SERVE_HOST:MILLRACE_SERVE_PORT. It serves every endpoint."""
    return _start("serve")


def _start(*arguments: str) -> int:
    from millrace.runtime.service import main

    return main(list(arguments))
