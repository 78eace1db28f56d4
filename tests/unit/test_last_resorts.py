"""Faults of our own: the user gets a sentence and a place to look, the log gets the traceback."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import httpx
import pytest
from pydantic import SecretStr, ValidationError

from millrace.cli.__main__ import COMMANDS, main
from millrace.contracts.faults import path_of, said
from millrace.contracts.pipelines import PipelineSpec
from millrace.settings import Settings
from millrace_gateway.app import create_api
from millrace_gateway.edge import Edge
from millrace_gateway.settings import GatewaySettings


@pytest.mark.parametrize("as_json", [False, True])
def test_a_command_that_crashes_says_where_its_traceback_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, as_json: bool
) -> None:
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    monkeypatch.setitem(COMMANDS, "runs", ("millrace.no_such_module:runs", "A command that does not load."))
    assert main(["runs", *(["--json"] if as_json else [])]) == 1
    said_to_user = capsys.readouterr().err
    log = tmp_path / "logs" / "command.log"
    assert "ModuleNotFoundError" in said_to_user
    assert str(log) in said_to_user
    assert "Traceback" not in said_to_user
    assert "Traceback" in log.read_text()
    assert not as_json or json.loads(said_to_user)["error"]["code"] == "internal"


def test_a_route_that_crashes_is_answered_by_a_problem(tmp_path: Path) -> None:
    api = create_api()

    @api.get("/crash")
    async def crash() -> None:
        raise RuntimeError("an inside of ours")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Edge(api, GatewaySettings(home=tmp_path)))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/crash")

    answer = anyio.run(ask)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "reference err_" in answer.json()["detail"]
    assert "inside of ours" not in answer.text


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        ({"name": "t", "stages": []}, ("stages",), "Expected a mapping of names to values; found []."),
        (
            {"name": "t", "stages": {"a": {"with": {"x": [float("nan")]}}}},
            ("stages", "a", "with", "x", 0),
            "finite number",
        ),
        ({"name": 7, "stages": {"a": {}}}, ("name",), "Expected a text; found 7."),
        ({"name": "t", "stages": {"a": {"timeout_s": 0}}}, ("stages", "a", "timeout_s"), "greater than 0; found 0."),
    ],
)
def test_a_fault_is_said_in_words_with_its_path(document: object, path: tuple[str | int, ...], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PipelineSpec.model_validate(document)
    fault = caught.value.errors()[0]
    assert path_of(fault) == path
    assert words in said(fault)


def test_a_fault_without_its_input_repeats_nothing() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(log_level="hunter2", store_secret_key=SecretStr("x"))
    assert "hunter2" not in said(caught.value.errors(include_input=False)[0])
