"""Writes the docstrings of the running Python's standard library, each with its package, as `data/docstrings.parquet`."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PATH = Path(__file__).parent / "data" / "docstrings.parquet"

# Those that Python 3.11 to 3.14 all have and that say enough; without test, idlelib, lib2to3 and distutils.
PACKAGES = (
    "asyncio", "collections", "concurrent", "ctypes", "email", "encodings", "http", "importlib", "json", "logging",
    "multiprocessing", "tkinter", "unittest", "urllib", "wsgiref", "xml", "xmlrpc",
)  # fmt: skip


def make_data(path: Path = PATH) -> Path:
    """Write one row a docstring, duplicates included: to remove them is cleaning's work."""
    rows = [(text, package) for package in PACKAGES for text in _docstrings(package)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": [text for text, _ in rows], "package": [package for _, package in rows]}), path)
    return path


def _docstrings(package: str) -> Iterator[str]:
    """Docstrings of a package's modules, classes and functions, read from source: nothing is imported."""
    root = Path(sysconfig.get_paths()["stdlib"]) / package
    for file in sorted(root.rglob("*.py")):
        if {"test", "tests"} & set(file.relative_to(root).parts):
            continue
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text


if __name__ == "__main__":
    print(make_data())
