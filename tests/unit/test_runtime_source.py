"""What of a script travels with a stage function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.commands import FunctionCode
from millrace.runtime.functions import StageFunction, load_function
from millrace.runtime.source import Program, program_of

SCRIPT = '''
"""A script with a top level that must stay at home."""
from __future__ import annotations
import sys, json
from millrace import stage
import millrace

client = undefined_here.Client()
limit: int = 3; other = client.limit
WORDS = ["a"]
WORDS.append("b")
NAMES = {}
NAMES["x"] = limit

class Row(dict[str, int]):
    top = limit

def helper(n: int) -> int:
    return n + limit

@NAMES.setdefault("f", lambda f: f)
def registered() -> None: ...

@stage
def job(n: int, row: "Row | None" = None) -> int:
    client = helper(n)
    return client + len(WORDS) + NAMES["x"]

@job.merge
def _(results: list[int]) -> int:
    return sum(results) + json.loads("1")

@stage
def unrelated() -> None: ...

run = client.submit(job)
if __name__ == "__main__":
    job = None
'''


@pytest.fixture
def fresh_modules() -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def named(name: str, module: str = "job") -> Callable[..., Any]:
    def function() -> None: ...

    function.__name__, function.__module__ = name, module
    return function


def program(directory: Path, source: str, *, name: str = "job") -> Program:
    path = directory / "job.py"
    path.write_text(source)
    return program_of(named(name), path)


def load(program: Program, directory: Path, *, name: str = "job") -> StageFunction[..., Any]:
    for path, content in program.files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    code = ArtifactRef(digest="0" * 64, type="code")
    return load_function(directory, FunctionCode(code=code, module=program.module, name=name))


@pytest.mark.usefixtures("fresh_modules")
def test_a_function_takes_along_what_it_names_and_nothing_that_the_script_does(tmp_path: Path) -> None:
    made = program(tmp_path, SCRIPT)
    loaded = load(made, tmp_path / "worker")
    assert loaded(1) == 1 + 3 + 2 + 3
    assert loaded.merger is not None
    assert loaded.merger([1]) == 2
    text = made.files["job.py"].decode()
    assert not any(
        absent in text for absent in ("undefined_here", "submit", "__main__", "unrelated", "import millrace\n")
    )


def test_every_statement_stays_on_its_line(tmp_path: Path) -> None:
    lines = program(tmp_path, SCRIPT).files["job.py"].decode().splitlines()
    assert all(
        line in ("", original) or original.startswith(line)
        for line, original in zip(lines, SCRIPT.splitlines(), strict=False)
    )
    assert lines[SCRIPT.splitlines().index("def helper(n: int) -> int:")] == "def helper(n: int) -> int:"


def test_what_the_rest_of_a_script_says_does_not_change_the_code(tmp_path: Path) -> None:
    changed = SCRIPT.replace("client.submit(job)", "client.submit(job, seed=2)").replace("undefined_here", "elsewhere")
    assert program(tmp_path, changed) == program(tmp_path, SCRIPT)


@pytest.mark.usefixtures("fresh_modules")
def test_modules_beside_the_file_travel_with_the_packages_they_are_in(tmp_path: Path) -> None:
    home = tmp_path / "home"
    files = {
        "team/__init__.py": "",
        "team/words.py": "from . import letters\ndef split(text):\n    return text.split(letters.SPACE)\n",
        "team/letters.py": "SPACE = ' '\n",
        "team/unused.py": "raise SystemExit\n",
        "team/jobs.py": (
            "from millrace import stage\nfrom .words import split\n"
            "@stage\ndef job(text: str) -> int:\n    return len(split(text))\n"
        ),
    }
    for path, text in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    sys.path.insert(0, str(home))
    module = importlib.import_module("team.jobs")
    made = program_of(module.job.function, home / "team" / "jobs.py")
    assert (made.module, set(made.files)) == ("team.jobs", files.keys() - {"team/unused.py"})
    for name in [name for name in sys.modules if name.startswith("team")]:
        del sys.modules[name]
    sys.path.remove(str(home))
    assert load(made, tmp_path / "worker")("a b c") == 3


def test_a_file_that_changed_since_it_was_loaded_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidSpec, match="no top-level function 'gone' any more"):
        program(tmp_path, SCRIPT, name="gone")
    with pytest.raises(errors.InvalidSpec, match="cannot be read"):
        program(tmp_path, "def job(:")


def test_a_script_whose_name_is_no_identifier_travels_under_one(tmp_path: Path) -> None:
    path = tmp_path / "my-job.py"
    path.write_text("def job(): ...")
    assert program_of(named("job"), path).module == "my_job"
