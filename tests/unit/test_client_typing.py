"""A user's file is typed to the end: strict checkers find nothing in it, and find a mistake that is put in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER_FILE = ROOT / "tests" / "typing" / "user_file.py"


def mypy(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # The repository's own cache where there is one: a cold check of all dependencies takes half a minute.
    existing = ROOT / ".mypy_cache"
    return existing if existing.exists() else tmp_path_factory.mktemp("mypy")


def test_mypy_strict_passes(cache: Path) -> None:
    result = mypy(USER_FILE, cache)
    assert result.returncode == 0, result.stdout + result.stderr


def test_mypy_finds_a_mistake(cache: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from millrace import Client\n\nx: int = Client().submit(3).wait().status\n")
    result = mypy(wrong, cache)
    assert result.stdout.count("error:") == 2, result.stdout


def test_pyright_strict_passes() -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    result = subprocess.run(
        [*command, "--project", str(USER_FILE.parent)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not result.stdout.startswith("{"):
        pytest.skip(f"pyright's program is not installed, and could not be fetched: {result.stderr[-200:]}")
    report = json.loads(result.stdout)
    assert report["generalDiagnostics"] == []
    assert report["summary"]["filesAnalyzed"] == 1


def test_importing_the_front_door_costs_little() -> None:
    code = "import time; t = time.perf_counter(); import millrace; print(time.perf_counter() - t)"
    seconds = min(float(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(3))
    assert seconds < 0.1


def test_every_name_of_the_front_door_is_there() -> None:
    import millrace

    assert all(getattr(millrace, name) is not None for name in millrace.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = millrace.Clint
    assert "Client" in dir(millrace)
