"""Noisy documents to token streams, and what became of the noise: `python -m examples.corpus.run` in the repository's root."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from examples.corpus.make_data import PATH, make_data
from millrace.cli.__main__ import main as millrace
from millrace.cli.options import print_table

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    """Run the pipeline, then say by origin how many documents were removed and changed, and by which rule most."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--save", type=Path)
    known, rest = parser.parse_known_args(arguments)
    if not PATH.exists():
        make_data()
    with tempfile.TemporaryDirectory(prefix="millrace-example-") as scratch:
        saved: Path = known.save or Path(scratch)
        code = millrace(["run", str(HERE / "pipeline.yaml"), "--save", str(saved), *rest])
        dataset = saved / "clean" / "dataset"
        if code or not dataset.exists():
            return code
        print_table(
            ("origin", "documents", "removed", "changed", "most by"),
            fates(dataset),
            empty="The corpus has no documents.",
        )
    return 0


def fates(dataset: Path, *, source: Path = PATH) -> list[tuple[str, str, str, str, str]]:
    """A row for each origin, the most frequent first."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        origins = [json.loads(line)["origin"] for line in file]
    removed: dict[str, set[int]] = {origin: set() for origin in origins}
    changed: dict[str, set[int]] = {origin: set() for origin in origins}
    rules = {origin: Counter[str]() for origin in origins}
    for part in sorted((dataset / "account").glob("*.parquet")):
        for entry in pq.read_table(part).to_pylist():
            origin = origins[entry["row"] - 1]
            if entry["action"] != "flagged":
                (removed if entry["action"] == "removed" else changed)[origin].add(entry["row"])
                rules[origin][entry["rule"]] += 1
    found = []
    for origin, total in Counter(origins).most_common():
        most = ", ".join(rule for rule, _ in rules[origin].most_common(2))
        found.append((origin, str(total), str(len(removed[origin])), str(len(changed[origin] - removed[origin])), most))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
