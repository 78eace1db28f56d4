"""What is submitted becomes one request: stages wired, data uploaded once, mistakes named before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import millrace
from millrace import errors
from millrace.client import calls, stages
from millrace.client.calls import Call
from millrace.client.pipelines import Pipeline
from millrace.client.submission import Preparer, Submission
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.views import SubmitRun

MODEL = ArtifactRef(digest="b" * 64, type="model")
DATASET = ArtifactRef(digest="d" * 64, type="dataset")


class Uploads:
    """Takes what would be uploaded, and answers a reference made from the count."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.queries: list[dict[str, str]] = []

    def __call__(self, call: Call[ArtifactRef]) -> ArtifactRef:
        assert callable(call.body)
        self.bodies.append(b"".join(call.body()))
        self.queries.append(dict(call.query))
        return ArtifactRef.model_validate({"digest": f"{len(self.bodies):064x}", "type": call.query["type"]})


def prepare(submission: Submission, uploads: Uploads | None = None) -> SubmitRun:
    return Preparer().prepare(submission, uploads or Uploads())


def stage_of(body: SubmitRun, name: str) -> dict[str, Any]:
    written = body.pipeline["stages"]
    assert isinstance(written, dict)
    stage = written[name]
    assert isinstance(stage, dict)
    return dict(stage)


def test_a_pipeline_in_python_takes_data_at_its_first_clean(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    pipeline = Pipeline("p", stages=[stages.Clean(target="b"), stages.Train(epochs=2)])
    uploads = Uploads()
    body = prepare(Submission(pipeline, data=tmp_path / "rows.csv"), uploads)
    assert stage_of(body, "clean") == {"inputs": {"raw": "$params.data"}, "with": {"target": "b"}}
    assert stage_of(body, "train") == {"with": {"epochs": 2}}
    assert uploads.bodies == [b"a,b\n1,2\n"]
    assert uploads.queries[0]["filename"] == "rows.csv"
    assert body.params["data"] == {"digest": f"{1:064x}", "type": "source", "size_bytes": 0, "tenant": "default"}


def test_a_stage_alone_is_a_pipeline_of_one() -> None:
    body = prepare(Submission(stages.Clean(target="y"), data="s3://bucket/raw/"))
    assert (body.pipeline["name"], body.params) == ("clean", {"data": "s3://bucket/raw/"})


def test_a_stage_takes_artifacts_at_its_inputs() -> None:
    body = prepare(Submission(stages.Evaluate(model=MODEL, dataset=DATASET, gate="accuracy >= 0.9")))
    assert stage_of(body, "evaluate")["inputs"] == {
        "model": "$params.evaluate_model",
        "dataset": "$params.evaluate_dataset",
    }
    assert stage_of(body, "evaluate")["with"] == {"gate": ["accuracy >= 0.9"]}
    assert body.params["evaluate_model"]["digest"] == MODEL.digest  # type: ignore[index,call-overload]


def test_train_alone_takes_a_data_set_as_data() -> None:
    body = prepare(Submission(stages.Train(epochs=1), data=DATASET))
    assert stage_of(body, "train")["inputs"] == {"dataset": "$params.data"}


def test_siblings_stand_beside_the_configuration() -> None:
    stage = stages.Train(name="big", needs=["clean"], timeout_s=60, retry={"max_attempts": 1}, with_={"ema": 0.9})
    body = prepare(Submission(Pipeline("p", stages=[stages.Clean(), stage]), data="s3://b/x"))
    assert stage_of(body, "big") == {
        "kind": "train", "needs": ["clean"], "timeout_s": 60, "retry": {"max_attempts": 1}, "with": {"ema": 0.9},
    }  # fmt: skip


def test_equal_data_goes_up_once_and_changed_data_again(tmp_path: Path) -> None:
    path, uploads, preparer = tmp_path / "rows.csv", Uploads(), Preparer()
    path.write_text("a\n1\n")
    first = preparer.prepare(Submission(stages.Clean(), data=path), uploads)
    second = preparer.prepare(Submission(stages.Clean(), data=str(path)), uploads)
    assert len(uploads.bodies) == 1
    assert first.params == second.params
    assert first.run_id != second.run_id
    path.write_text("a\n1\n2\n")
    preparer.prepare(Submission(stages.Clean(), data=path), uploads)
    assert len(uploads.bodies) == 2


def test_a_directory_goes_up_whole_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.csv", "a/1.csv", ".git/config", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    uploads = Uploads()
    prepare(Submission(stages.Clean(), data=tmp_path), uploads)
    body = uploads.bodies[0]
    assert body.index(b'filename="a/1.csv"') < body.index(b'filename="b/2.csv"')
    assert b"hidden" not in body
    assert b"config" not in body


def test_a_default_path_starts_at_the_pipeline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "name: p\nparams: {data: {type: dataset, default: rows.csv}}\nstages: {clean: {inputs: {raw: $params.data}}}\n"
    )
    monkeypatch.chdir("/")
    uploads = Uploads()
    prepare(Submission(Pipeline.load(file)), uploads)
    assert uploads.bodies == [b"a\n1\n"]


def test_data_fills_the_only_open_data_set() -> None:
    document = {
        "name": "p",
        "params": {"left": "dataset", "right": "dataset"},
        "stages": {"clean": {"inputs": {"raw": "$params.left"}}},
    }
    pipeline = Pipeline.from_dict(document)
    body = prepare(Submission(pipeline, data="s3://b/l", params={"right": "s3://b/r"}))
    assert body.params == {"left": "s3://b/l", "right": "s3://b/r"}
    with pytest.raises(errors.InvalidSpec, match="several data sets: left, right"):
        prepare(Submission(pipeline, data="s3://b/l"))


def test_data_for_a_pipeline_that_takes_none_is_refused() -> None:
    pipeline = Pipeline.from_text("{name: p, stages: {ingest: {with: {uri: s3://b/x}}}}")
    with pytest.raises(errors.InvalidSpec, match="takes no data"):
        prepare(Submission(pipeline, data="s3://b/y"))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [(None, errors.NotFound, "no file or directory"), ("", errors.InvalidData, "holds no data")],
)
def test_data_that_is_missing_or_empty_is_named(
    tmp_path: Path, content: str | None, error: type[errors.MillraceError], message: str
) -> None:
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message) as caught:
        prepare(Submission(stages.Clean(), data=path))
    assert caught.value.field == "params.data"


def test_two_stages_of_one_name_are_refused() -> None:
    with pytest.raises(errors.InvalidSpec, match="Two stages are named 'train'"):
        Pipeline("p", stages=[stages.Train(), stages.Train()])


def test_an_unknown_sibling_is_named() -> None:
    stage = stages.Stage("train", config={}, timeout=3)  # type: ignore[call-arg]
    with pytest.raises(errors.InvalidSpec, match="timeout"):
        prepare(Submission(stage))


@millrace.stage
def count_words(texts: millrace.Dataset, minimum: int = 1) -> millrace.Report:
    return millrace.Report(metrics={"words": float(minimum), "rows": float(sum(texts.num_rows.values()))})


def test_a_function_alone_takes_data_at_its_port_and_parameters_of_its_own() -> None:
    uploads = Uploads()
    body = prepare(Submission(count_words, data=DATASET, params={"minimum": 2}), uploads)
    stage = stage_of(body, "count_words")
    assert (stage["inputs"], stage["with"]) == ({"texts": "$params.data"}, {"minimum": 2})
    assert stage["function"]["code"]["name"] == "count_words"
    assert uploads.queries[0]["type"] == "code"
    assert b"def count_words" in uploads.bodies[0]


def test_a_function_follows_other_stages() -> None:
    pipeline = Pipeline("p", stages=[stages.Clean(), stages.Function(count_words, params={"minimum": 3})])
    body = prepare(Submission(pipeline, data="s3://b/x"))
    assert list(stage_of(body, "count_words")) == ["function", "with"]


def test_a_limit_that_cannot_be_one_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(errors.InvalidSpec, match="greater than or equal to 0; found -3") as refused:
        calls.set_limit("gpu:0", -3)
    assert refused.value.field == "max"
