"""Environments of peers: made once from pinned requirements, outside of the project, and checked for what was asked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace-bench"


def environment(requirements: Sequence[str]) -> Path:
    """Return the Python of an environment with just these requirements (`name==version` each).

    Raises:
        RuntimeError: pip found something else: it backtracks to old versions in silence.
    """
    key = hashlib.sha256(" ".join([sys.version, *sorted(requirements)]).encode()).hexdigest()[:16]
    folder = ROOT / key
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements], check=True)
        (folder / "whole").touch()
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = {p["name"].lower(): p["version"] for p in json.loads(listed)}
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        if found.get(name.partition("[")[0].lower()) != version:
            raise RuntimeError(f"expected {requirement}; found {found.get(name)}")
    return python


def run_peer(
    python: Path, script: Path, *arguments: str, env: Mapping[str, str] | None = None, limit_s: float = 900
) -> Any:
    """Run a peer's script; its last line of output is its answer, as JSON."""
    done = subprocess.run(
        [python, script, *arguments], env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=limit_s,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
