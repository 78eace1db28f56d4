"""The model server as a process of its own: how it starts, announces itself, stays small, and ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

import tiny_models
from millrace.contracts.artifacts import Ref
from millrace.contracts.events import EndpointDesired
from millrace.settings import Settings
from millrace.store.connect import open_store
from serving import wait_for

SERVE = "import sys; from millrace.runtime.service import main; sys.exit(main(['serve', *sys.argv[1:]]))"
NO_TORCH = "import sys; sys.modules['torch'] = None; "


def environment(home: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "MILLRACE_HOME": str(home), "MILLRACE_SERVE_PORT": "0", **variables}


@contextmanager
def started(home: Path, *, code: str = SERVE) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its URL."""
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(home), stderr=subprocess.PIPE, text=True)
    try:
        announced = home / "run" / "serve.json"
        wait_for(announced.exists, what="run/serve.json", timeout_s=30)
        said = json.loads(announced.read_text())
        assert said["pid"] == process.pid
        wait_for(lambda: is_ready(said["url"]), what="readiness")
        yield process, said["url"]
    finally:
        process.kill()
        process.communicate()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to refuse."""
    command = [sys.executable, "-c", SERVE, *arguments]
    return subprocess.run(
        command, env=environment(home, **variables), capture_output=True, text=True, timeout=60, check=False
    )


def test_it_ends_with_exit_code_zero_and_takes_its_announcement_along(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert not (tmp_path / "run" / "serve.json").exists()


def test_an_idle_server_is_small(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        loaded = {Path(m.path).name.split(".")[0] for m in psutil.Process(process.pid).memory_maps()}
        assert not {name for name in loaded if name.startswith(("onnxruntime", "libarrow", "_multiarray", "libtorch"))}
        assert psutil.Process(process.pid).memory_full_info().uss < 100 * 2**20


def test_it_serves_where_torch_is_not_installed(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path))
    model = tiny_models.store_model(store, tiny_models.write_classifier(tmp_path / "model"))
    desired = EndpointDesired(name="signs", generation=1, release=1, model=model)
    store.write_ref(
        "endpoints/signs", Ref(target=desired.model_dump(mode="json"), generation=1, nonce="n"), expected=None
    )
    with started(tmp_path, code=NO_TORCH + SERVE) as (_, url):

        def answers() -> httpx.Response | None:
            answer = httpx.post(f"{url}/v1/endpoints/signs/predict", json={"rows": [{"x": 3}]})
            return answer if answer.status_code == 200 else None

        assert wait_for(answers, what="the endpoint").json()["predictions"][0]["label"] == "plus"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run(tmp_path, MILLRACE_SERVE_PORT=str(port))
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_foreign_address_a_bad_variable_and_an_argument_are_refused(tmp_path: Path) -> None:
    foreign = run(tmp_path, MILLRACE_SERVE_HOST="192.0.2.1")
    assert (foreign.returncode, "MILLRACE_SERVE_HOST" in foreign.stderr) == (2, True)
    port = run(tmp_path, MILLRACE_SERVE_PORT="seventy")
    assert (port.returncode, "MILLRACE_SERVE_PORT" in port.stderr) == (2, True)
    argument = run(tmp_path, "--port")
    assert (argument.returncode, "no arguments" in argument.stderr) == (2, True)
    assert "Traceback" not in foreign.stderr + port.stderr + argument.stderr
