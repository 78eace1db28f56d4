"""`python -m millrace.cli` and the `millrace` command: one line of help per command, errors without tracebacks."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from millrace import errors
from millrace.cli.lazy import LazyGroup

INTERRUPTED = 130
BROKEN_PIPE = 141

GROUPS = {
    "Pipelines": {
        "init": ("millrace.cli.init:init", "Write a commented pipeline for your data file."),
        "plan": ("millrace.cli.run:plan", "Show the expanded graph of a pipeline without running it."),
        "schema": ("millrace.cli.schema:schema", "Print the JSON Schema of pipeline files, for editors."),
        "run": ("millrace.cli.run:run", "Run a pipeline and follow it to its end."),
        "batch": ("millrace.cli.batch:batch", "Predict a whole data file with a model."),
        "apply": ("millrace.cli.pipelines:apply", "Keep a pipeline; its triggers start runs from now on."),
        "pipelines": ("millrace.cli.pipelines:pipelines", "List kept pipelines, or forget one."),
        "triggers": ("millrace.cli.pipelines:triggers", "List triggers, hold one or let it go on."),
    },
    "Runs": {
        "runs": ("millrace.cli.runs:runs", "List runs, newest first."),
        "status": ("millrace.cli.runs:status", "Show one run, stage by stage."),
        "events": ("millrace.cli.runs:events", "Print a run's journal."),
        "logs": ("millrace.cli.runs:logs", "Print what a run's stages logged."),
        "cancel": ("millrace.cli.wishes:cancel", "End a run."),
        "pause": ("millrace.cli.wishes:pause", "Start nothing more of a run."),
        "resume": ("millrace.cli.wishes:resume", "Go on with a paused run."),
        "retry": ("millrace.cli.wishes:retry", "Go on with a run that failed, from where it failed."),
        "rerun": ("millrace.cli.wishes:rerun", "Start a run's pipeline again, with changes."),
        "dead-letters": ("millrace.cli.wishes:dead_letters", "List tasks that were set aside, and why."),
    },
    "Where results come from": {
        "explain": ("millrace.cli.provenance:explain", "Say why a stage was computed, or from where it was taken."),
        "lineage": ("millrace.cli.provenance:lineage", "Print what something came from, or what came of it."),
        "replay": ("millrace.cli.provenance:replay", "Execute a run again and compare what both made."),
    },
    "Data and models": {
        "data": ("millrace.cli.data:data", "Show, compare, explain, sample and export data sets; list steps."),
        "models": ("millrace.cli.serving:models", "List released models."),
        "endpoints": ("millrace.cli.serving:endpoints", "List endpoints, or stop one."),
        "predict": ("millrace.cli.serving:predict", "Ask an endpoint for predictions or text."),
    },
    "Processes": {
        "up": ("millrace.cli.services:up", "Start a factory and keep it."),
        "worker": ("millrace.cli.services:worker", "Start one worker: millrace worker training."),
        "conductor": ("millrace.cli.services:conductor", "Start one conductor."),
        "gateway": ("millrace.cli.services:gateway", "Start one gateway, the HTTP API."),
        "serve": ("millrace.cli.services:serve", "Start one model server."),
    },
    "Operations": {
        "doctor": ("millrace.cli.doctor:doctor", "Say what is reachable, and what to do about faults."),
        "queues": ("millrace.cli.flow:queues", "Show what waits and what is at work, by resource class."),
        "limits": ("millrace.cli.flow:limits", "List limits by key, or set one."),
        "gc": ("millrace.cli.gc:gc", "Collect garbage now, or say what would go."),
        "migrate": ("millrace.cli.migrate:migrate", "Bring the ledger's schema up to date, or check it."),
    },
}
"""Commands as the help lists them, by subject: import path and caption."""

COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    groups=GROUPS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="First steps: millrace init DATA, then millrace run pipeline.yaml. Shell completion: see README.md.",
)
@click.version_option(version("millrace"), prog_name="millrace")
def cli() -> None:
    """Data goes in, a served, monitored endpoint comes out.

    Commands talk to MILLRACE_URL, else to the factory that runs in MILLRACE_HOME, else they start one for themselves.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code. Errors go to standard error, as JSON where --json was given."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = cli.main(args=arguments, prog_name="millrace", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except errors.MillraceError as error:
        _complain(error, as_json="--json" in arguments)
        return error.exit_code
    except click.ClickException as error:
        if "--json" in arguments:
            _complain(errors.InvalidInput(error.format_message()), as_json=True)
        else:
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return BROKEN_PIPE
    except Exception as error:  # the last resort: whatever it is, the user gets a sentence and what to do
        told = _of_the_system(error) if isinstance(error, OSError) else _unforeseen(error, arguments)
        _complain(told, as_json="--json" in arguments)
        return told.exit_code


def _of_the_system(error: OSError) -> errors.MillraceError:
    """A file that cannot be written or read here."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return errors.ResourceExhausted(f"{where}{error.strerror}.", remedy="Free space there, or name another place.")
    return errors.InvalidInput(f"{where}{error.strerror or error}.", remedy="Correct the path or its permissions.")


def _unforeseen(error: Exception, arguments: Sequence[str]) -> errors.MillraceError:
    """A fault of ours: the traceback goes to a file, the user learns where it is."""
    import traceback

    log = Path(os.environ.get("MILLRACE_HOME") or "~/.millrace").expanduser() / "logs" / "command.log"
    remedy = f"The traceback is in {log}; please report it."
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as out:
            out.write(f"millrace {' '.join(arguments[:1])}\n{''.join(traceback.format_exception(error))}\n")
    except OSError:
        remedy = "Please report it."
    return errors.MillraceError(f"millrace failed in a way it did not foresee ({type(error).__name__}).", remedy=remedy)


def _complain(error: errors.MillraceError, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": errors.to_payload(error)}), err=True)
        return
    where = f"{error.field}: " if error.field else ""
    click.echo(f"{click.style('error', fg='red', bold=True)}: {where}{error.message}", err=True)
    if error.remedy:
        click.echo(f"{click.style('to do', fg='cyan')}: {error.remedy}", err=True)


if __name__ == "__main__":
    sys.exit(main())
