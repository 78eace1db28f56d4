"""Makes the data if it is missing, then runs the pipeline beside this file and follows it to its end."""

from __future__ import annotations

import sys
from pathlib import Path

from make_data import PATH, make_data
from millrace.cli.__main__ import main

PIPELINE = Path(__file__).parent / "pipeline.yaml"


if __name__ == "__main__":
    if not PATH.exists():
        make_data()
    sys.exit(main(["run", str(PIPELINE), *sys.argv[1:]]))
