"""Triggers fire exactly once, whoever looks and whatever dies between: on both databases, and on a real prefix."""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from millrace.contracts.loading import load_spec
from millrace.ledger.ledger import Ledger, open_ledger
from millrace.ledger.triggers import apply_pipeline, triggers
from millrace.runtime.stage import local_context
from millrace.settings import Settings
from millrace.store import Store
from millrace.store.connect import open_store
from millrace.store.s3_endpoint import endpoint
from millrace_cleaning import ingest
from millrace_cleaning.settings import IngestConfig
from millrace_conductor.triggers import Triggers

NOW = 1_800_000_000.0
TENANT = "default"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    is_file = request.param == "sqlite"
    url = f"sqlite://{tmp_path / 'l.sqlite'}" if is_file else request.getfixturevalue("postgres_database_url")
    ledger = open_ledger(url)
    yield ledger
    ledger.close()


def applied(ledger: Ledger, *given: dict[str, Any], now: float = NOW) -> None:
    body = {"name": "nightly", "params": {"data": {"type": "dataset", "default": "s3://b/default"}}}
    spec = load_spec({**body, "stages": {"n": {"kind": "noop"}}, "triggers": list(given)})
    ledger.database.transact(lambda tx: apply_pipeline(tx, TENANT, spec, {}, now=now))


def looker(ledger: Ledger, settings: Settings) -> Triggers:
    stores: dict[str, Store] = {}

    def store_of(tenant: str) -> Store:
        return stores.setdefault(tenant, open_store(settings, tenant=tenant))

    return Triggers(settings, ledger.database, store_of, fired=lambda: None)


def test_conductors_that_look_at_one_instant_start_one_run(ledger: Ledger, embedded_settings: Settings) -> None:
    applied(ledger, {"cron": "* * * * *"})
    lookers = [
        threading.Thread(target=looker(ledger, embedded_settings).look, kwargs={"now": NOW + 61}) for _ in range(4)
    ]
    for thread in lookers:
        thread.start()
    for thread in lookers:
        thread.join()
    assert len(ledger.runs(TENANT).runs) == 1


def test_the_next_instant_derives_from_the_last_scheduled_one(ledger: Ledger, embedded_settings: Settings) -> None:
    applied(ledger, {"cron": "* * * * *"})
    for seconds in (59.9, 61, 62, 119, 121.7, 185):
        looker(ledger, embedded_settings).look(now=NOW + seconds)
    runs = ledger.runs(TENANT).runs
    assert len(runs) == 3
    (kept,) = triggers(ledger.database, TENANT)
    assert kept.next_at == NOW + 240
    assert kept.state["latest_run"] == runs[0].run_id


def test_a_firing_that_is_undone_is_the_same_run_again(ledger: Ledger, embedded_settings: Settings) -> None:
    applied(ledger, {"cron": "* * * * *"})
    looker(ledger, embedded_settings).look(now=NOW + 61)
    # As if the trigger's row had been restored from a backup that is older than the run.
    ledger.database.transact(lambda tx: tx.run("UPDATE triggers SET next_at = ?", (NOW + 60,)))
    looker(ledger, embedded_settings).look(now=NOW + 62)
    assert len(ledger.runs(TENANT).runs) == 1


def test_a_trigger_that_was_applied_again_unchanged_fires_no_more_often(
    ledger: Ledger, embedded_settings: Settings
) -> None:
    applied(ledger, {"cron": "* * * * *"})
    applied(ledger, {"cron": "* * * * *"}, now=NOW + 30)
    looker(ledger, embedded_settings).look(now=NOW + 61)
    applied(ledger, {"cron": "*/2 * * * *"}, now=NOW + 62)
    looker(ledger, embedded_settings).look(now=NOW + 100)
    assert len(ledger.runs(TENANT).runs) == 1
    assert [t.next_at for t in triggers(ledger.database, TENANT)] == [NOW + 120]


def test_a_pipeline_that_no_longer_fits_is_said_and_the_clock_goes_on(
    ledger: Ledger, embedded_settings: Settings
) -> None:
    applied(ledger, {"cron": "* * * * *", "params": {"gone": 1}})
    looker(ledger, embedded_settings).look(now=NOW + 61)
    (kept,) = triggers(ledger.database, TENANT)
    assert "no parameter 'gone'" in kept.error
    assert kept.next_at == NOW + 120
    assert ledger.runs(TENANT).runs == ()


def test_a_prefix_fires_on_the_very_objects_that_were_seen(
    ledger: Ledger, s3_settings: Settings, tmp_path: Path
) -> None:
    where = replace(endpoint(s3_settings), bucket=f"outside-{uuid.uuid4().hex[:12]}")
    where.client.make_bucket(where.bucket)

    def put(key: str, data: bytes) -> None:
        where.client.put_object(where.bucket, key, io.BytesIO(data), len(data))

    prefix = f"s3://{where.bucket}/in/"
    applied(ledger, {"new_objects": prefix, "param": "data", "quiet_s": 10, "poll_s": 5})
    look = looker(ledger, s3_settings).look
    assert look(now=NOW + 1) == 0, "nothing is there"
    put("in/a.csv", b"x\n1\n")
    assert look(now=NOW + 7) == 0
    put("in/b.csv", b"x\n2\n")
    assert look(now=NOW + 13) == 0
    assert look(now=NOW + 24) == 1
    assert look(now=NOW + 60) == 0, "nothing is new"
    (run,) = ledger.runs(TENANT).runs
    uri = run.params["data"]
    assert uri.startswith(f"{prefix}#")

    put("in/c.csv", b"x\n3\n")  # too late for this run, in time for the next
    store = open_store(s3_settings, tenant=TENANT)
    environment = {
        "MILLRACE_STORE_URL": s3_settings.store_url,
        "MILLRACE_STORE_ACCESS_KEY": s3_settings.store_access_key,
    }
    with pytest.MonkeyPatch.context() as patched, local_context(store, tmp_path) as context:
        for name, value in environment.items():
            patched.setenv(name, value)
        patched.setenv("MILLRACE_STORE_SECRET_KEY", s3_settings.store_secret_key.get_secret_value())
        made = ingest.work(context, IngestConfig(uri=uri), {}, {})
        assert [f.path for f in context.open_artifact(made.artifacts["source"]).manifest.files] == ["a.csv", "b.csv"]
    assert look(now=NOW + 70) == 0
    assert look(now=NOW + 90) == 1
