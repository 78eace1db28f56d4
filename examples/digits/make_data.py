"""Writes scikit-learn's handwritten digits (1,797 images of 8 x 8, from UCI) as `data/digits.parquet`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

PATH = Path(__file__).parent / "data" / "digits.parquet"


def make_data(path: Path = PATH) -> Path:
    """Write one row an image: 64 intensities from 0 to 16, row by row, and the digit as text."""
    digits = load_digits()
    intensities = pa.array(digits.data.astype(np.float32).reshape(-1))
    images = pa.FixedSizeListArray.from_arrays(intensities, 64)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": [str(digit) for digit in digits.target]}), path)
    return path


if __name__ == "__main__":
    print(make_data())
