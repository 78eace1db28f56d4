"""`millrace data steps` says of every step what a recipe may say of it, and costs no import of what steps need."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from millrace.cli.__main__ import cli, main
from millrace.cli.extras import EXTRAS
from millrace.contracts.loading import parse_yaml
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.steps import kinds

ROOT = Path(__file__).parents[2]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["data", "steps", *words]) == 0
    return capsys.readouterr().out


def test_all_steps_are_listed_by_family(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(said(capsys, "--json"))
    assert {about["step"] for about in listed} == set(kinds.KINDS)
    assert {about["family"] for about in listed} == {"pii", "table", "images", "audio", "text"}
    assert all(about["caption"] for about in listed)
    text = said(capsys)
    assert text.index("table:") < text.index("  convert_units  Read quantities") < text.index("text:")


@pytest.mark.parametrize("name", kinds.KINDS)
def test_the_example_of_a_step_is_a_recipe(capsys: pytest.CaptureFixture[str], name: str) -> None:
    text = said(capsys, name)
    [step] = CleanConfig.model_validate(parse_yaml(text.partition("Example:\n")[2])).steps
    assert type(step) is kinds.KINDS[name]
    assert step.model_fields_set == set(parse_yaml(f"{{step: {name}, {step.example}}}"))


def test_fields_are_told_with_type_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {field["path"]: field for field in json.loads(said(capsys, "check_table", "--json"))[0]["fields"]}
    assert fields["on_broken"]["type"] == "remove | flag | nullify | fail"
    assert fields["on_broken"]["default"] == '"remove"'
    assert fields["columns.NAME.max_length"]["type"] == "whole number >= 0 or null"
    assert fields["rows"]["meaning"].startswith("Comparisons of two columns")
    assert "unit: text" in said(capsys, "convert_units")
    required = [f["path"] for f in json.loads(said(capsys, "pii", "--json"))[0]["fields"] if f["is_required"]]
    assert required == ["column"]


def test_what_is_not_installed_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "media", ("soundfile", "no_such_module"))
    assert "pip install 'millrace[media]': no_such_module not installed here" in said(capsys, "check_audio")
    assert said(capsys).count("[not installed: millrace[media]]") == 5
    assert "the extra pii, which is installed here" in said(capsys, "pii")


def test_extras_are_those_of_the_package() -> None:
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) <= set(there)
    assert {kind.extra for kind in kinds.KINDS.values()} <= {"", *EXTRAS}


def test_an_unknown_step_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "steps", "gopher_qualty"]) == 2
    assert "did you mean 'gopher_quality'?" in capsys.readouterr().err


def test_names_are_completed() -> None:
    shell = ShellComplete(cli, {}, "millrace", "_MILLRACE_COMPLETE")
    found = [item.value for item in shell.get_completions(["data", "steps"], "check")]
    assert found == ["check_audio", "check_images", "check_table"]


def test_no_library_of_the_steps_is_imported() -> None:
    code = (
        "import sys; from millrace.cli.__main__ import main; main(['data', 'steps', 'language']);"
        "print([m for m in ('torch', 'numba', 'numpy', 'pyarrow', 'httpx') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.splitlines()[-1] == "[]"
