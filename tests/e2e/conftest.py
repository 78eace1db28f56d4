"""Data of the examples, made once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def tabular_data() -> Path:
    """The breast cancer table of `examples/tabular`."""
    folder = EXAMPLES / "tabular"
    if not list(folder.glob("data/*.parquet")):
        subprocess.run([sys.executable, str(folder / "make_data.py")], check=True)
    return next(folder.glob("data/*.parquet"))
