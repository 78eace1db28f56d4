"""From the data to an endpoint that answers, then the baselines: `python -m examples.pydoc_gpt.run` in the repository's root."""

from __future__ import annotations

import sys

from examples.running import run_example

if __name__ == "__main__":
    sys.exit(run_example("pydoc_gpt", sys.argv[1:]))
