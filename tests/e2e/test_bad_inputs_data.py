"""Bad data, and what goes wrong in a stage: the run ends with the stage, the field or the row, and what to do."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import millrace as sdk
from bad_inputs import CLEAN, HEAD, ROWS, TRAIN, Terminal
from millrace import Pipeline, errors
from millrace.testing.factory import Factory

BY_USER = "  clean: {with: {target: label, split: {by: user}}}\n"
NO_NULLS = "  clean: {with: {target: label, on_null_target: fail}}\n"


def parquet(**columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


GOOD = parquet(x=[float(i) for i in range(60)], label=["a", "b"] * 30)
NAN = parquet(x=[1.0, 2.0, 3.0], label=[0.5, float("nan"), 1.5])

DATA = [
    ("header.csv", b"n,x,label\n", CLEAN, ["'clean'", "no rows", "below the header"]),
    ("ragged.csv", ROWS.encode() + b"1,2\n", CLEAN, ["ragged.csv, line 62", "expected 3 values", "found 2"]),
    ("latin.csv", ROWS.encode() + "1,2,ä\n".encode("latin-1"), CLEAN, ["line 62", "not utf-8", "encoding: latin-1"]),
    ("bytes.csv", bytes(range(256)) * 9, CLEAN, ["bytes.csv, line 2", "not utf-8"]),
    ("rows.jsonl", b'{"label": "a"}\n{"label":\n', CLEAN, ["rows.jsonl, line 2", "not JSON", "truncated"]),
    ("cut.parquet", GOOD[:-50], CLEAN, ["cut.parquet is not a whole Parquet file", "Write it again"]),
    ("text.parquet", b"x,label\n1,a\n", CLEAN, ["text.parquet is not a whole Parquet file", "another format"]),
    ("rows.xlsx", b"PK\3\4rows", CLEAN, ["no data file", "rows.xlsx", ".csv"]),
    ("one.csv", b"x,label\n" + b"".join(b"%d,a\n" % i for i in range(50)), CLEAN,
     ["with.target", "'label' has one class only: a", "at least two"]),
    ("no_label.csv", b"n,x\n1,2\n", CLEAN, ["with.target", "no column 'label'", "valid: n, x"]),
    ("nulls.csv", b"x,label\n" + b"".join(b"%d,\n" % i for i in range(50)), CLEAN, ["No row is left: null_label (50)"]),
    ("nan.parquet", NAN, NO_NULLS, ["nan.parquet, row 2", "'label' is null (or NaN)", "on_null_target: drop"]),
    ("rows.csv", ROWS.encode(), BY_USER, ["with.split.by", "no column 'user'", "label, n, x"]),
]  # fmt: skip

STAGES = [
    ("  train: {with: {arguments: {widht: 4}}}\n", ["'train'", "arguments", "did you mean 'width'"]),
    ("  train: {with: {architecture: gpt@1}}\n", ["'train'", "does not read tabular_classification", "Use mlp@1"]),
    ("  train: {with: {task: text_classification}}\n", ["'train'", "Column 'n' is integer", "ignore"]),
    ("  train: {timeout_s: 0.01}\n", ["'train'", "did not end within its limit of 0.01 s", "timeout_s"]),
    (TRAIN + "  evaluate: {with: {gate: [rmse <= 0.1]}}\n", ["'evaluate'", "no metric 'rmse'", "accuracy"]),
    (TRAIN + "  evaluate: {}\n  deploy: {with: {endpoint: bad, sample: [{nope: 1}]}}\n",
     ["'deploy'", "no column 'nope'", "valid: n, x"]),
]  # fmt: skip


def test_what_a_rejected_run_found_is_saved(millrace: Terminal) -> None:
    audited = millrace.pipeline(CLEAN + "  audit: {with: {checks: [columns], fail_on: [duplicate_column]}}\n")
    data = millrace.write(
        "twice.csv", b"x,again,label\n" + b"".join(b"%d.5,%d.5,%c\n" % (i, i, 97 + i % 2) for i in range(60))
    )
    millrace("run", audited, "--data", data, "--save", str(millrace.directory / "out")).refused(
        "'audit'", "gate", code=1
    )
    report = json.loads((millrace.directory / "out" / "audit" / "report" / "report.json").read_bytes())
    assert report["verdict"] == "failed"


@pytest.mark.parametrize(("name", "content", "stages", "words"), DATA)
def test_bad_data_ends_the_run_with_its_file_and_row(
    millrace: Terminal, name: str, content: bytes, stages: str, words: list[str]
) -> None:
    data = millrace.write(name, content)
    millrace("run", millrace.pipeline(stages), "--data", data).refused(*words, "failed at stage", code=1)


@pytest.mark.parametrize("name", ["empty.csv", "empty"])
def test_data_without_a_byte_is_refused_before_it_is_sent(millrace: Terminal, name: str) -> None:
    path = millrace.directory / name
    path.touch() if path.suffix else path.mkdir()
    millrace("run", millrace.pipeline(CLEAN), "--data", str(path)).refused("params.data", "holds no data", "not empty")


def test_an_s3_url_needs_a_store_on_s3(millrace: Terminal) -> None:
    outcome = millrace("run", millrace.pipeline(CLEAN), "--data", "s3://bucket/rows/")
    outcome.refused("s3://bucket/rows/", "MILLRACE_STORE_URL", "s3+http://", code=1)


@pytest.mark.parametrize(("stages", "words"), STAGES)
def test_a_stage_that_cannot_work_says_why(millrace: Terminal, stages: str, words: list[str]) -> None:
    millrace("run", millrace.pipeline(CLEAN + stages)).refused(*words, "failed at stage", code=1)


def test_a_model_larger_than_memory_is_refused_before_it_is_made(millrace: Terminal) -> None:
    wide = "  train: {with: {arguments: {width: 65536, depth: 16}}}\n"
    outcome = millrace("run", millrace.pipeline(CLEAN + wide))
    outcome.refused("'train'", "arguments", "parameters", "GiB are free", "smaller", code=1)


def test_a_gate_that_fails_rejects_the_run_and_skips_what_follows(millrace: Terminal) -> None:
    gated = TRAIN + "  evaluate: {with: {gate: [log_loss <= 0]}}\n  deploy: {with: {endpoint: never}}\n"
    outcome = millrace("run", millrace.pipeline(CLEAN + gated))
    outcome.refused("was rejected at stage 'evaluate'", "log_loss <= 0", "deploy: skipped", code=1)
    millrace("predict", "never", "--row", "{}").refused("no endpoint 'never'")


def test_the_error_of_a_run_is_the_same_wherever_it_is_read(millrace: Terminal, shared_factory: Factory) -> None:
    data = millrace.write("no_label.csv", "n,x\n1,2\n")
    outcome = millrace("run", millrace.pipeline(CLEAN), "--data", data, "--json")
    view = json.loads(outcome.out.splitlines()[-1])["run"]
    assert (outcome.code, view["status"], view["error"]["field"]) == (1, "failed", "with.target")
    assert "no column 'label'" in millrace("status", view["run_id"]).out
    with pytest.raises(errors.RunFailed, match="no column 'label'") as caught:
        shared_factory.client.run(view["run_id"]).result(timeout_s=10)
    assert (caught.value.stage, caught.value.cause) == ("clean", "invalid_data")


def test_a_finished_run_cannot_be_cancelled(millrace: Terminal) -> None:
    run = json.loads(millrace("run", millrace.pipeline(CLEAN), "--json").out.splitlines()[-1])["run"]
    millrace("cancel", run["run_id"]).refused("has already succeeded", "nothing to cancel", code=1)


@sdk.stage
def raises(data: sdk.Dataset) -> sdk.Report:
    return sdk.Report(metrics={"ratio": 1 / len(data.meta.of("test")[9:])})


@sdk.stage
def answers_wrongly(data: sdk.Dataset) -> sdk.Report:
    return {"ratio": 1}  # type: ignore[return-value]  # the fault under test


@sdk.stage
def answers_too_much(item: int, data: sdk.Dataset) -> dict[str, str]:
    return {"text": "x" * 5000}


@answers_too_much.plan
def _two_items(data: sdk.Dataset) -> list[int]:
    return [1, 2]


@answers_too_much.merge
def _count(results: list[dict[str, str]]) -> sdk.Report:
    return sdk.Report(metrics={"results": len(results)})


@sdk.stage
def exits(data: sdk.Dataset) -> sdk.Report:
    import os

    os._exit(3)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raises, ["raises", "ZeroDivisionError: division by zero", "test_bad_inputs_data.py:", "millrace logs"]),
        (answers_wrongly, ["answers_wrongly", "Report", "dict"]),
        (answers_too_much, ["answers_too_much", "4096"]),
        (exits, ["exits", "3"]),
    ],
)
def test_a_function_that_fails_is_told_by_name_and_line(
    shared_factory: Factory, dataset: sdk.ArtifactRef, function: object, words: list[str]
) -> None:
    run = shared_factory.client.submit(function, data=dataset)  # type: ignore[arg-type]  # a stage function
    with pytest.raises(errors.RunFailed) as caught:
        run.result(timeout_s=60)
    text = str(caught.value)
    assert not [word for word in words if word not in text], text
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def dataset(shared_factory: Factory, tmp_path_factory: pytest.TempPathFactory) -> sdk.ArtifactRef:
    """A cleaned data set."""
    path = tmp_path_factory.mktemp("data") / "rows.csv"
    path.write_text(ROWS)
    return shared_factory.client.submit(Pipeline.from_text(HEAD + CLEAN), data=path).result(timeout_s=60).dataset


ROWS_GIVEN = [
    ([], ["--row", "No row was given", "--prompt"]),
    (["--row", "{a"], ["--row 1", "Not valid JSON at character 2"]),
    (["--row", "[1]"], ["--row 1", "Expected a JSON object", "'[1]'"]),
    (["--row", "{}"], ["rows[0].n", "missing", "whole number"]),
    (["--row", '{"n": 1, "x": "high"}'], ["rows[0].x", "Expected a finite number", "string"]),
    (["--row", '{"n": 1, "x": null}'], ["rows[0].x", "null"]),
    (["--row", '{"n": 1, "x": NaN}'], ["rows.0.x", "finite number"]),
    (["--row", '{"n": 1.5, "x": 1}'], ["rows[0].n", "Expected a whole number"]),
    (["--row", '{"n": 1, "x": 2}', "--row", '{"n": 1, "x": 2, "z": 3}'], ["rows[1].z", "no column 'z'", "valid: n, x"]),
    (["--prompt", "Once"], ["not serve a language model", "/predict"]),
    (["--file", "nope.json"], ["--file", "Cannot read nope.json", "No such file"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), ROWS_GIVEN)
def test_a_bad_row_is_told_by_row_and_column(
    millrace: Terminal, served: str, arguments: list[str], words: list[str]
) -> None:
    millrace("predict", served, *arguments).refused(*words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"n": 1, "x": 1}] more', ["rows.json", "Not valid JSON at character 20"]),
        (b'{"n": 1, "x": 1}\n{"n": 1', ["rows.json line 2", "Not valid JSON"]),
        (b"\xff", ["not UTF-8 text (byte 0)", "Save it as UTF-8"]),
        (b"[" * 5000, ["Not JSON"]),
        (b'{"n": 1, "x": 1}\n' * 4097, ["rows", "at most 4096", "4097", "millrace batch"]),
    ],
)
def test_a_bad_file_of_rows_is_told_by_line(millrace: Terminal, served: str, content: bytes, words: list[str]) -> None:
    millrace("predict", served, "--file", millrace.write("rows.json", content)).refused(*words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "short.csv",
            b"n\n1\n2\n",
            ["short.csv has no column 'x'", "valid: n", "columns that the model was trained on"],
        ),
        ("text.parquet", b"rows", ["text.parquet is not a whole Parquet file"]),
    ],
)
def test_a_batch_of_bad_rows_fails(
    millrace: Terminal, served: str, name: str, content: bytes, words: list[str]
) -> None:
    out = millrace.directory / "out.parquet"
    millrace("batch", served, millrace.write(name, content), "--out", str(out)).refused(*words, code=1)
    assert not out.exists()


def test_results_cannot_be_written_over_a_file(millrace: Terminal, served: str) -> None:
    file = millrace.write("taken", "a file")
    data = millrace.write("rows.csv", ROWS)
    millrace("batch", served, data, "--out", f"{file}/out.parquet").refused(file, "Correct the path")
