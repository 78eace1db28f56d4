"""The examples' data is real and complete, their pipelines' cleaning accepts it, and their baselines compute what they say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from millrace.contracts.schema import DatasetMeta
from millrace.runtime.stage import local_context
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore
from millrace_cleaning import stage
from millrace_cleaning.settings import CleanConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("digits", "docstrings", "tabular", "pydoc_gpt")


def load(name: str, file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_{file}", EXAMPLES / name / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, DatasetMeta]]:
    """Each example's data set: its directory and its meta, made by the pipeline's own clean stage."""
    root = tmp_path_factory.mktemp("examples")
    store = LocalStore(root / "store", tenant="default")
    made = {}
    for name in NAMES:
        raw = load(name, "make_data").make_data(root / f"{name}.parquet")
        pipeline = YAML(typ="safe").load((EXAMPLES / name / "pipeline.yaml").read_text())
        config = CleanConfig.model_validate(pipeline["stages"]["clean"]["with"])
        source = write_manifest(store, "source", {raw.name: raw}, meta={})
        with local_context(store, root) as context:
            inputs = {"raw": context.open_artifact(source)}
            done = stage.work(context, config, inputs, stage.plan(context, config, inputs)[0])
            assert not isinstance(done, dict)
            dataset = context.open_artifact(done.artifacts["dataset"])
            made[name] = (dataset.directory(), DatasetMeta.model_validate(dataset.meta))
    return made


def splits(meta: DatasetMeta) -> tuple[int, ...]:
    return tuple(meta.num_rows[name] for name in ("train", "validation", "test"))


def test_digits_are_all_there_as_images(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    meta = datasets["digits"][1]
    image = meta.schema_.column("image")
    assert sum(splits(meta)) == 1797
    assert image is not None
    assert (image.type, image.shape, image.minimum, image.maximum) == ("image", (8, 8, 1), 0, 16)


def test_tumours_have_thirty_numbers_and_two_classes(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    schema = datasets["tabular"][1].schema_
    assert {c.type for c in schema.with_role("feature")} == {"number"}
    assert len(schema.with_role("feature")) == 30
    assert schema.with_role("target")[0].vocabulary == ("benign", "malignant")


def test_docstrings_are_many_distinct_and_of_every_package(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    directory, meta = datasets["docstrings"]
    texts = [t for path in directory.glob("data/*.parquet") for t in pq.read_table(path)["text"].to_pylist()]
    target = meta.schema_.with_role("target")[0]
    assert len(texts) == len(set(texts)) > 2500
    assert target.vocabulary == load("docstrings", "make_data").PACKAGES


def test_the_topics_tail_is_a_tenth_of_the_characters(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    directory, _ = datasets["pydoc_gpt"]
    lengths = {
        name: sum(
            len(t) for p in sorted(directory.glob(f"data/{name}-*")) for t in pq.read_table(p)["text"].to_pylist()
        )
        for name in ("train", "validation", "test")
    }
    assert sum(lengths.values()) > 400_000
    assert abs(lengths["test"] / sum(lengths.values()) - 0.1) < 1e-4


def test_the_tabular_baseline_is_strong(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    result = load("tabular", "baseline").baseline(datasets["tabular"][0])
    assert result["rows"] == splits(datasets["tabular"][1])[2]
    assert result["baselines"]["logistic_regression"]["accuracy"] >= 0.94


def test_the_digits_baselines_are_strong(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    found = load("digits", "baseline").baseline(datasets["digits"][0])["baselines"]
    assert found["nearest_neighbours"]["accuracy"] >= 0.97
    assert found["logistic_regression"]["accuracy"] >= 0.94


def test_a_model_is_compared_on_the_same_rows(datasets: dict[str, tuple[Path, DatasetMeta]], tmp_path: Path) -> None:
    directory, _ = datasets["digits"]
    test = pq.read_table(sorted(directory.glob("data/test-*.parquet"))[0]).sort_by([("row_id", "descending")])
    predictions = tmp_path / "predictions.parquet"
    pq.write_table(
        pa.table({"row_id": test["row_id"], "label": test["label"]}), predictions
    )  # a model that is never wrong
    result = load("digits", "baseline").baseline(directory, predictions)
    found = result["baselines"]["logistic_regression"]
    assert result["model"]["accuracy"] == 1
    assert math.isclose(found["model_minus_baseline"]["value"], 1 - found["accuracy"])
    assert 0 < found["model_minus_baseline"]["low"] <= found["model_minus_baseline"]["value"]


def test_kneser_ney_is_a_distribution_over_characters() -> None:
    model = load("pydoc_gpt", "baseline").KneserNey(["the cat sat on the mat. ", "a dog sat."], order=4)
    symbols = [*sorted(set("the cat sat on the mat. a dog sat.")), "\0"]
    for context in ("", "t", "th", "the", "sat", "xyz"):
        assert math.isclose(sum(model.probability(context, s) for s in symbols), 1)


def test_kneser_ney_beats_unigrams_and_xz_beats_nothing(datasets: dict[str, tuple[Path, DatasetMeta]]) -> None:
    result = load("pydoc_gpt", "baseline").baseline(datasets["pydoc_gpt"][0])
    found: dict[str, Any] = result["baselines"]
    assert 1.6 < found["kneser_ney_5gram"]["bits_per_character"] < 2.0
    assert 1.2 < found["primed_xz"]["bits_per_character"] < 1.7


def test_a_language_model_is_scored_over_all_its_windows(
    datasets: dict[str, tuple[Path, DatasetMeta]], tmp_path: Path
) -> None:
    predictions = tmp_path / "predictions.parquet"
    pq.write_table(pa.table({"row_id": ["a", "a"], "characters": [10, 30], "bits": [10.0, 90.0]}), predictions)
    result = load("pydoc_gpt", "baseline").baseline(datasets["pydoc_gpt"][0], predictions)
    assert result["model"] == {"bits_per_character": 2.5}


@pytest.mark.parametrize("name", ["digits", "docstrings", "tabular"])
def test_a_paired_interval_covers_the_mean_of_differences(name: str) -> None:
    differences = np.array([1.0, 0.0, -1.0, 0.0, 1.0, 1.0] * 50)
    found = load(name, "baseline")._paired(differences)
    assert found["low"] < found["value"] == differences.mean() < found["high"]


@pytest.mark.parametrize("name", NAMES)
def test_each_example_has_its_five_files_and_all_stages(name: str) -> None:
    files = {path.name for path in (EXAMPLES / name).iterdir() if path.is_file()}
    assert files >= {"README.md", "baseline.py", "make_data.py", "pipeline.yaml", "run.py"}
    pipeline = YAML(typ="safe").load((EXAMPLES / name / "pipeline.yaml").read_text())
    assert list(pipeline["stages"]) == ["clean", "train", "evaluate", "optimize", "deploy"]
