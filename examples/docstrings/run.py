"""Makes the data if it is missing, then runs the pipeline beside this file and follows it to its end."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from millrace.cli.__main__ import main

HERE = Path(__file__).parent

if __name__ == "__main__":
    if not list(HERE.glob("data/*.parquet")):
        runpy.run_path(str(HERE / "make_data.py"), run_name="__main__")
    sys.exit(main(["run", str(HERE / "pipeline.yaml"), *sys.argv[1:]]))
