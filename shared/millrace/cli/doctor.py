"""`millrace doctor`: what is configured, what is reachable, which devices there are, and what to do about each fault."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import click

from millrace import errors
from millrace.cli.extras import EXTRAS, missing_of
from millrace.cli.options import json_option, print_json, size
from millrace.settings import Settings, load_settings

FREE_BYTES = 2 * 10**9
"""Below this the disk is named: a run of the examples writes some hundred megabytes."""

PREFIX = "MILLRACE_"
OF_OTHERS = ("MILLRACE_URL", "MILLRACE_GATEWAY_")
"""Variables, or beginnings of them, that are no fields of Settings: the clients' and the gateway's own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "fault", "note"]
    detail: str
    remedy: str = ""


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what is configured, reachable and installed, and what to do about each fault. Exit code 1 if there is one."""
    findings = examine()
    if as_json:
        print_json([asdict(f) for f in findings])
    else:
        _print(findings)
    return 1 if any(f.state == "fault" for f in findings) else 0


def examine() -> list[Finding]:
    """Look at everything; nothing is changed but a probe object in the store."""
    try:
        settings = load_settings(Settings)
    except errors.MillraceError as error:
        return [Finding("settings", "fault", f"{error.field}: {error.message}", error.remedy)]
    return [
        Finding("python", "ok", f"{sys.version.split()[0]}, {os.cpu_count()} cores"),
        _home(settings),
        _checked("broker", _shown(settings.broker), lambda: _check_broker(settings)),
        _ledger(settings),
        _checked("store", _shown(settings.store), lambda: _check_store(settings)),
        _factory(settings),
        *_devices(),
        *unread_variables(os.environ),
        *(_extra(name) for name in EXTRAS),
    ]


def _home(settings: Settings) -> Finding:
    place = settings.home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding("home", "fault", f"{place} cannot be written", "Set MILLRACE_HOME to a directory of your own.")
    free = shutil.disk_usage(place).free
    if free < FREE_BYTES:
        return Finding(
            "home", "fault", f"{settings.home} has {size(free)} free", "Free disk space, or move MILLRACE_HOME."
        )
    return Finding("home", "ok", f"{settings.home}, {size(free)} free")


def _checked(what: str, url: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except errors.MillraceError as error:
        return Finding(what, "fault", f"{error.field or url}: {error.message}", error.remedy)
    return Finding(what, "ok", url)


def _check_broker(settings: Settings) -> None:
    from millrace.bus.connect import connect

    bus = connect(settings.broker)
    try:
        bus.check()
    finally:
        bus.close()


def _ledger(settings: Settings) -> Finding:
    """Its schema is read and not migrated: this may be the new version, tried out beside the old one."""
    from millrace.ledger.connect import open_database
    from millrace.ledger.migrating import read_schema
    from millrace.ledger.migrations import CODE

    shown = _shown(settings.database)
    try:
        database = open_database(settings.database)
        try:
            schema = read_schema(database)
        finally:
            database.close()
    except errors.MillraceError as error:
        return Finding("ledger", "fault", f"{error.field or shown}: {error.message}", error.remedy)
    detail = f"{shown}, {schema.describe(code=CODE)}"
    if schema.oldest_code > CODE:
        return Finding("ledger", "fault", detail, "Upgrade Millrace.")
    if 0 < schema.version < CODE:
        return Finding(
            "ledger", "note", detail, "The first conductor or gateway to start does it, or `millrace migrate`."
        )
    return Finding("ledger", "ok", f"{shown}, empty" if not schema.version else detail)


def _check_store(settings: Settings) -> None:
    from millrace.store.connect import open_store

    open_store(settings, tenant=settings.tenant).check()


def _factory(settings: Settings) -> Finding:
    from millrace.client.find import running_gateway

    told = os.environ.get("MILLRACE_URL", "")
    url = told or running_gateway(settings.home)
    if not url:
        return Finding(
            "factory", "note", "none runs here", "Commands start one when they need it; `millrace up` keeps one."
        )
    try:
        import httpx

        answer = httpx.get(f"{url}/readyz", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        return Finding(
            "factory", "fault", f"{url} does not answer", "Start it with `millrace up`, or correct MILLRACE_URL."
        )
    state: Literal["ok", "fault"] = "ok" if answer.is_success else "fault"
    return Finding("factory", state, f"{url} {'is ready' if answer.is_success else answer.text[:200]}")


def _devices() -> list[Finding]:
    from millrace.runtime.devices import discover

    return [Finding("device", "ok", str(device)) for device in discover()]


def unread_variables(environment: Mapping[str, str]) -> list[Finding]:
    """Variables that look like settings and that nothing of Millrace reads: a typing error would pass in silence."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    found = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known and not name.upper().startswith(OF_OTHERS):
            close = difflib.get_close_matches(name.upper(), known, n=1)
            remedy = f"Did you mean {close[0]}?" if close else "docs/operations.md lists what there is."
            found.append(Finding("settings", "note", f"{name} is set, and no process of Millrace reads it", remedy))
    return found


def _extra(name: str) -> Finding:
    missing = missing_of(name)
    if missing:
        return Finding(
            f"extra {name}", "note", f"not installed: {', '.join(missing)}", f"pip install 'millrace[{name}]'"
        )
    return Finding(f"extra {name}", "ok", "installed")


def _shown(url: str) -> str:
    """A URL without its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _print(findings: list[Finding]) -> None:
    marks = {
        "ok": click.style("ok   ", fg="green"),
        "fault": click.style("fault", fg="red"),
        "note": click.style("note ", dim=True),
    }
    for f in findings:
        click.echo(f"{marks[f.state]}  {f.what:<18} {f.detail}")
        if f.remedy:
            click.echo(f"{'':25} to do: {f.remedy}")
