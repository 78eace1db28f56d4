"""Writes scikit-learn's breast cancer table (569 tumours, 30 measurements, from UCI) as `data/breast_cancer.parquet`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_breast_cancer

PATH = Path(__file__).parent / "data" / "breast_cancer.parquet"


def make_data(path: Path = PATH) -> Path:
    """Write one row a tumour: its measurements, and `diagnosis` as text."""
    data = load_breast_cancer()
    columns = {str(name).replace(" ", "_"): data.data[:, i] for i, name in enumerate(data.feature_names)}
    columns["diagnosis"] = [str(data.target_names[code]) for code in data.target]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


if __name__ == "__main__":
    print(make_data())
