"""Audits and token streams on a whole factory: real stages in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from millrace import Pipeline, errors
from millrace.models.token_streams import read_tokens
from millrace.testing.factory import Factory

TOPICS = ("wheel brake motor fuel gear", "flour butter sugar dough oven")


REPACKED = Pipeline.from_dict(
    {
        "api": "millrace/v1", "name": "repacked", "params": {"rows": "dataset", "tokenizer": "dataset"},
        "stages": {"tokenize": {"inputs": {"dataset": "$params.rows", "tokenizer": "$params.tokenizer"}}},
    }
)  # fmt: skip
"""Takes a tokenizer as a file that the user has."""


def documents(path: Path, *, wrong: int) -> Path:
    """Texts of two topics; some labels are wrong."""
    rows = []
    for i in range(240):
        words = TOPICS[i % 2].split()
        said = " ".join([*(words[(i + k) % 5] for k in range(4)), f"and the numbers {i} {3 * i} {7 * i}"])
        rows.append({"text": said, "topic": ("cars", "cakes")[(i + (i < wrong)) % 2]})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def pipeline(**audit: object) -> Pipeline:
    return Pipeline.from_dict(
        {
            "api": "millrace/v1", "name": "audited", "params": {"data": "dataset"},
            "stages": {
                "clean": {"with": {"task": "text_classification", "target": "topic", "rows_per_shard": 100}},
                "audit": {"with": audit},
                "tokenize": {"with": {"vocabulary_size": 400}},
            },
        }
    )  # fmt: skip


@pytest.mark.timeout(240)
def test_data_is_audited_and_packed_on_the_way(shared_factory: Factory, tmp_path: Path) -> None:
    data = documents(tmp_path / "d.parquet", wrong=8)
    result = shared_factory.client.submit(pipeline(fail_on=["group_leak"]), data=data).result(timeout_s=200)
    audited, tokens = result.stages["audit"], result.stages["tokenize"]
    assert 4 <= audited.metrics["label_errors"] <= 8
    assert audited.verdict == "passed"
    report = json.loads(
        (shared_factory.client.download(audited.artifacts["report"], tmp_path / "r") / "report.json").read_text()
    )
    assert report["dataset"] == result.dataset.digest
    assert [f["code"] for f in report["findings"]] == ["label_errors"]

    folder = shared_factory.client.download(tokens.artifacts["tokens"], tmp_path / "tokens")
    rows = shared_factory.client.download(result.dataset, tmp_path / "rows")
    texts = [t for path in sorted(rows.glob("data/train-*.parquet")) for t in pq.read_table(path)["text"].to_pylist()]
    stream = read_tokens(folder, "train")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.decode(stream.document(i).tolist()) for i in range(len(stream))] == texts
    assert len(list(rows.glob("data/train-*.parquet"))) > 1

    params = {"rows": result.dataset, "tokenizer": folder / "tokenizer.json"}
    again = shared_factory.client.submit(REPACKED, params=params).result(timeout_s=200).stages["tokenize"]
    assert again.summary["tokenizer"] == stream.meta.tokenizer


@pytest.mark.timeout(240)
def test_findings_that_may_not_be_stop_the_run(shared_factory: Factory, tmp_path: Path) -> None:
    data = documents(tmp_path / "d.parquet", wrong=8)
    run = shared_factory.client.submit(pipeline(checks=["labels"], fail_on=["label_errors"]), data=data)
    with pytest.raises(errors.RunFailed) as refused:
        run.result(timeout_s=200)
    assert refused.value.context["status"] == "rejected"
    view = run.wait_end()
    assert [s.status for s in view.stages][1] == "rejected"
    outputs = view.stages[1].outputs
    assert outputs is not None
    assert outputs.summary["gate"][0]["rule"] == "no label_errors"
    assert outputs.artifacts["report"].type == "report"
