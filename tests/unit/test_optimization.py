"""Optimization: variants are built and proved, chosen under constraints, and packed for serving alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pytest
from pydantic import ValidationError

from judged_models import SCHEMA, rows, store_dataset, write_mlp
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.base import canonical_json
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetSchema
from millrace.models.comparison import Comparison
from millrace.models.package import read_card
from millrace.models.predictor import load_predictor
from millrace.models.report import Measure
from millrace.runtime.stage import local_context
from millrace.store import Store
from millrace.store.local import LocalStore
from millrace_optimization.choosing import Variant, VariantTable, choose
from millrace_optimization.constraints import parse_constraint, violated
from millrace_optimization.settings import ALL_VARIANTS, OptimizeConfig
from millrace_optimization.stage import work
from millrace_optimization.weights import quantize_weights
from tiny_models import store_model, write_generator, write_regression
from training_data import write_dataset


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store", tenant="default")


def optimize(store: Store, root: Path, model: ArtifactRef, dataset: ArtifactRef, **config: Any) -> StageOutputs:
    with local_context(store, root, seed=1) as context:
        inputs = {"model": context.open_artifact(model), "dataset": context.open_artifact(dataset)}
        return work(context, OptimizeConfig(num_repeats=5, num_bootstrap=100, **config), inputs, {})


def table_of(store: Store, root: Path, found: StageOutputs) -> VariantTable:
    with local_context(store, root) as context:
        return VariantTable.model_validate_json(
            context.open_artifact(found.artifacts["variants"]).read("variants.json")
        )


def package_of(store: Store, root: Path, found: StageOutputs) -> Path:
    with local_context(store, root) as context:
        return context.open_artifact(found.artifacts["model"]).directory()


def variant(name: str, **facts: Any) -> Variant:
    return Variant(name=name, format="onnx", precision="fp32", **facts)


def test_the_chosen_variant_is_at_most_half_as_large_and_keeps_its_accuracy(store: Store, tmp_path: Path) -> None:
    model, dataset = store_model(store, write_mlp(tmp_path / "m")), store_dataset(store)
    found = optimize(store, tmp_path, model, dataset, subject_to=["accuracy_drop <= 0.005", "size_ratio <= 0.5"])
    table = table_of(store, tmp_path, found)
    chosen = next(v for v in table.variants if v.name == table.chosen)
    assert chosen.status == "chosen"
    assert chosen.precision == "int8"
    assert chosen.size_ratio <= 0.5
    assert chosen.drops["accuracy"].low <= chosen.drops["accuracy"].value <= 0.005 + 1e-9  # one row of 200
    assert [v.name for v in table.variants] == list(ALL_VARIANTS)
    assert len(canonical_json(found.summary)) <= 4096


def test_what_ships_has_one_program_and_no_weights(store: Store, tmp_path: Path) -> None:
    model = store_model(store, write_mlp(tmp_path / "m"))
    found = optimize(store, tmp_path, model, store_dataset(store), variants=["onnx_int8"])
    directory = package_of(store, tmp_path, found)
    card = read_card(directory)
    assert sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()) == [
        "featurizer/standardize-0.safetensors", "golden.parquet", "model.json", "programs/int8.onnx",
    ]  # fmt: skip
    assert (card.programs[0].precision, card.lineage.source_model) == ("int8", model.digest)
    labels = load_predictor(directory).predict(rows(50, seed=8).to_batches()[0]).column("label").to_pylist()
    assert sum(a == b for a, b in zip(labels, rows(50, seed=8)["label"].to_pylist(), strict=True)) >= 48


@pytest.mark.parametrize("name", ALL_VARIANTS)
def test_every_variant_answers_nearly_as_its_source(store: Store, tmp_path: Path, name: str) -> None:
    model = store_model(store, write_mlp(tmp_path / "m"))
    found = optimize(
        store, tmp_path, model, store_dataset(store), variants=[name], subject_to=["accuracy_drop <= 0.02"]
    )
    measured = next(v for v in table_of(store, tmp_path, found).variants if v.name == name)
    assert measured.status == "chosen"
    assert measured.parity_max_abs < (1e-5 if measured.precision == "fp32" else 0.05)
    assert measured.latency_p25_ms <= measured.latency_p50_ms <= measured.latency_p75_ms


def test_a_variant_that_cannot_be_built_fails_alone(store: Store, tmp_path: Path) -> None:
    model = store_model(store, write_regression(tmp_path / "m"))
    schema = DatasetSchema(columns=(
        Column(name="x", type="number"), Column(name="bonus", type="integer", nullable=True),
        Column(name="y", type="number", role="target"),
    ))  # fmt: skip
    table = pa.table({"x": [1.0, 2.0, 4.0], "bonus": pa.array([0, None, 1], pa.int64()), "y": [1.0, 2.5, 5.0]})
    dataset = write_dataset(store, schema, {"validation": table})
    found = optimize(store, tmp_path, model, dataset, variants=["onnx_int8_weights", "onnx_fp32"])
    statuses = {row["name"]: row["status"] for row in found.summary["variants"]}
    assert statuses == {"onnx_fp32": "chosen", "onnx_int8_weights": "failed"}
    assert "no constant" in found.summary["variants"][1]["reason"]


def test_a_language_model_has_variants_too(store: Store, tmp_path: Path) -> None:
    model = store_model(store, write_generator(tmp_path / "m"))
    schema = DatasetSchema(columns=(Column(name="text", type="text"),))
    dataset = write_dataset(store, schema, {"validation": pa.table({"text": ["abc" * 30, "abca"]})})
    found = optimize(store, tmp_path, model, dataset, variants=["onnx_fp32", "openvino_fp32"])
    rows_by_name = {row["name"]: row for row in found.summary["variants"]}
    assert rows_by_name["openvino_fp32"]["status"] in ("chosen", "kept")
    assert rows_by_name["openvino_fp32"]["drop"]["value"] == pytest.approx(0, abs=1e-4)


def test_the_test_split_is_never_read(store: Store, tmp_path: Path) -> None:
    model = store_model(store, write_mlp(tmp_path / "m"))
    poison = rows(3, seed=1).drop_columns(["x0"])
    dataset = write_dataset(store, SCHEMA, {"validation": rows(20, seed=2), "test": poison, "train": poison})
    assert optimize(store, tmp_path, model, dataset, variants=["onnx_fp32"]).summary["chosen"] == "onnx_fp32"


def test_without_validation_rows_it_is_refused(store: Store, tmp_path: Path) -> None:
    model = store_model(store, write_mlp(tmp_path / "m"))
    with pytest.raises(errors.InvalidData, match="no rows in its validation split"):
        optimize(store, tmp_path, model, write_dataset(store, SCHEMA, {"test": rows(3, seed=1)}))


def test_an_optimized_model_is_not_optimized_again(store: Store, tmp_path: Path) -> None:
    dataset = store_dataset(store)
    first = optimize(store, tmp_path, store_model(store, write_mlp(tmp_path / "m")), dataset, variants=["onnx_int8"])
    with pytest.raises(errors.InvalidInput, match="no fp32 ONNX program"):
        optimize(store, tmp_path, first.artifacts["model"], dataset)


def test_the_least_of_the_goal_wins_among_those_that_keep_the_constraints() -> None:
    variants = [
        variant("source", latency_p50_ms=3, size_ratio=1.0),
        variant("fast", latency_p50_ms=1, size_ratio=0.9),
        variant("small", latency_p50_ms=2, size_ratio=0.3),
        variant("broken", status="failed", reason="no kernel"),
    ]
    limit = [Comparison("size_ratio", "<=", 0.5)]
    marked = choose(variants, constraints=limit, minimize="latency_p50_ms", eligible=[v.name for v in variants])
    assert [v.status for v in marked] == ["refused", "refused", "chosen", "failed"]
    assert marked[1].reason == "size_ratio is 0.9, not <= 0.5"


def test_if_none_keeps_the_constraints_the_source_stays_and_says_so() -> None:
    variants = [variant("source", size_ratio=1.0), variant("other", size_ratio=0.9)]
    marked = choose(
        variants, constraints=[Comparison("size_ratio", "<=", 0.5)], minimize="size_bytes", eligible=["other"]
    )
    assert [v.status for v in marked] == ["chosen", "refused"]
    assert "the source's program stays" in marked[0].reason


def test_the_source_is_chosen_only_if_it_was_asked_for() -> None:
    variants = [variant("source", latency_p50_ms=1), variant("other", latency_p50_ms=2)]
    marked = choose(variants, constraints=[], minimize="latency_p50_ms", eligible=["other"])
    assert [v.status for v in marked] == ["kept", "chosen"]


def test_a_drop_that_equals_its_limit_keeps_it() -> None:
    drop = Measure(value=0.95 - 0.945, low=0, high=0.01)
    measured = variant("v", drops={"accuracy": drop}).measured()
    assert violated([parse_constraint("accuracy_drop <= 0.005")], measured) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("acuracy_drop <= 0.1", "did you mean 'accuracy_drop'"),
        ("size_ratio = 0.5", "At character 12"),
        ("size_ratio <= ", "found the end"),
    ],
)
def test_a_wrong_constraint_is_refused_when_submitted(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        OptimizeConfig(subject_to=(text,))


def test_rounded_weights_differ_by_at_most_half_a_step(tmp_path: Path) -> None:
    directory = write_mlp(tmp_path / "m")
    source, target = directory / "programs/fp32.onnx", tmp_path / "rounded.onnx"
    quantize_weights(source, target)
    before = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(source).graph.initializer}
    after = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(target).graph.initializer}
    scale = after["w2.scale"]
    assert (abs(after["w2.int8"] * scale - before["w2"]) <= scale / 2 + 1e-7).all()
    assert "w1" in after  # too small to round


def test_variants_json_says_under_which_conditions_it_was_measured(store: Store, tmp_path: Path) -> None:
    model = store_model(store, write_mlp(tmp_path / "m"))
    found = optimize(store, tmp_path, model, store_dataset(store), variants=["onnx_fp32"])
    with local_context(store, tmp_path) as context:
        kept = json.loads(context.open_artifact(found.artifacts["variants"]).read("variants.json"))
    assert (kept["source"], kept["device"], kept["num_repeats"]) == (model.digest, "cpu", 5)
