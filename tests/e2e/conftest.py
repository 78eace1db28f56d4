"""Data of the examples, made once; and a factory that tests of bad input share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bad_inputs import CLEAN, TRAIN, Terminal
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def tabular_data() -> Path:
    """The breast cancer table of `examples/tabular`."""
    folder = EXAMPLES / "tabular"
    if not list(folder.glob("data/*.parquet")):
        subprocess.run([sys.executable, str(folder / "make_data.py")], check=True)
    return next(folder.glob("data/*.parquet"))


@pytest.fixture(scope="session")
def shared_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """One embedded factory for all tests of bad input: none of them may hurt it."""
    settings = Settings(home=tmp_path_factory.mktemp("shared") / "home")
    with running_factory({**environment_of(settings), "OMP_NUM_THREADS": "1"}) as factory:
        yield factory


@pytest.fixture
def millrace(shared_factory: Factory, tmp_path: Path) -> Terminal:
    """A terminal in a directory of the test's own, at the shared factory."""
    return Terminal(tmp_path, shared_factory.client.url)


@pytest.fixture(scope="session")
def served(shared_factory: Factory, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An endpoint that takes `n`, a whole number, and `x`, a number, and answers a label."""
    terminal = Terminal(tmp_path_factory.mktemp("served"), shared_factory.client.url)
    outcome = terminal(
        "run", terminal.pipeline(CLEAN + TRAIN + "  evaluate: {}\n  deploy: {with: {endpoint: numbers}}\n")
    )
    assert outcome.code == 0, outcome
    return "numbers"
