"""The train stage on small data: what it stores, what it repeats, and what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from millrace import errors
from millrace.architectures.registry import build
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetSchema, SplitName
from millrace.models.generator import load_generator
from millrace.models.package import read_card, read_golden
from millrace.models.predictor import load_predictor
from millrace.runtime.stage import Artifact, Context, HandedBack, local_context
from millrace.settings import Settings
from millrace.store.connect import open_store
from millrace_training import stage
from millrace_training.checkpoint import Checkpoints, load_checkpoint
from millrace_training.data import open_dataset
from millrace_training.loop import Trainer
from millrace_training.problem import prepare
from millrace_training.settings import TrainConfig
from training_data import write_dataset

CPU = torch.device("cpu")
SIZES: dict[SplitName, int] = {"train": 1200, "validation": 60, "test": 20}


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with local_context(open_store(Settings(home=tmp_path / "home")), tmp_path, seed=7) as made:
        yield replace(made, num_threads=1)


def table(context: Context, *, regression: bool = False) -> ArtifactRef:
    """Two numbers, one of them at times missing, and a colour; the answer is a simple function of them."""
    random = np.random.default_rng(0)
    target = Column(name="y", type="number" if regression else "category", role="target",
                    vocabulary=None if regression else ("low", "high"))  # fmt: skip
    schema = DatasetSchema(
        task="tabular_regression" if regression else "tabular_classification",
        columns=(Column(name="a", type="number"), Column(name="b", type="number", nullable=True),
                 Column(name="colour", type="category", vocabulary=("green", "red")), target),
    )  # fmt: skip
    splits: dict[SplitName, pa.Table] = {}
    for split, rows in SIZES.items():
        a, b = random.normal(size=rows) * 3 + 100, random.normal(size=rows)
        red = random.random(rows) < 0.5
        value = (a - 100) / 3 + b + 2 * red
        y = 1000 + 50 * value if regression else np.where(value > 1, "high", "low")
        b_list = [None if i % 50 == 0 else float(v) for i, v in enumerate(b)]
        splits[split] = pa.table(
            {"a": a, "b": pa.array(b_list, pa.float64()), "colour": np.where(red, "red", "green"), "y": y}
        )
    return write_dataset(context.store, schema, splits)


def texts(context: Context) -> ArtifactRef:
    """Texts about two subjects."""
    random, words = np.random.default_rng(0), {"fruit": ["apple", "pear", "plum"], "tool": ["saw", "file", "drill"]}
    schema = DatasetSchema(
        task="text_classification",
        columns=(Column(name="text", type="text"),
                 Column(name="subject", type="category", role="target", vocabulary=("fruit", "tool"))),
    )  # fmt: skip
    splits: dict[SplitName, pa.Table] = {}
    sizes: dict[SplitName, int] = {"train": 200, "validation": 40, "test": 5}
    for split, rows in sizes.items():
        subject = ["fruit" if x < 0.5 else "tool" for x in random.random(rows)]
        text = [" ".join(random.choice([*words[s], "the", "a", "of"], size=12)) for s in subject]
        splits[split] = pa.table({"text": text, "subject": subject})
    return write_dataset(context.store, schema, splits)


def prose(context: Context) -> ArtifactRef:
    schema = DatasetSchema(task="language_modelling", columns=(Column(name="text", type="text"),))
    line = "the mill turns and the race runs. "
    return write_dataset(
        context.store,
        schema,
        {"train": pa.table({"text": [line * 40, line * 20]}), "validation": pa.table({"text": [line * 5]})},
    )


def train(context: Context, dataset: ArtifactRef, **config: Any) -> StageOutputs:
    return stage.work(context, TrainConfig(**config), {"dataset": context.open_artifact(dataset)}, {})


def package(context: Context, made: StageOutputs) -> Path:
    return context.open_artifact(made.artifacts["model"]).directory()


SMALL_GPT = {"layers": 1, "width": 32, "heads": 2, "max_context": 32}


def test_a_table_is_learned_and_answered(context: Context) -> None:
    dataset = table(context)
    made = train(context, dataset, epochs=10)
    assert made.metrics["validation.accuracy"] >= 0.9
    assert made.summary["validation"]["accuracy"] == made.metrics["validation.accuracy"]
    assert len(json.dumps(made.summary)) < 4096
    predictor = load_predictor(package(context, made))
    answer = predictor.predict(pa.record_batch({"a": [80.0, 130.0], "b": [0.0, None], "colour": ["red", "blue"]}))
    assert answer.column("label").to_pylist() == ["low", "high"]
    card = predictor.card
    assert (card.task, card.architecture) == ("tabular_classification", "mlp@1")
    assert card.lineage.dataset == dataset.digest


def test_regression_answers_in_the_targets_unit(context: Context) -> None:
    made = train(context, table(context, regression=True), epochs=40)
    assert made.metrics["validation.r2"] > 0.9
    predictor = load_predictor(package(context, made))
    answer = predictor.predict(pa.record_batch({"a": [100.0], "b": [0.0], "colour": ["red"]}))
    assert answer.column("value")[0].as_py() == pytest.approx(1100, abs=30)
    assert made.metrics["validation.rmse"] < 30


def test_images_are_learned_with_jitter(context: Context) -> None:
    random = np.random.default_rng(0)
    schema = DatasetSchema(
        columns=(Column(name="image", type="image", shape=(4, 4, 1)),
                 Column(name="way", type="category", role="target", vocabulary=("across", "down"))),
    )  # fmt: skip
    splits: dict[SplitName, pa.Table] = {}
    sizes: dict[SplitName, int] = {"train": 300, "validation": 60}
    for split, rows in sizes.items():
        across = random.random(rows) < 0.5
        image = random.random((rows, 4, 4)) * 0.3
        image[across, 1, :] = 1
        image[~across, :, 2] = 1
        flat = pa.FixedSizeListArray.from_arrays(pa.array(image.ravel().astype(np.float32)), 16)
        splits[split] = pa.table({"image": flat, "way": np.where(across, "across", "down")})
    made = train(context, write_dataset(context.store, schema, splits), task="image_classification", epochs=15)
    assert made.metrics["validation.accuracy"] >= 0.95


def test_texts_are_learned_and_answered(context: Context) -> None:
    arguments = {"word_buckets": 512, "char_buckets": 512, "vocabulary": 128, "width": 16, "heads": 2}
    made = train(context, texts(context), epochs=3, arguments=arguments)
    assert made.metrics["validation.accuracy"] >= 0.95
    answer = load_predictor(package(context, made)).predict(pa.record_batch({"text": ["a ripe plum", ""]}))
    assert answer.column("label")[0].as_py() == "fruit"


def test_a_language_model_is_learned_and_continues_a_text(context: Context) -> None:
    made = train(context, prose(context), steps=150, max_seconds=100, arguments=SMALL_GPT)
    assert made.metrics["validation.bits_per_character"] < 0.5
    directory = package(context, made)
    text = "".join(load_generator(directory).generate("the mill tur", max_tokens=10, temperature=0))
    assert text.startswith("ns and")


def test_golden_rows_are_what_the_stored_program_answers(context: Context) -> None:
    directory = package(context, train(context, table(context), epochs=1))
    rows, answers = read_golden(directory)
    assert rows.num_rows == 16
    again = load_predictor(directory).predict(rows)
    assert again.column("label").to_pylist() == answers.column("label").to_pylist()


def test_equal_seeds_give_equal_bytes_and_others_do_not(context: Context) -> None:
    dataset = table(context)
    first, second = (train(replace(context, workdir=_fresh(context, n)), dataset, epochs=2) for n in "ab")
    other = train(replace(context, workdir=_fresh(context, "c"), seed=8), dataset, epochs=2)
    assert first.artifacts["model"].digest == second.artifacts["model"].digest != other.artifacts["model"].digest


def _fresh(context: Context, name: str) -> Path:
    directory = context.workdir / name
    directory.mkdir()
    return directory


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_training_ends_bit_for_bit_as_an_uninterrupted_one(
    context: Context, optimizer: Literal["adamw", "muon"]
) -> None:
    dataset = open_dataset(context.open_artifact(table(context)))
    config = TrainConfig(epochs=4, optimizer=optimizer, ema=0.9, dropout=0.3, batch_size=100)

    def trainer(name: str) -> Trainer:
        recipe, task = config.recipe("tabular_classification"), "tabular_classification"
        problem = prepare(dataset, task, recipe, _fresh(context, name), seed=3, device=CPU)
        torch.manual_seed(3)
        model = build(recipe.architecture, {**recipe.arguments, **problem.bound})
        return Trainer(model, problem.objective, recipe, seed=3, bf16=False, device=CPU)

    class Killed(Exception):
        pass

    def die(running: Trainer) -> None:
        if running.counters.step == 29:  # in the middle of the third epoch
            checkpoints.save(running)
            checkpoints.wait()
            raise Killed

    checkpoints = Checkpoints(context)
    whole, cut, resumed = trainer("whole"), trainer("cut"), trainer("resumed")
    whole.run(context, checkpoint=_never, hand_back=_never, every_s=1e9)
    with pytest.raises(Killed):
        cut.run(context, checkpoint=die, hand_back=_never, every_s=0)
    torch.manual_seed(99)
    load_checkpoint(_saved(context), resumed)
    resumed.run(context, checkpoint=_never, hand_back=_never, every_s=1e9)
    assert resumed.metrics == whole.metrics
    assert resumed.counters.step == whole.counters.step == 48
    for name, value in whole.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name


def _never(trainer: Trainer) -> None:
    raise AssertionError("nobody asked for it")


def _saved(context: Context) -> Artifact:
    ref = context.head.checkpoint()
    assert ref is not None
    return context.open_artifact(ref)


def test_a_training_that_is_handed_back_goes_on_in_the_next_attempt(context: Context) -> None:
    dataset = table(context)
    whole = train(replace(context, workdir=_fresh(context, "whole")), dataset, epochs=3)
    stop, lines = threading.Event(), list[tuple[str, Any]]()

    def stop_soon(kind: str, payload: Mapping[str, Any]) -> None:
        if kind == "metric" and payload["step"] == 19:
            stop.set()

    with pytest.raises(HandedBack):
        train(replace(context, workdir=_fresh(context, "cut"), stop=stop, sink=stop_soon), dataset, epochs=3)
    handed_back = _saved(context)
    assert handed_back.meta["step"] == 19
    log = cast(Any, SimpleNamespace(info=lambda event, **values: lines.append((event, values.get("step")))))
    heir = replace(context, workdir=_fresh(context, "heir"), earlier=handed_back.ref, log=log)
    assert train(heir, dataset, epochs=3).artifacts["model"].digest == whole.artifacts["model"].digest
    assert ("training_resumed", 19) in lines


def test_a_checkpoint_of_another_training_is_refused(context: Context) -> None:
    dataset = open_dataset(context.open_artifact(table(context)))
    trainers = []
    for name, rate in (("a", 0.01), ("b", 0.02)):
        recipe = TrainConfig(epochs=1, learning_rate=rate).recipe("tabular_classification")
        problem = prepare(dataset, "tabular_classification", recipe, _fresh(context, name), seed=0, device=CPU)
        model = build(recipe.architecture, {**recipe.arguments, **problem.bound})
        trainers.append(Trainer(model, problem.objective, recipe, seed=0, bf16=False, device=CPU))
    checkpoints = Checkpoints(context)
    checkpoints.save(trainers[0])
    checkpoints.wait()
    with pytest.raises(errors.InvalidData, match="another training"):
        load_checkpoint(_saved(context), trainers[1])


def test_progress_and_curves_are_told(context: Context) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    train(replace(context, sink=lambda kind, payload: told.append((kind, dict(payload)))), table(context), epochs=2)
    progress = [p for kind, p in told if kind == "progress"]
    assert progress[0]["total"] == 38
    assert progress[0]["values"].keys() >= {"loss", "rate"}
    points = [p for kind, p in told if kind == "metric" and p["name"] == "validation.accuracy"]
    assert [p["step"] for p in points] == [19, 38]


def test_the_test_split_is_never_opened(context: Context) -> None:
    ref = table(context)
    artifact = context.open_artifact(ref)
    files = tuple(f for f in artifact.manifest.files if "test" not in f.path)
    without = replace(artifact, manifest=artifact.manifest.model_copy(update={"files": files}))
    stage.work(context, TrainConfig(epochs=1), {"dataset": without}, {})


def test_a_time_limit_ends_training_in_time(context: Context) -> None:
    made = train(context, table(context), epochs=100_000, max_seconds=1.0)
    assert made.summary["cut_by_time"]
    assert 1.0 <= made.summary["seconds"] < 10
    assert made.metrics["validation.accuracy"] > 0.8


def test_patience_stops_early(context: Context) -> None:
    made = train(context, table(context), epochs=500, patience=2, learning_rate=1.0, warmup=0)
    assert made.summary["epochs"] < 500


def test_a_loss_that_explodes_is_a_clear_error(context: Context) -> None:
    ref = table(context, regression=True)
    with pytest.raises(
        errors.StageFailed, match=r"learning_rate: The (loss|validation rmse) became .*Lower learning_rate"
    ):
        train(context, ref, epochs=200, learning_rate=10.0, warmup=0, optimizer="muon", weight_decay=10)


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no task": ({"task": ""}, {}, "Neither the config nor the data set names a task"),
    "unknown task": ({"task": "tabular_clasification"}, {}, "did you mean 'tabular_classification'"),
    "no target": ({"target": None}, {}, "needs one target column, found 0"),
    "one class": ({"target": Column(name="y", type="category", role="target", vocabulary=("low",))}, {}, "has 1 class"),
    "wrong target type": (
        {"target": Column(name="y", type="number", role="target")},
        {},
        "needs a target of type category",
    ),
    "wrong architecture": ({}, {"architecture": "gpt@1"}, "gpt@1 does not read tabular_classification"),
    "unknown argument": ({}, {"arguments": {"widht": 2}}, "did you mean 'width'"),
    "text in a table": ({"feature": Column(name="a", type="text")}, {}, "Column 'a' is text; a table reads"),
    "an unknown label": ({}, {}, "has the target 'medium'"),
    "a null label": ({}, {}, "has the target None"),
    "one class in train": ({}, {}, "All 4 rows of the train split have the target 'low'"),
    "an infinite feature": ({}, {}, "not a finite number"),
    "an empty validation split": ({}, {}, "The validation split has no rows"),
    "an empty train split": ({}, {}, "The train split has no rows"),
    "too large": ({}, {"arguments": {"width": 65_536, "depth": 64}}, "GiB are free"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_a_clear_error(context: Context, case: str) -> None:
    changes, config, message = BAD[case]
    target = changes.get("target", Column(name="y", type="category", role="target", vocabulary=("low", "high")))
    columns = (changes.get("feature", Column(name="a", type="number")), *([target] if target else []))
    schema = DatasetSchema(task=changes.get("task", "tabular_classification"), columns=columns)
    a = [1.0, float("inf") if case == "an infinite feature" else 2.0, 3.0, 4.0]
    y: list[str | None] = ["low", "high", "low", "high"]
    if case == "an unknown label":
        y[2] = "medium"
    if case == "a null label":
        y[2] = None
    if case == "one class in train":
        y = ["low"] * 4
    rows, none = pa.table({"a": a, "y": y}), pa.table({"a": a[:0], "y": pa.array([], pa.string())})
    ref = write_dataset(
        context.store, schema,
        {"train": none if "train split" in case else rows, "validation": none if "validation" in case else rows},
    )  # fmt: skip
    with pytest.raises(errors.MillraceError, match=message) as caught:
        train(context, ref, **config)
    assert isinstance(caught.value, errors.InvalidInput | errors.ResourceExhausted)
    assert caught.value.remedy or "did you mean" in str(caught.value)


def test_an_unreadable_shard_is_a_clear_error(context: Context) -> None:
    artifact = context.open_artifact(table(context))
    digest = context.store.put_bytes(b"not Parquet")
    files = tuple(f.model_copy(update={"digest": digest}) for f in artifact.manifest.files)
    broken = replace(artifact, manifest=artifact.manifest.model_copy(update={"files": files}))
    with pytest.raises(errors.InvalidData, match=r"Shard data/train-00000.parquet cannot be read"):
        stage.work(context, TrainConfig(), {"dataset": broken}, {})


def test_the_package_holds_no_pickle(context: Context) -> None:
    directory = package(context, train(context, prose(context), steps=2, arguments=SMALL_GPT))
    assert read_card(directory).requires == "portable"
    assert {p.suffix for p in directory.rglob("*") if p.is_file()} == {".json", ".safetensors", ".onnx", ".parquet"}
