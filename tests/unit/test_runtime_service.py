"""Every service process: a clear message, never a traceback; logs, metrics and traces as configured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from pydantic import SecretStr

from millrace import errors
from millrace.runtime import telemetry
from millrace.runtime.child import settings_of, settings_values
from millrace.runtime.failures import is_out_of_memory, to_error
from millrace.runtime.metrics import count_attempt, serving_metrics
from millrace.runtime.worker import expand_services, known_services
from millrace.settings import Settings


def service(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace.runtime.service", *arguments]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["conducter"], {}, "did you mean 'conductor'"),
        (["worker", "trainng"], {}, "did you mean 'training'"),
        (["worker", "training", "--classes", "tpu"], {}, "valid: cpu, gpu"),
        (["worker", "training"], {"MILLRACE_BROKER_URL": "http://x"}, "MILLRACE_BROKER_URL"),
        (["worker", "training"], {"MILLRACE_SLOTS": "none"}, "MILLRACE_SLOTS"),
        (["worker", "training"], {"MILLRACE_OTEL_ENDPOINT": "http://x"}, "opentelemetry-exporter-otlp-proto-http"),
    ],
)
def test_a_wrong_argument_or_variable_is_told_in_one_line(
    arguments: list[str], env: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = service(*arguments, MILLRACE_HOME=str(tmp_path), **env)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_child_has_the_workers_settings_whatever_its_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, store_secret_key=SecretStr("hush"), pii_key=SecretStr("hush too"), slots=3)
    values = json.loads(json.dumps(settings_values(settings)))
    monkeypatch.setenv("MILLRACE_SLOTS", "7")
    assert settings_of(values) == settings


def test_a_taken_metrics_port_is_told(tmp_path: Path) -> None:
    with serving_metrics(Settings(home=tmp_path), "a") as port:
        taken = Settings(home=tmp_path, metrics_port=port or 0)
        with pytest.raises(errors.Unavailable, match="cannot be bound"), serving_metrics(taken, "b"):
            pass


def test_metrics_are_where_the_file_says(tmp_path: Path) -> None:
    count_attempt("probe", "succeeded", 0.2)
    with serving_metrics(Settings(home=tmp_path), "worker"):
        (path,) = (tmp_path / "run").iterdir()
        with urllib.request.urlopen(json.loads(path.read_text())["metrics_url"]) as answer:
            assert 'millrace_attempts_total{kind="probe",outcome="succeeded"}' in answer.read().decode()
    assert not path.exists()


def test_a_file_of_a_killed_process_is_forgotten_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "worker-4194305.json").write_text("{}")  # above the largest process id there is
    (folder / "conductor-1.json").write_text("{}")
    (folder / "gateway.json").write_text("{}")
    with serving_metrics(Settings(home=tmp_path), "worker"):
        left = sorted(path.name for path in folder.iterdir())
    assert left == ["conductor-1.json", "gateway.json", f"worker-{os.getpid()}.json"]


def test_all_services_are_those_of_installed_kinds_and_functions() -> None:
    assert expand_services(["all"]) == known_services()
    assert {"cleaning", "training", "functions"} <= set(known_services())


def test_a_worker_that_only_supervises_imports_no_framework() -> None:
    code = "import sys, millrace.runtime.worker; print({'numpy', 'torch', 'pyarrow', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_trace_made_at_submit_is_the_one_that_code_in_a_span_continues() -> None:
    trace = telemetry.new_trace()
    with telemetry.span("work", trace):
        assert telemetry.current_trace() == trace
    assert telemetry.current_trace() == {}


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (MemoryError(), "resource_exhausted"),
        (OutOfMemoryError("CUDA out of memory"), "resource_exhausted"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            "resource_exhausted",
        ),
        (OSError(28, "No space left on device"), "resource_exhausted"),
        (errors.InvalidData("no rows"), "invalid_data"),
        (KeyError("label"), "stage_failed"),
        (SystemExit(1), "stage_failed"),
    ],
)
def test_what_stage_code_raises_has_one_meaning(raised: BaseException, code: str) -> None:
    assert to_error(raised, stage="train").code == code


def test_an_ordinary_error_is_no_want_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
