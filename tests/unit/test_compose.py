"""docker-compose.yml is valid by the Compose Specification, and says nothing that the code does not have."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from jsonschema import Draft201909Validator
from ruamel.yaml import YAML

from millrace.cli.__main__ import cli
from millrace.contracts.graph import FUNCTIONS_SERVICE
from millrace.contracts.stages import installed_kinds
from millrace.settings import Settings, load_settings
from millrace_gateway.app import create_api
from millrace_gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")
SERVERS = {"rabbitmq", "postgres", "object-store"}
SECRETS = {"RABBITMQ_PASSWORD", "POSTGRES_PASSWORD", "STORE_ACCESS_KEY", "STORE_SECRET_KEY"}

RAW: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text())
MEMBERS = sorted(set(RAW["services"]) - SERVERS)


def filled(value: Any) -> Any:
    """The file as Compose reads it where each secret is `filled-in`."""
    if isinstance(value, dict):
        return {key: filled(part) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part) for part in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda m: "filled-in" if m[2] == "?" else (m[3] or ""), value)
    return value


COMPOSE = filled(RAW)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return dict(pairs)


def image_environment() -> dict[str, str]:
    """What the Dockerfile's last ENV sets."""
    block = DOCKERFILE.read_text().rsplit("\nENV ", 1)[1].split("\nUSER", 1)[0].replace("\\\n", " ")
    return dict(pair.split("=", 1) for pair in block.split())


def environment_of(name: str) -> dict[str, str]:
    return {**image_environment(), **{k: str(v) for k, v in COMPOSE["services"][name]["environment"].items()}}


def test_it_is_valid_by_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "compose-spec.json").read_text())
    assert [e.message for e in Draft201909Validator(schema).iter_errors(COMPOSE)] == []


def test_the_schema_would_notice_a_mistake() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "compose-spec.json").read_text())
    wrong = {**COMPOSE, "services": {"gateway": {**COMPOSE["services"]["gateway"], "comand": ["gateway"]}}}
    assert not Draft201909Validator(schema).is_valid(wrong)


def test_there_is_a_worker_for_each_service_that_has_stages() -> None:
    commands = {tuple(COMPOSE["services"][name]["command"]) for name in MEMBERS}
    services = {kind.service for kind in installed_kinds().values() if not kind.module.startswith("millrace.testing")}
    workers = {("worker", service) for service in services | {FUNCTIONS_SERVICE}}
    assert commands == workers | {("conductor",), ("gateway",), ("serve",)}


@pytest.mark.parametrize("name", MEMBERS)
def test_its_command_is_one_of_the_command_line(name: str) -> None:
    command, *arguments = COMPOSE["services"][name]["command"]
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    found.make_context(command, list(arguments))  # raises UsageError for what it does not take


@pytest.mark.parametrize("name", MEMBERS)
def test_its_variables_are_settings_with_values_that_fit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = GatewaySettings if name == "gateway" else Settings
    variables = {k: v for k, v in environment_of(name).items() if k.startswith("MILLRACE_")}
    known = {f"MILLRACE_{field.upper()}" for field in owner.model_fields}
    assert set(variables) <= known
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(owner)
    assert (urlsplit(settings.broker).hostname, urlsplit(settings.store).hostname) == ("rabbitmq", "object-store")


def test_only_the_conductor_and_the_gateway_know_the_ledger() -> None:
    assert {name for name in MEMBERS if "MILLRACE_DATABASE_URL" in environment_of(name)} == {"conductor", "gateway"}


@pytest.mark.parametrize("name", MEMBERS)
def test_its_image_carries_an_extra_of_the_project(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    build = COMPOSE["services"][name]["build"]
    assert build["args"]["EXTRA"] in project["optional-dependencies"]
    assert ROOT / build["context"] / build["dockerfile"] == DOCKERFILE
    assert COMPOSE["services"][name]["image"].endswith(f":{project['version']}")


def test_ports_are_those_the_code_listens_on_and_on_loopback_alone() -> None:
    published = {
        name: port.split(":") for name, service in COMPOSE["services"].items() for port in service.get("ports", ())
    }
    defaults = Settings()
    assert published == {
        "gateway": ["127.0.0.1", "8470", str(defaults.gateway_port)],
        "model-server": ["127.0.0.1", "8471", str(defaults.serve_port)],
    }
    assert environment_of("gateway")["MILLRACE_GATEWAY_PORT"] == published["gateway"][2]
    assert environment_of("model-server")["MILLRACE_SERVE_PORT"] == published["model-server"][2]
    assert environment_of("model-server")["MILLRACE_SERVE_URL"] == f"http://model-server:{defaults.serve_port}"


def test_health_is_asked_where_it_is_answered() -> None:
    for name in MEMBERS:
        environment = environment_of(name)
        port = environment.get(f"MILLRACE_{name.split('-')[-1].upper().replace('SERVER', 'SERVE')}_PORT")
        url = urlsplit(environment["HEALTH_URL"])
        assert (str(url.port), url.path) == ((port, "/healthz") if port else ("9100", "/metrics"))
        assert port or environment["MILLRACE_METRICS_PORT"] == "9100"
    assert "/healthz" in create_api().openapi()["paths"]
    assert "HEALTHCHECK" in DOCKERFILE.read_text()
    assert all("healthcheck" in COMPOSE["services"][name] for name in SERVERS)


def test_no_secret_has_a_default() -> None:
    for text in strings(RAW):
        for name, kind, _ in VARIABLE.findall(text):
            assert name not in SECRETS or kind == "?"
    assert {name: example()[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")


def test_the_example_names_every_variable_with_the_file_s_default() -> None:
    defaults = {m[1]: m[3] if m[2] == "-" else "" for text in strings(RAW) for m in VARIABLE.finditer(text)}
    assert example() == defaults


def test_what_is_mounted_exists() -> None:
    mounts = [mount.split(":")[0] for service in COMPOSE["services"].values() for mount in service["volumes"]]
    assert all((ROOT / m).is_file() for m in mounts if m.startswith("."))
    assert {m for m in mounts if not m.startswith(".")} == set(COMPOSE["volumes"])


def test_images_run_as_a_number_that_is_not_root_and_tags_are_pinned() -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)[-1]
    assert all(int(number) > 0 for number in user)
    assert all(re.search(r":[\w.-]*\d", service["image"]) for service in COMPOSE["services"].values())


def test_the_grace_before_a_kill_is_longer_than_a_drain() -> None:
    from millrace.runtime.worker import YIELD_S

    for name in MEMBERS:
        grace = int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s"))
        assert grace > Settings().grace_s + YIELD_S
