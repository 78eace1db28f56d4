"""Writes the help topics of the running Python (`pydoc_data.topics`, about 465,000 characters) as `data/topics.parquet`."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq

PATH = Path(__file__).parent / "data" / "topics.parquet"


def make_data(path: Path = PATH) -> Path:
    """Write one row a topic, sorted by name, so that the tail that tests is the same everywhere."""
    names = sorted(topics)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"topic": names, "text": [topics[name] for name in names]}), path)
    return path


if __name__ == "__main__":
    print(make_data())
