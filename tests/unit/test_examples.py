"""The examples' data is real and complete, their pipelines' cleaning accepts it, and their baselines compute what they say."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from examples.comparing import read_split
from millrace.contracts.schema import DatasetMeta
from millrace.runtime.stage import local_context
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore
from millrace_cleaning import stage
from millrace_cleaning.settings import CleanConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("digits", "docstrings", "tabular", "pydoc_gpt")


def load(name: str, file: str) -> ModuleType:
    return import_module(f"examples.{name}.{file}")


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


def never_wrong(dataset: Path, target: str, path: Path) -> Path:
    """Predictions of a model that answers every test row rightly, in another order than the split's."""
    test = read_split(dataset, "test").sort_by([("row_id", "descending")])
    pq.write_table(pa.table({"row_id": test["row_id"], "label": test[target]}), path)
    return path


def test_the_tabular_baseline_is_strong(datasets: dict[str, tuple[Path, DatasetMeta]], tmp_path: Path) -> None:
    directory, meta = datasets["tabular"]
    found = load("tabular", "baseline").compare(directory, never_wrong(directory, "diagnosis", tmp_path / "p.parquet"))
    assert len(found.row_ids) == splits(meta)[2]
    assert found.value("logistic_regression") >= 0.94


def test_the_digits_baselines_are_strong_and_judged_on_the_models_rows(
    datasets: dict[str, tuple[Path, DatasetMeta]], tmp_path: Path
) -> None:
    directory, _ = datasets["digits"]
    found = load("digits", "baseline").compare(directory, never_wrong(directory, "label", tmp_path / "p.parquet"))
    assert found.value("model") == 1
    assert found.value("nearest_neighbours") >= 0.97
    assert found.value("logistic_regression") >= 0.94
    assert found.lead("logistic_regression").value == pytest.approx(1 - found.value("logistic_regression"))
    assert found.lead("logistic_regression").outcome == "ahead"


def test_kneser_ney_is_a_distribution_over_characters() -> None:
    model = load("pydoc_gpt", "baseline").KneserNey(["the cat sat on the mat. ", "a dog sat."], order=4)
    symbols = [*sorted(set("the cat sat on the mat. a dog sat.")), "\0"]
    for context in ("", "t", "th", "the", "sat", "xyz"):
        assert math.isclose(sum(model.probability(context, s) for s in symbols), 1)


def test_a_language_model_stands_beside_counting_and_compressing_over_all_its_windows(
    datasets: dict[str, tuple[Path, DatasetMeta]], tmp_path: Path
) -> None:
    directory, _ = datasets["pydoc_gpt"]
    tail = read_split(directory, "test")
    ids, lengths = tail["row_id"].to_pylist(), [len(text) for text in tail["text"].to_pylist()]
    windows = pa.table({"row_id": ids * 2, "bits": [1.0 * n for n in lengths] + [1.5 * n for n in lengths]})
    pq.write_table(windows, tmp_path / "p.parquet")
    found = load("pydoc_gpt", "baseline").compare(directory, tmp_path / "p.parquet")
    assert found.value("model") == pytest.approx(2.5)
    assert 1.6 < found.value("kneser_ney_5gram") < 2.0
    assert 1.2 < found.value("primed_xz") < 1.7
    assert found.lead("kneser_ney_5gram").outcome == found.lead("primed_xz").outcome == "behind"


@pytest.mark.parametrize("name", NAMES)
def test_each_example_has_its_five_files_and_all_stages(name: str) -> None:
    files = {path.name for path in (EXAMPLES / name).iterdir() if path.is_file()}
    assert files >= {"README.md", "baseline.py", "make_data.py", "pipeline.yaml", "run.py"}
    pipeline = YAML(typ="safe").load((EXAMPLES / name / "pipeline.yaml").read_text())
    assert list(pipeline["stages"]) == ["clean", "train", "evaluate", "optimize", "deploy"]


def test_a_noisy_corpus_loses_its_noise_and_every_loss_is_in_the_account(tmp_path: Path) -> None:
    raw = load("corpus", "make_data").make_data(tmp_path / "corpus.jsonl.gz")
    pipeline = YAML(typ="safe").load((EXAMPLES / "corpus" / "pipeline.yaml").read_text())
    config = CleanConfig.model_validate(pipeline["stages"]["clean"]["with"])
    store = LocalStore(tmp_path / "store", tenant="default")
    source = write_manifest(store, "source", {raw.name: raw}, meta={})
    with local_context(store, tmp_path) as context:
        inputs = {"raw": context.open_artifact(source)}
        done = stage.work(context, config, inputs, stage.plan(context, config, inputs)[0])
        assert not isinstance(done, dict)
        dataset = context.open_artifact(done.artifacts["dataset"])
        meta = DatasetMeta.model_validate(dataset.meta)
        rows = {
            row[0]: (int(row[1]), int(row[2])) for row in load("corpus", "run").fates(dataset.directory(), source=raw)
        }
        assert (dataset.directory() / "report.html").stat().st_size > 10_000
    assert sum(total - removed for total, removed in rows.values()) == sum(splits(meta))
    assert all(rows[origin][0] == rows[origin][1] for origin in ("German", "list", "repeated"))
    assert rows["documentation"][1] < 0.5 * rows["documentation"][0]
