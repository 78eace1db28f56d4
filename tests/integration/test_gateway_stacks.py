"""The gateway on each stack, and with a part of the stack missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from gateways import COMMAND, Line, gateway_environment, running_gateway
from millrace import errors
from millrace.client import Client, stages
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.settings import Settings

LIMIT_S = 60.0
NOWHERE = "127.0.0.1:9"


def variables(settings: Settings) -> dict[str, str]:
    return {
        "MILLRACE_BROKER_URL": settings.broker_url,
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_STORE_URL": settings.store_url,
        "MILLRACE_STORE_ACCESS_KEY": settings.store_access_key,
        "MILLRACE_STORE_SECRET_KEY": settings.store_secret_key.get_secret_value(),
    }


def test_a_run_goes_through_on_each_stack(stack_settings: Settings, tmp_path: Path) -> None:
    """Upload, submit, follow, download: the same requests on SQLite and a directory, and on RabbitMQ, PostgreSQL and S3."""
    data = tmp_path / "rows.csv"
    data.write_bytes(b"a,label\n" + b"1,x\n" * 3_000_000)
    cleaned = StageOutputs(artifacts={"dataset": ArtifactRef(digest="d" * 64, type="dataset")})
    with (
        running_gateway(stack_settings.home, **variables(stack_settings)) as url,
        Line(stack_settings) as line,
        Client(url) as client,
    ):
        run = client.submit(stages.Clean(target="label"), data=data)
        raw = ArtifactRef.model_validate(run.view.params["data"])
        assert (client.download(raw, tmp_path / "back") / "rows.csv").read_bytes() == data.read_bytes()
        line.succeed(run.id, "clean", line.start(run.id, "clean"), cleaned, logs=None)
        assert [event.type for event in run.follow()][-1] == "run.finished.v1"
        assert run.wait(timeout_s=LIMIT_S).status == "succeeded"
        cancelled = client.submit(stages.Clean(), data=data)
        cancelled.cancel()
        assert cancelled.wait_end(timeout_s=LIMIT_S).status == "cancelled"


def test_a_missing_broker_is_said_and_runs_are_still_accepted(tmp_path: Path) -> None:
    """What is accepted is committed in the ledger; the conductor's relay waits for the broker."""
    data = tmp_path / "rows.csv"
    data.write_text("a\n1\n")
    with (
        running_gateway(tmp_path / "home", MILLRACE_BROKER_URL=f"amqp://user:hidden@{NOWHERE}") as url,
        Client(url) as client,
    ):
        answer = httpx.get(f"{url}/readyz")
        assert answer.status_code == 503
        checks = {check["name"]: check for check in answer.json()["checks"]}
        assert (checks["broker"]["ok"], checks["store"]["ok"], checks["ledger"]["ok"]) == (False, True, True)
        assert checks["broker"]["detail"]
        assert checks["broker"]["remedy"]
        assert "hidden" not in answer.text
        assert client.submit(stages.Clean(), data=data).status == "queued"


def test_a_missing_store_is_said_to_who_uploads(tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("a\n1\n")
    keys = {"MILLRACE_STORE_ACCESS_KEY": "key", "MILLRACE_STORE_SECRET_KEY": "hidden"}
    with (
        running_gateway(tmp_path / "home", MILLRACE_STORE_URL=f"s3+http://{NOWHERE}/bucket", **keys) as url,
        Client(url) as client,
    ):
        with pytest.raises(errors.Unavailable, match=NOWHERE) as caught:
            client.submit(stages.Clean(), data=data)
        assert "hidden" not in str(caught.value)


def test_a_missing_database_ends_the_start_with_a_clear_error(tmp_path: Path) -> None:
    environment = gateway_environment(tmp_path, MILLRACE_DATABASE_URL=f"postgresql://user:hidden@{NOWHERE}/db")
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == errors.Unavailable.exit_code
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("millrace gateway:")
