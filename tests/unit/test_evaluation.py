"""Evaluation: metrics against slow references, paired intervals, and the stage on a real package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from sklearn import metrics as reference

from judged_models import SCHEMA, rows, store_dataset, write_mlp
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetSchema
from millrace.models.bootstrap import Bootstrap
from millrace.models.report import PREDICTIONS, REPORT, Report
from millrace.models.scores import Scores, classification_scores, language_scores, regression_scores
from millrace.runtime.stage import local_context
from millrace.store import Store
from millrace.store.local import LocalStore
from millrace_evaluation.settings import EvaluateConfig
from millrace_evaluation.stage import work
from tiny_models import store_model, write_generator, write_regression
from training_data import write_dataset


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store", tenant="default")


@pytest.fixture
def model(store: Store, tmp_path: Path) -> ArtifactRef:
    return store_model(store, write_mlp(tmp_path / "model"))


def evaluate(store: Store, root: Path, refs: dict[str, ArtifactRef], *, seed: int = 1, **config: Any) -> StageOutputs:
    with local_context(store, root, seed=seed) as context:
        inputs = {port: context.open_artifact(ref) for port, ref in refs.items()}
        return work(context, EvaluateConfig(**config), inputs, {})


def report_of(store: Store, root: Path, found: StageOutputs) -> Report:
    with local_context(store, root) as context:
        return Report.model_validate_json(context.open_artifact(found.artifacts["report"]).read(REPORT))


def random_classification(num_rows: int = 400, *, seed: int = 0) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([1, 1, 1], size=num_rows)
    return random.integers(0, 3, num_rows), probabilities, probabilities.argmax(axis=1)


def test_classification_metrics_agree_with_scikit_learn() -> None:
    truth, probabilities, answers = random_classification()
    found = classification_scores(truth, probabilities, answers).values()
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, answers))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, answers, average="macro"))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, probabilities))
    assert found["brier"] == pytest.approx(((probabilities - np.eye(3)[truth]) ** 2).sum(axis=1).mean())


def test_calibration_error_agrees_with_a_loop_over_bins() -> None:
    truth, probabilities, answers = random_classification()
    confidence, correct = probabilities.max(axis=1), truth == answers
    slow = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            slow += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert classification_scores(truth, probabilities, answers).values()["calibration_error"] == pytest.approx(slow)


def test_regression_metrics_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, values = random.normal(1e6, 1, 500), random.normal(1e6, 1, 500)
    found = regression_scores(truth, values).values()
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(truth, values))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, values))
    assert found["r2"] == pytest.approx(reference.r2_score(truth, values), rel=1e-6)


def test_bits_per_character_weighs_windows_by_their_length() -> None:
    found = language_scores(np.array([10.0, 2.0]), np.array([4, 2])).values()
    assert found == {"bits_per_character": 2.0, "perplexity": 4.0}


def test_a_label_the_model_does_not_know_counts_as_missed() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = classification_scores(np.array([0, -1]), probabilities, np.array([0, 1])).values()
    assert found["accuracy"] == 0.5
    assert np.isfinite(found["log_loss"])


def test_a_resample_by_weights_is_scored_as_the_repeated_rows_are() -> None:
    truth, probabilities, answers = random_classification(50)
    drawn = np.random.default_rng(3).integers(0, 50, 50)
    weights = np.bincount(drawn, minlength=50).astype(float)
    by_weights = classification_scores(truth, probabilities, answers).resampled(weights[None])
    repeated = classification_scores(truth[drawn], probabilities[drawn], answers[drawn]).values()
    assert {k: float(v[0]) for k, v in by_weights.items()} == pytest.approx(repeated)


def _scores(correct: list[int]) -> Scores:
    answers = 1 - np.array(correct)
    return classification_scores(np.zeros(len(correct), dtype=np.int64), np.eye(2)[answers], answers)


def test_a_bootstrap_interval_is_as_wide_as_the_binomial_says() -> None:
    measures, _ = Bootstrap(4000, 0.95, seed=0).measure({"m": _scores([1] * 360 + [0] * 40)})
    found = measures["m"]["accuracy"]
    half = 1.96 * (0.9 * 0.1 / 400) ** 0.5
    assert found.value == 0.9
    assert (found.low, found.high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.004)


def test_equal_seeds_give_equal_intervals() -> None:
    first, second = (Bootstrap(200, 0.9, seed=5).measure({"m": _scores([1, 0, 1, 1])})[0] for _ in range(2))
    assert first == second


def test_a_paired_difference_of_equal_models_is_exactly_nothing() -> None:
    bootstrap = Bootstrap(200, 0.95, seed=0)
    measures, replicates = bootstrap.measure({"a": _scores([1, 0, 1, 1]), "b": _scores([1, 0, 1, 1])})
    found = bootstrap.difference(measures["a"], replicates["a"], measures["b"], replicates["b"])["accuracy"]
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_rows_of_one_group_are_drawn_together() -> None:
    correct = [1] * 50 + [0] * 50
    alone = Bootstrap(500, 0.95, seed=0).measure({"m": _scores(correct)})[0]["m"]["accuracy"]
    grouped = Bootstrap(500, 0.95, seed=0, units=np.arange(100) // 50).measure({"m": _scores(correct)})[0]
    assert alone.high - alone.low < 0.25
    assert (grouped["m"]["accuracy"].low, grouped["m"]["accuracy"].high) == (0, 1)


def test_a_report_binds_the_model_and_the_split(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    dataset = store_dataset(store, wrong=10)
    found = evaluate(store, tmp_path, {"model": model, "dataset": dataset}, gate=["accuracy >= 0.9"])
    report = report_of(store, tmp_path, found)
    assert (report.model, report.dataset, report.split) == (model.digest, dataset.digest, "test")
    assert report.metrics["accuracy"].value == pytest.approx(190 / 200)
    assert report.metrics["accuracy"].low < 0.95 < report.metrics["accuracy"].high
    assert sum(map(sum, report.confusion)) == report.num_rows == 200
    assert sum(c.support for c in report.classes) == 200
    assert found.verdict == report.verdict == "passed"
    assert found.metrics["accuracy"] == report.metrics["accuracy"].value
    assert len(canonical_json(found.summary)) <= 4096


def test_predictions_are_kept_with_their_row_ids(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    found = evaluate(store, tmp_path, {"model": model, "dataset": store_dataset(store, wrong=0)}, rows_per_batch=7)
    with local_context(store, tmp_path) as context:
        table = pq.read_table(context.open_artifact(found.artifacts["report"]).file(PREDICTIONS))
    assert table["row_id"].to_pylist()[-1] == f"{'test':_<16}-199"
    assert table["label"].to_pylist() == table["target"].to_pylist() == rows(200, seed=3)["label"].to_pylist()


def test_equal_inputs_give_an_equal_report(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    refs = {"model": model, "dataset": store_dataset(store)}
    first, second = (evaluate(store, tmp_path, refs).artifacts["report"].digest for _ in range(2))
    assert first == second


def test_a_gate_fails_a_model_that_is_not_good_enough(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    found = evaluate(store, tmp_path, {"model": model, "dataset": store_dataset(store)}, gate="accuracy >= 0.96")
    assert found.verdict == "failed"


def test_a_worse_model_fails_against_the_current_release(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    worse = store_model(store, write_mlp(tmp_path / "worse", noise=1.0))
    refs = {"model": worse, "dataset": store_dataset(store), "current": model}
    found = evaluate(store, tmp_path, refs, gate="not worse than the current release")
    assert found.verdict == "failed"
    difference = report_of(store, tmp_path, found).baselines["current"].differences["accuracy"]
    assert difference.low <= difference.value <= difference.high < 0


def test_a_variant_is_judged_against_its_source_unasked(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    refs = {"model": store_model(store, write_mlp(tmp_path / "worse", noise=1.0)), "source": model}
    found = evaluate(store, tmp_path, {**refs, "dataset": store_dataset(store)})
    assert found.verdict == "failed"
    assert found.summary["gate"][0]["rule"] == "primary metric non_inferior_to source by 2%"


def test_a_current_release_of_other_columns_leaves_the_gate_open(
    store: Store, model: ArtifactRef, tmp_path: Path
) -> None:
    old = store_model(store, write_regression(tmp_path / "old"))
    refs = {"model": model, "dataset": store_dataset(store), "current": old}
    found = evaluate(store, tmp_path, refs, gate="not worse than current")
    assert found.verdict == "inconclusive"
    assert "no column 'x'" in found.summary["gate"][0]["detail"]


def test_a_regression_is_evaluated_in_its_unit(store: Store, tmp_path: Path) -> None:
    schema = DatasetSchema(columns=(
        Column(name="x", type="number"), Column(name="bonus", type="integer", nullable=True),
        Column(name="y", type="number", role="target"),
    ))  # fmt: skip
    table = pa.table({"x": [1.0, 2.0, 3.0], "bonus": pa.array([0, None, 1], pa.int64()), "y": [2.0, 2.0, 5.0]})
    refs = {
        "model": store_model(store, write_regression(tmp_path / "m")),
        "dataset": write_dataset(store, schema, {"test": table}),
    }
    assert evaluate(store, tmp_path, refs, num_bootstrap=100).metrics["mae"] == pytest.approx(2 / 3)


def test_a_language_model_is_charged_for_every_character(store: Store, tmp_path: Path) -> None:
    schema = DatasetSchema(columns=(Column(name="text", type="text"),))
    texts = pa.table({"text": ["abc" * 40, "ab", ""]})
    refs = {
        "model": store_model(store, write_generator(tmp_path / "m")),
        "dataset": write_dataset(store, schema, {"test": texts}),
    }
    found = evaluate(store, tmp_path, refs, num_bootstrap=100)
    assert found.metrics["bits_per_character"] < 1e-3
    with local_context(store, tmp_path) as context:
        table = pq.read_table(context.open_artifact(found.artifacts["report"]).file(PREDICTIONS))
    assert sum(table["characters"].to_pylist()) == 122


def test_a_character_that_training_never_saw_costs_what_naming_it_costs(store: Store, tmp_path: Path) -> None:
    schema = DatasetSchema(columns=(Column(name="text", type="text"),))
    dataset = write_dataset(store, schema, {"test": pa.table({"text": ["abcX"]})})
    refs = {"model": store_model(store, write_generator(tmp_path / "m")), "dataset": dataset}
    assert evaluate(store, tmp_path, refs, num_bootstrap=100).metrics["bits_per_character"] > 20 / 4


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (rows(0, seed=1), "no rows in its test split"),
        (rows(3, seed=1).drop_columns(["x3"]), "no column 'x3'"),
        (rows(3, seed=1).set_column(8, "label", pa.array(["ant", None, "bee"])), "Row 1 of the split has no 'label'"),
    ],
)
def test_data_that_cannot_be_judged_is_refused_in_words(
    store: Store, model: ArtifactRef, tmp_path: Path, split: pa.Table, says: str
) -> None:
    dataset = write_dataset(store, SCHEMA, {"test": split})
    with pytest.raises(errors.InvalidData, match=says):
        evaluate(store, tmp_path, {"model": model, "dataset": dataset})


def test_a_gate_that_does_not_parse_is_refused_when_submitted() -> None:
    with pytest.raises(ValidationError, match=r"rule 2.*did you mean 'accuracy'"):
        EvaluateConfig(gate=("accuracy >= 0.9", "acuracy >= 0.9"))


_WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "sklearn", "onnx", "openvino"):
            raise ImportError(name + " is refused here")
sys.meta_path.insert(0, Refuse())
from pathlib import Path
from millrace.contracts.artifacts import ArtifactRef
from millrace.models.package import read_golden
from millrace.models.predictor import load_predictor
from millrace.runtime.stage import local_context
from millrace.store.local import LocalStore
from millrace_evaluation.settings import EvaluateConfig
from millrace_evaluation.stage import work
root, model, dataset = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = LocalStore(root / "store", tenant="default")
with local_context(store, root) as context:
    refs = {"model": ArtifactRef(digest=model, type="model"), "dataset": ArtifactRef(digest=dataset, type="dataset")}
    inputs = {port: context.open_artifact(ref) for port, ref in refs.items()}
    directory = inputs["model"].directory()
    assert load_predictor(directory).predict(read_golden(directory)[0]).equals(read_golden(directory)[1])
    found = work(context, EvaluateConfig(), inputs, {})
assert "torch" not in sys.modules
print("accuracy", found.metrics["accuracy"])
"""


def test_a_model_is_served_and_evaluated_without_torch(store: Store, model: ArtifactRef, tmp_path: Path) -> None:
    arguments = [str(tmp_path), model.digest, store_dataset(store, wrong=0).digest]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *arguments], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "accuracy 1.0" in done.stdout
