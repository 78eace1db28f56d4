"""Bad settings and places: variables, ports, homes, disks, servers that are down or refuse; said by the variable's name."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bad_inputs import CLEAN, COMMAND, NEVER, Terminal, in_process_of_its_own
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory
from servers.postgres import Postgres
from servers.rabbitmq import RabbitMQ
from servers.radosgw import RadosGW

NOWHERE = "127.0.0.1:9"
SECRET = "keep-this-secret"
LIMIT_S = 40.0

VARIABLES = [
    ("up", "GATEWAY_PORT", "99999", "less than or equal to 65535"),
    ("gateway", "GATEWAY_PORT", "abc", "a whole number"),
    ("up", "BROKER_URL", "http://broker", "amqp://"),
    ("up", "DATABASE_URL", f"mysql://user:{SECRET}@host/name", "postgresql://"),
    ("up", "STORE_URL", "s3://bucket", "s3+http://"),
    ("conductor", "LOG_LEVEL", "loud", "'debug'"),
    ("conductor", "SLOTS", "0", "greater than or equal to 1"),
    ("conductor", "LEASE_S", "soon", "a number"),
    ("up", "TENANT", "../other", "lower-case letters"),
    ("gateway", "GATEWAY_HOST", "192.0.2.1", "address of this host"),
    ("runs", "URL", "ftp://gateway", "http:// or https://"),
    ("runs", "URL", "http://", "and a host"),
    ("runs", "URL", "http://[::1", "and a host"),
    ("runs", "URL", "http://gateway:port", "and a host"),
]


@pytest.mark.parametrize(("command", "name", "value", "words"), VARIABLES)
def test_a_bad_variable_is_told_by_name(tmp_path: Path, command: str, name: str, value: str, words: str) -> None:
    environment = {**_free(tmp_path), f"MILLRACE_{name}": value}
    outcome = in_process_of_its_own(command, environment=environment, limit_s=LIMIT_S)
    outcome.refused(f"MILLRACE_{name}", words)
    assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["worker", "trainning"], ["'trainning'", "did you mean 'training'"]),
        (["worker", "training", "--classes", "tpu"], ["--classes", "'tpu'", "valid: cpu, gpu"]),
        (["worker"], ["Missing argument"]),
    ],
)
def test_a_worker_that_nobody_knows_is_refused(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    in_process_of_its_own(*arguments, environment=_free(tmp_path), limit_s=LIMIT_S).refused(*words)


@pytest.mark.parametrize("command", ["up", "gateway", "serve"])
def test_a_taken_port_is_told_at_once(tmp_path: Path, taken_port: int, command: str) -> None:
    variable = "MILLRACE_SERVE_PORT" if command == "serve" else "MILLRACE_GATEWAY_PORT"
    environment = {**_free(tmp_path), variable: str(taken_port)}
    outcome = in_process_of_its_own(command, environment=environment, limit_s=LIMIT_S)
    outcome.refused(variable, f"Port {taken_port} of 127.0.0.1 is taken", "0 for a free one", code=1)


def test_a_taken_port_for_metrics_is_told(tmp_path: Path, taken_port: int) -> None:
    environment = {**_free(tmp_path), "MILLRACE_METRICS_PORT": str(taken_port)}
    outcome = in_process_of_its_own("gateway", environment=environment, limit_s=LIMIT_S)
    outcome.refused("MILLRACE_METRICS_PORT", str(taken_port), "-1 for none", code=4)


def test_a_home_has_one_factory(shared_factory: Factory) -> None:
    outcome = in_process_of_its_own("up", environment=shared_factory.environment, limit_s=LIMIT_S)
    outcome.refused("MILLRACE_HOME", "already runs", str(shared_factory.pid), "another directory", code=1)


@pytest.mark.parametrize("command", ["up", "gateway", "worker", "runs"])
def test_a_home_that_is_a_file_is_refused(tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.touch()
    arguments = [command, "all"] if command == "worker" else [command]
    environment = {**_free(tmp_path), "MILLRACE_HOME": str(file)}
    outcome = in_process_of_its_own(*arguments, environment=environment, limit_s=LIMIT_S)
    outcome.refused("MILLRACE_HOME", str(file), "directory one may write to")


def test_a_gateway_that_is_not_there_is_told(tmp_path: Path) -> None:
    outcome = in_process_of_its_own("runs", environment={"MILLRACE_URL": f"http://{NOWHERE}"}, limit_s=LIMIT_S)
    outcome.refused(f"No gateway answers at http://{NOWHERE}", "millrace up", "MILLRACE_URL", code=4)


@pytest.mark.parametrize(
    ("command", "name", "url"),
    [
        ("conductor", "DATABASE_URL", f"postgresql://user:{SECRET}@{NOWHERE}/millrace"),
        ("gateway", "DATABASE_URL", f"postgresql://user:{SECRET}@{NOWHERE}/millrace"),
    ],
)
def test_a_database_that_is_down_is_told(tmp_path: Path, command: str, name: str, url: str) -> None:
    environment = {**_free(tmp_path), f"MILLRACE_{name}": url}
    outcome = in_process_of_its_own(command, environment=environment, limit_s=LIMIT_S)
    outcome.refused("MILLRACE_DATABASE_URL", NOWHERE, "does not answer", "Start it", code=4)
    assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize(
    ("what", "name", "url"),
    [
        ("broker", "BROKER_URL", f"amqp://user:{SECRET}@{NOWHERE}//"),
        ("store", "STORE_URL", f"s3+http://{NOWHERE}/bucket"),
    ],
)
def test_a_factory_says_what_it_waits_for(tmp_path: Path, what: str, name: str, url: str) -> None:
    """Broker and store may come later: the factory waits, and says for what until it is stopped."""
    keys = {"MILLRACE_STORE_ACCESS_KEY": "key", "MILLRACE_STORE_SECRET_KEY": SECRET}
    environment = {**_free(tmp_path), **keys, f"MILLRACE_{name}": url}
    said = _until(f"Not ready: {what}", ["up"], environment)
    assert NOWHERE in said
    assert f"MILLRACE_{name}" in said
    assert not [word for word in (*NEVER, SECRET) if word in said], said


@pytest.mark.parametrize(
    ("what", "name", "url"),
    [
        ("broker", "BROKER_URL", f"amqp://user:{SECRET}@{NOWHERE}//"),
        ("ledger", "DATABASE_URL", f"postgresql://user:{SECRET}@{NOWHERE}/millrace"),
        ("store", "STORE_URL", f"s3+http://{NOWHERE}/bucket"),
    ],
)
def test_doctor_says_what_is_down_and_what_to_do(tmp_path: Path, what: str, name: str, url: str) -> None:
    keys = {"MILLRACE_STORE_ACCESS_KEY": "key", "MILLRACE_STORE_SECRET_KEY": SECRET}
    environment = {**_free(tmp_path), **keys, f"MILLRACE_{name}": url}
    outcome = in_process_of_its_own("doctor", environment=environment, limit_s=LIMIT_S)
    fault = outcome.out.split("fault  ", 1)[1]
    assert outcome.code != 0
    assert fault.startswith(what)
    assert NOWHERE in fault
    assert "to do:" in fault
    assert not [word for word in (*NEVER, SECRET) if word in outcome.out + outcome.err], outcome


def test_a_broker_that_refuses_the_password_is_told(tmp_path: Path, rabbitmq: RabbitMQ) -> None:
    url = urlsplit(rabbitmq.url)
    environment = {"MILLRACE_BROKER_URL": f"amqp://guest:{SECRET}@{url.hostname}:{url.port}//"}
    _refused_everywhere(tmp_path, environment, "broker", "MILLRACE_BROKER_URL", ["worker", "cleaning"])


def test_a_database_that_refuses_the_user_is_told(tmp_path: Path, postgres: Postgres) -> None:
    url = urlsplit(postgres.url)
    environment = {"MILLRACE_DATABASE_URL": f"postgresql://nobody:{SECRET}@{url.hostname}:{url.port}/postgres"}
    _refused_everywhere(tmp_path, environment, "ledger", "MILLRACE_DATABASE_URL", ["conductor"])


def test_a_store_that_refuses_the_key_is_told(tmp_path: Path, s3_server: RadosGW) -> None:
    environment = {
        "MILLRACE_STORE_URL": f"s3+http://{s3_server.endpoint}/bucket",
        "MILLRACE_STORE_ACCESS_KEY": s3_server.access_key,
        "MILLRACE_STORE_SECRET_KEY": SECRET,
    }
    _refused_everywhere(tmp_path, environment, "store", "MILLRACE_STORE_SECRET_KEY", ["worker", "cleaning"])


def test_a_full_disk_is_told_and_the_factory_goes_on(tmp_path: Path, small_disk: Path) -> None:
    """Twice as much data as the home has room for: the upload is refused, and a small one still passes."""
    environment = {**environment_of(Settings(home=small_disk / "home")), "OMP_NUM_THREADS": "1"}
    with running_factory(environment) as factory:
        terminal = Terminal(tmp_path, factory.client.url)
        pipeline = terminal.pipeline(CLEAN)
        large = terminal.write("large.csv", b"x,label\n" + b"1,a\n" * 30_000_000)
        terminal("run", pipeline, "--data", large).refused("disk", "MILLRACE_HOME", "Free", code=5)
        Path(large).unlink()
        assert terminal("run", pipeline).code == 0


def test_results_that_do_not_fit_on_the_disk_are_told(millrace: Terminal, served: str, small_disk: Path) -> None:
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as out:
        out.write(bytes(2**27))
    data = millrace.write("rows.csv", "n,x\n" + "1,2\n" * 500)
    outcome = millrace("batch", served, data, "--out", str(small_disk / "out.parquet"))
    outcome.refused("out.parquet does not fit on the disk", "Free some space", code=5)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that another program holds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB; skipped where this user may not mount one."""
    place = tmp_path / "small_disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs privileges")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _free(tmp_path: Path) -> dict[str, str]:
    """A home of the test's own, and free ports."""
    return {"MILLRACE_HOME": str(tmp_path / "home"), "MILLRACE_GATEWAY_PORT": "0", "MILLRACE_SERVE_PORT": "0"}


def _refused_everywhere(
    tmp_path: Path, environment: Mapping[str, str], what: str, variable: str, service: list[str]
) -> None:
    """Wrong credentials: the service ends at once with exit code 3, `up` with it, and doctor names the variable."""
    free = {**_free(tmp_path), **environment}
    in_process_of_its_own(*service, environment=free, limit_s=LIMIT_S).refused(variable, code=3)
    up = in_process_of_its_own("up", environment=free, limit_s=LIMIT_S)
    up.refused(variable, code=4)
    doctor = in_process_of_its_own("doctor", environment=free, limit_s=LIMIT_S)
    assert doctor.code != 0
    assert variable in doctor.out.split(f"fault  {what}", 1)[1]
    for outcome in (up, doctor):
        assert SECRET not in outcome.out + outcome.err


def _until(words: str, arguments: list[str], environment: Mapping[str, str]) -> str:
    """Run a command until it says these words, then stop it; return what it said. It must end by itself then."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if words in line:
                break
        process.terminate()
        rest, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, rest
    return "".join([*said, rest])
