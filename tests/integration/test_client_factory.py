"""`Client()` without a URL: it takes the factory that runs in the home, or starts one, and runs survive the script."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import millrace
from millrace import errors
from millrace.client import Client
from millrace.client.find import is_held, running_gateway

LIMIT_S = 60.0


@millrace.stage
def add(a: float, b: float = 2.0) -> dict[str, float]:
    return {"sum": a + b}


def test_a_factory_is_started_shared_and_stopped_and_runs_survive_it(tmp_path: Path) -> None:
    with Client(home=tmp_path) as first:
        result = first.submit(add, params={"a": 1.0}).result(timeout_s=LIMIT_S)
        assert result.stages["add"].summary["result"] == {"sum": 3.0}
        with Client(home=tmp_path) as second:
            assert second.url == first.url
            assert (first.started_factory, second.started_factory) == (True, False)
        assert running_gateway(tmp_path) == first.url
        left = first.submit(add, params={"a": 5.0}).id
    assert running_gateway(tmp_path) == ""
    with Client(home=tmp_path) as later:
        assert later.run(left).result(timeout_s=LIMIT_S).stages["add"].summary["result"] == {"sum": 7.0}


def test_a_factory_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_GATEWAY_PORT", "http")
    with Client(home=tmp_path) as client, pytest.raises(errors.Unavailable, match="MILLRACE_GATEWAY_PORT"):
        client.models()


def test_a_stale_announcement_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "gateway.json"
    for text in (
        '{"url": "http://127.0.0.1:9", "pid": 1}',
        f'{{"url": "http://127.0.0.1:9", "pid": {2**22 + 1}}}',
        "{",
    ):
        path.write_text(text)
        assert running_gateway(tmp_path) == ""


def test_a_killed_script_leaves_no_factory(tmp_path: Path) -> None:
    script = (
        "import sys, time; from millrace import Client; client = Client(home=sys.argv[1]);"
        "print(client.url, flush=True); time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert running_gateway(tmp_path) == url
    process.kill()
    process.communicate()
    deadline = time.monotonic() + LIMIT_S
    while running_gateway(tmp_path) or is_held(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
