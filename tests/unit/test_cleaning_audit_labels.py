"""Labels that were flipped on purpose are found, out of fold, on images, texts and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from audit_runs import Audited, audit, divided
from millrace.contracts.schema import Column

RATE = 0.05


def flipped(labels: npt.NDArray[np.int64], *, seed: int = 1) -> npt.NDArray[np.int64]:
    """The labels with 5% of them changed to another class."""
    random = np.random.default_rng(seed)
    wrong = random.choice(len(labels), int(RATE * len(labels)), replace=False)
    out = labels.copy()
    out[wrong] = (labels[wrong] + random.integers(1, labels.max() + 1, len(wrong))) % (labels.max() + 1)
    return out


def precision_and_recall(
    found: Audited, given: npt.NDArray[np.int64], true: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Of the suspects how many were flipped, and of the flipped how many are suspected."""
    suspected = {int(row_id.rsplit("-")[-1]) for row_id in found.label_errors["row_id"].to_pylist()}
    wrong = set(np.flatnonzero(given != true).tolist())
    return len(suspected & wrong) / max(len(suspected), 1), len(suspected & wrong) / len(wrong)


def target(labels: npt.NDArray[np.int64]) -> tuple[Column, pa.Array]:
    vocabulary = tuple(f"c{i}" for i in range(labels.max() + 1))
    return Column(name="y", type="category", role="target", vocabulary=vocabulary), pa.array([f"c{i}" for i in labels])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audited, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    pixels, true = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(true))
    pixels, true = pixels[order], true[order].astype(np.int64)
    given = flipped(true)
    column, labels = target(given)
    images = pa.FixedSizeListArray.from_arrays(pa.array(pixels.astype(np.float32).ravel()), 64)
    rows = pa.table({"image": images, "y": labels})
    columns = [Column(name="image", type="vector", shape=(64,)), column]
    return audit(tmp_path_factory.mktemp("digits"), columns, divided(rows), checks=["labels"]), given, true


def test_flips_of_digits_are_found(digits: tuple[Audited, npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> None:
    precision, recall = precision_and_recall(*digits)
    assert precision >= 0.8
    assert recall >= 0.9


def test_the_first_suspects_are_the_surest(
    digits: tuple[Audited, npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> None:
    found, given, true = digits
    rows = [int(row_id.rsplit("-")[-1]) for row_id in found.label_errors["row_id"].to_pylist()]
    assert np.mean((given != true)[rows[:40]]) >= 0.95
    assert found.label_errors["given"].to_pylist() == [f"c{given[row]}" for row in rows]
    suggested = [f"c{true[row]}" for row in rows[:40]]
    assert np.mean(np.array(found.label_errors["suggested"].to_pylist()[:40]) == suggested) >= 0.95


TOPICS = (
    "engine wheel brake motor road fuel gear driver tyre seat",
    "oven flour butter sugar recipe dough spice boil pan salt",
    "galaxy orbit planet comet star telescope moon crater probe light",
)
COMMON = "the a of and to in is was for with on that it as at by from new good old first day time people"


def texts(num: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    random = np.random.default_rng(2)
    true = random.integers(0, len(TOPICS), num)
    topics, common = [t.split() for t in TOPICS], COMMON.split()
    made = [
        " ".join(
            [*random.choice(topics[topic], 6), *random.choice(common, 20), *random.choice(" ".join(TOPICS).split(), 2)]
        )
        for topic in true
    ]
    return made, true.astype(np.int64)


def test_flips_of_texts_are_found(tmp_path: Path) -> None:
    said, true = texts(900)
    given = flipped(true)
    column, labels = target(given)
    rows = pa.table({"text": said, "y": labels})
    found = audit(tmp_path, [Column(name="text", type="text"), column], divided(rows), checks=["labels"])
    precision, recall = precision_and_recall(found, given, true)
    assert precision >= 0.9
    assert recall >= 0.9


def test_flips_of_a_table_are_found(tmp_path: Path) -> None:
    numbers, true = load_breast_cancer(return_X_y=True)
    true = true.astype(np.int64)
    given = flipped(true)
    column, labels = target(given)
    names = [f"x{i}" for i in range(numbers.shape[1])]
    rows = pa.table({**dict(zip(names, numbers.T, strict=True)), "y": labels})
    found = audit(tmp_path, [*(Column(name=n, type="number") for n in names), column], divided(rows), checks=["labels"])
    precision, recall = precision_and_recall(found, given, true)
    assert precision >= 0.8
    assert recall >= 0.7
    assert found.of("label_errors").evidence["rows"] == found.label_errors.num_rows


def test_known_noise_is_no_finding(tmp_path: Path) -> None:
    said, true = texts(300)
    column, labels = target(flipped(true))
    rows = divided(pa.table({"text": said, "y": labels}))
    columns = [Column(name="text", type="text"), column]
    found = audit(tmp_path, columns, rows, checks=["labels"], max_label_errors=0.1)
    assert found.report.findings == ()
    assert found.label_errors.num_rows > 0


def test_an_audit_of_equal_rows_says_the_same(tmp_path: Path) -> None:
    said, true = texts(200)
    column, labels = target(flipped(true))
    rows = divided(pa.table({"text": said, "y": labels}))
    columns = [Column(name="text", type="text"), column]
    first, second = (audit(tmp_path, columns, rows, seed=5) for _ in range(2))
    assert first.outputs.artifacts["report"].digest == second.outputs.artifacts["report"].digest


def test_labels_that_no_feature_tells_are_no_error(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    column, labels = target(random.integers(0, 2, 300))
    rows = pa.table({"x": random.normal(size=300), "y": labels})
    columns = [Column(name="x", type="number"), column]
    found = audit(tmp_path, columns, divided(rows), checks=["labels"], model="linear")
    (finding,) = found.report.findings
    assert finding.severity == "warning"
    assert "models that cannot judge" in finding.message
