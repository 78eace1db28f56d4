"""That a recipe whose kernels are compiled says so, and one whose kernels are kept does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from millrace_cleaning.compiling import STEP

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from millrace.runtime.stage import local_context
from millrace.store.local import LocalStore
from millrace_cleaning.compiling import telling_of_compiling
from millrace_cleaning.settings import CleanConfig

root = Path(sys.argv[1])
config = CleanConfig.model_validate({"steps": [{"step": "fineweb_quality"}]})
with local_context(LocalStore(root, tenant="default"), root) as context:
    context = replace(context, sink=lambda kind, said: print("told", said["values"]["step"]))
    with telling_of_compiling(context, config):
        from millrace_cleaning.steps.text.hashing import mix
        mix(7)
"""


def told(root: Path) -> list[str]:
    """What is reported by a process that calls a kernel; numba keeps its code in root."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(root / "kernels")}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root)], env=environment, capture_output=True, text=True, check=True
    )
    return [line.removeprefix("told ") for line in ran.stdout.splitlines() if line.startswith("told ")]


def test_compiling_is_told_the_first_time_and_not_again(tmp_path: Path) -> None:
    assert set(told(tmp_path)) == {STEP}
    assert told(tmp_path) == []
