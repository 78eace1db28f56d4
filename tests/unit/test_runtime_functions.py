"""`@millrace.stage`: what a function says of itself, and how it is called where only its source arrives."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.commands import Foreach
from millrace.contracts.events import StageOutputs
from millrace.contracts.pipelines import FunctionSpec
from millrace.contracts.schema import Column, DatasetMeta, DatasetSchema, Shard
from millrace.runtime.code import load_code
from millrace.runtime.functions import StageFunction, stage
from millrace.runtime.phases import execute_here
from millrace.runtime.stage import Artifact, Context, HandedBack, local_context
from millrace.settings import Settings
from millrace.store.artifacts import write_manifest
from millrace.store.connect import open_store
from probes.worker import make_command

SOURCE = '''
from __future__ import annotations
from collections.abc import Iterable
from millrace.runtime.functions import stage
from millrace.runtime.stage import Context
from millrace.runtime.values import Dataset, Model, Report, Table

@stage
def count(texts: Dataset, context: Context, word: str = "mill", others: list[Dataset] | None = None) -> Report:
    """Count a word."""
    found = sum(word in text for batch in texts.iter_batches(columns=["text"]) for text in batch["text"].to_pylist())
    return Report(metrics={"found": found}, details={"run": context.run_id})

@stage
def square(item: int, offset: int = 0) -> int:
    return item * item + offset

@stage
def lengths(texts: Dataset, item: int) -> int:
    return len(texts.to_arrow().column("text")[item].as_py())

@lengths.plan
def _(texts: Dataset) -> list[int]:
    return list(range(sum(texts.num_rows.values())))

@lengths.merge
def _(each: Iterable[int], factor: float = 1.0) -> Report:
    return Report(metrics={"total": sum(each) * factor})

@stage
def upper(texts: Dataset) -> Table:
    import pyarrow.compute as pc
    table = texts.to_arrow()
    return Table(table.set_column(1, "text", pc.utf8_upper(table.column("text"))))

@stage
def patient(context: Context) -> int:
    earlier = context.resumed()
    if context.stop_requested:
        context.hand_back({"state": b"half"}, meta={"step": 7})
    return earlier.meta["step"] + len(earlier.read("state")) if earlier else 0

if __name__ == "__main__":
    raise SystemExit("a worker must not run this")
'''


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    path = tmp_path / "users_job.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("users_job", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["users_job"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["users_job"]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with local_context(open_store(Settings(home=tmp_path / "home")), tmp_path) as made:
        yield made


@pytest.fixture
def texts(context: Context) -> Artifact:
    """A data set of three texts in two shards."""
    shards = {"train": ["a mill", "a race"], "test": ["mill race"]}
    schema = DatasetSchema(columns=(Column(name="text", type="text"),))
    files: dict[str, Path | bytes] = {"schema.json": schema.to_json().encode()}
    for split, rows in shards.items():
        path = context.workdir / f"{split}.parquet"
        pq.write_table(pa.table({"row_id": [f"{split}-{i}" for i in range(len(rows))], "text": rows}), path)
        files[f"data/{split}-00000.parquet"] = path
    meta = DatasetMeta(
        schema_=schema, num_rows={"train": 2, "test": 1},
        shards=(Shard(path="data/train-00000.parquet", split="train", num_rows=2),
                Shard(path="data/test-00000.parquet", split="test", num_rows=1)),
    )  # fmt: skip
    ref = context.write_artifact("dataset", files, meta=meta.model_dump(mode="json", by_alias=True))
    return context.open_artifact(ref)


def spec_of(function: StageFunction[..., Any], context: Context) -> FunctionSpec:
    def upload(type: ArtifactType, files: Mapping[str, bytes], meta: Mapping[str, Any], /) -> ArtifactRef:
        return write_manifest(context.store, type, files, meta=meta)

    return function.spec(upload)


def run(
    function: StageFunction[..., Any], context: Context, inputs: Mapping[str, Any] | None = None, *,
    foreach: Foreach | None = None, **config: Any,
) -> StageOutputs:  # fmt: skip
    spec = spec_of(function, context)
    command = make_command(
        kind="function", service="functions", function=spec.code, foreach=foreach, config=config,
        outputs={name: port.type for name, port in spec.outputs.items()},
    )  # fmt: skip
    return execute_here(command, load_code(command, context), context, inputs or {})


def test_annotations_become_ports_and_parameters(module: ModuleType, context: Context) -> None:
    spec = spec_of(module.count, context)
    assert {name: (p.type, p.optional, p.many) for name, p in spec.inputs.items()} == {
        "texts": ("dataset", False, False), "others": ("dataset", True, True),
    }  # fmt: skip
    assert spec.outputs["report"].type == "report"
    assert spec.params == {"word": {"type": "string", "default": "mill"}}


def test_plan_and_merge_are_part_of_what_a_function_says(module: ModuleType, context: Context) -> None:
    spec = spec_of(module.lengths, context)
    assert (spec.has_plan, spec.has_merge) == (True, True)
    assert list(spec.outputs) == ["report"]
    assert spec.params == {"factor": {"type": "number", "default": 1.0}}


def test_called_it_is_the_function_it_was(module: ModuleType) -> None:
    assert module.square(3, offset=1) == 10
    assert module.count.__doc__ == "Count a word."


def test_the_source_is_executed_and_its_main_block_is_not(
    module: ModuleType, context: Context, texts: Artifact
) -> None:
    ended = run(module.count, context, {"texts": texts}, word="race")
    assert ended.metrics == {"found": 2.0}
    assert ended.artifacts["report"].type == "report"


def test_a_functions_plan_and_merge_are_executed(module: ModuleType, context: Context, texts: Artifact) -> None:
    assert run(module.lengths, context, {"texts": texts}, factor=2).metrics == {"total": 42.0}


def test_a_function_is_mapped_over_items(module: ModuleType, context: Context) -> None:
    ended = run(module.square, context, foreach=Foreach(items=(1, 2, 3)), offset=1)
    values = [context.open_artifact(ref).read("result.json") for ref in ended.lists["result"]]
    assert values == [b"2", b"5", b"10"]


def test_a_function_goes_on_from_the_checkpoint_of_the_attempt_before(module: ModuleType, tmp_path: Path) -> None:
    store, stop = open_store(Settings(home=tmp_path / "home")), threading.Event()
    stop.set()
    with local_context(store, tmp_path, stop=stop) as first, pytest.raises(HandedBack):
        run(module.patient, first)
    with local_context(store, tmp_path, fence=2) as second:
        ended = run(module.patient, second)
        assert second.open_artifact(ended.artifacts["result"]).read("result.json") == b"11"


def test_one_item_gives_a_list_of_one(module: ModuleType, context: Context) -> None:
    assert len(run(module.square, context, foreach=Foreach(items=(4,))).lists["result"]) == 1


def test_a_function_is_mapped_over_shards(module: ModuleType, context: Context, texts: Artifact) -> None:
    ended = run(module.count, context, {"texts": texts}, foreach=Foreach(shards_of="texts"))
    reports = [context.open_artifact(ref).meta["metrics"] for ref in ended.lists["report"]]
    assert reports == [{"found": 1}, {"found": 1}]


def test_a_table_comes_back_as_a_source(module: ModuleType, context: Context, texts: Artifact) -> None:
    ref = run(module.upper, context, {"texts": texts}).artifacts["table"]
    table = pq.read_table(context.open_artifact(ref).file("table.parquet"))
    assert (ref.type, table.column("text").to_pylist()[0]) == ("source", "A MILL")


def test_a_wrong_parameter_is_named(module: ModuleType, context: Context, texts: Artifact) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        run(module.count, context, {"texts": texts}, word=3)
    assert caught.value.field == "stages.probe.with.word"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(x): ...", "has no type"),
        ("def f(x: object()): ...", "could not be read|cannot carry"),
        ("def f(*x: int): ...", "named parameters only"),
        ("def f(x: 'Missing'): ...", "could not be read"),
        ("class A:\n    def f(self): ...\nf = A.f", "inside another function or a class"),
        ("f = lambda: 1", "inside another function or a class"),
    ],
)
def test_what_cannot_be_a_stage_is_told_when_it_is_submitted(
    code: str, said: str, tmp_path: Path, context: Context
) -> None:
    path = tmp_path / "users_bad_job.py"
    path.write_text(code)
    namespace: dict[str, Any] = {"__name__": "users_bad_job", "__file__": str(path)}
    exec(compile(code, str(path), "exec"), namespace)
    with pytest.raises(errors.InvalidSpec, match=said):
        spec_of(stage(namespace["f"]), context)


def test_a_function_without_a_file_is_told_to_be_put_into_one(context: Context) -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("def f() -> int: return 1", namespace)
    with pytest.raises(errors.InvalidSpec, match="no source file"):
        spec_of(stage(namespace["f"]), context)


def test_a_module_that_needs_what_is_not_installed_says_so(context: Context) -> None:
    code = context.write_artifact("code", {"job.py": b"import not_installed_here"})
    command = make_command(kind="function", function={"code": code, "module": "job", "name": "f"})
    with pytest.raises(errors.StageFailed, match="not_installed_here") as caught:
        load_code(command, context)
    assert "modules beside its file travel" in caught.value.remedy
