"""Golden files: each message type's JSON form is published, and a change of it is a new version, not a surprise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_jsonable_python

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef, FileEntry, Manifest, Ref
from millrace.contracts.base import Contract, digest_of
from millrace.contracts.commands import ExecuteAttempt, Foreach, FunctionCode
from millrace.contracts.events import EVENT_TYPES, Event, decode, make_event
from millrace.contracts.pipelines import Binding, Graph, GraphStage

GOLDEN = Path(__file__).parent / "golden"

MODEL = ArtifactRef(digest="b" * 64, type="model", size_bytes=10)
CODE = ArtifactRef(digest="c" * 64, type="code", size_bytes=10)
GRAPH = Graph(
    pipeline="digits",
    spec_digest="d" * 64,
    stages=(
        GraphStage(
            name="train", kind="train", service="training", config={"epochs": 3}, needs=("clean",),
            inputs={"dataset": Binding(stage="clean", port="dataset")}, outputs={"model": "model"},
        ),
    ),
)  # fmt: skip
HOLDER = {"attempt_id": "run_1.train.plan0.0.1", "fence": 1, "nonce": "n", "worker": "w"}
ATTEMPT = {"run_id": "run_1", "stage": "train", "phase": "plan", "index": 0, "holder": HOLDER}
ERROR = {"code": "invalid_data", "message": "m", "remedy": "r", "field": "f", "retryable": False}
OUTPUTS = {
    "artifacts": {"model": MODEL.model_dump()},
    "summary": {"rows": 3},
    "metrics": {"accuracy": 0.5},
    "verdict": "passed",
}

SAMPLES: dict[str, dict[str, Any]] = {
    "run.submitted.v1": {"run_id": "run_1", "graph": GRAPH.model_dump(mode="json"), "labels": {"team": "a"}},
    "run.cancel_requested.v1": {"run_id": "run_1", "reason": "enough"},
    "run.pause_requested.v1": {"run_id": "run_1", "reason": "lunch"},
    "run.resume_requested.v1": {"run_id": "run_1"},
    "run.retry_requested.v1": {"run_id": "run_1"},
    "attempt.started.v1": {**ATTEMPT, "device": "cpu"},
    "attempt.succeeded.v1": {**ATTEMPT, "outputs": OUTPUTS, "duration_s": 1.5},
    "attempt.failed.v1": {**ATTEMPT, "error": ERROR},
    "attempt.yielded.v1": dict(ATTEMPT),
    "attempt.undeliverable.v1": {**ATTEMPT, "reason": "delivery limit"},
    "run.started.v1": {"run_id": "run_1", "pipeline": "digits", "stages": ["train"]},
    "run.paused.v1": {"run_id": "run_1", "reason": "lunch"},
    "run.resumed.v1": {"run_id": "run_1"},
    "run.retried.v1": {"run_id": "run_1", "stages": ["train"]},
    "run.admitted.v1": {"run_id": "run_1"},
    "run.finished.v1": {"run_id": "run_1", "status": "failed", "stage": "train", "error": ERROR},
    "stage.started.v1": {"run_id": "run_1", "stage": "train", "kind": "train"},
    "stage.planned.v1": {"run_id": "run_1", "stage": "train", "num_tasks": 8},
    "stage.finished.v1": {"run_id": "run_1", "stage": "train", "status": "succeeded", "outputs": OUTPUTS},
    "task.died.v1": {
        "run_id": "run_1",
        "stage": "train",
        "phase": "plan",
        "index": 0,
        "reason": "poison",
        "error": ERROR,
        "workers": ["w"],
    },
    "computation.ended.v1": {
        "run_id": "run_1",
        "stage": "train",
        "phase": "plan",
        "index": 0,
        "key": "e" * 64,
        "answer": {"outputs": OUTPUTS},
        "from_run": "run_0",
    },
    "event.refused.v1": {"run_id": "run_1", "event_id": "evt_2", "reason": "does not fit its model"},
    "release.overdue.v1": {"run_id": "run_1", "stage": "deploy"},
    "release.superseded.v1": {"run_id": "run_1", "endpoint": "digits", "generation": 3, "release": 2, "by": "run_2"},
    "endpoint.desired.v1": {
        "name": "digits",
        "generation": 2,
        "release": 1,
        "model": MODEL.model_dump(),
        "run_id": "run_1",
    },
    "endpoint.reported.v1": {
        "name": "digits",
        "generation": 2,
        "server": "s",
        "url": "http://127.0.0.1:1",
        "status": "ready",
    },
}

VALUES: dict[str, Contract] = {
    "command.execute": ExecuteAttempt(
        run_id="run_1", stage="train", kind="train", service="training", phase="work", index=3,
        attempt_id="run_1.train.work0.3.2",
        fence=2, config={"epochs": 3}, inputs={"dataset": MODEL, "many": (MODEL, MODEL)}, plan=MODEL, timeout_s=60.0,
        function=FunctionCode(code=CODE, module="jobs", name="count_words"), foreach=Foreach(items=(1, "a")),
        outputs={"model": "model"}, seed=7, trace={"traceparent": "00-1-2-01"},
    ),
    "artifact.manifest": Manifest(
        type="source", files=(FileEntry(path="a.csv", digest="a" * 64, size_bytes=3, media_type="text/csv"),), meta={"rows": 1}
    ),
    "artifact.ref": Ref(target={"digest": "a" * 64}, generation=3, fence=2, nonce="n"),
}  # fmt: skip


def event_of(type_: str) -> Event:
    data = EVENT_TYPES[type_].model_validate(SAMPLES[type_])
    return make_event(
        data,
        source="worker/w",
        subject="run_1",
        id="evt_1",
        time=datetime(2026, 11, 1, 12, 0, tzinfo=UTC),
        traceparent="00-1-2-01",
    )


def test_every_event_type_has_a_sample() -> None:
    assert set(SAMPLES) == set(EVENT_TYPES)


@pytest.mark.parametrize("type_", sorted(EVENT_TYPES))
def test_an_event_reads_and_writes_its_golden_file(type_: str) -> None:
    golden = json.loads((GOLDEN / f"{type_}.json").read_text())
    event = event_of(type_)
    assert json.loads(event.to_json()) == golden
    assert decode(Event.model_validate(golden)) == EVENT_TYPES[type_].model_validate(SAMPLES[type_])


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.json")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_what_an_older_version_wrote_is_still_read(path: Path) -> None:
    written = json.loads(path.read_text())
    if path.stem in EVENT_TYPES:
        assert decode(Event.model_validate(written)) == EVENT_TYPES[path.stem].model_validate(SAMPLES[path.stem])
    else:
        assert type(VALUES[path.stem]).model_validate(written) == VALUES[path.stem]


def test_a_message_passes_over_what_a_newer_version_added() -> None:
    event = event_of("attempt.started.v1")
    newer = {**event.model_dump(mode="json"), "added": 1, "data": {**event.data, "added": {"deep": True}}}
    assert decode(Event.model_validate(newer)) == decode(event)


@pytest.mark.parametrize("type_", sorted(EVENT_TYPES))
def test_an_event_that_grew_at_any_depth_is_read(type_: str) -> None:
    event = event_of(type_)
    data = decode(event)
    newer = Event.received({**event.model_dump(mode="json"), "added": 1, "data": grown(data)})
    assert decode(newer) == data


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_value_that_grew_at_any_depth_is_read(name: str) -> None:
    assert type(VALUES[name]).received_json(json.dumps(grown(VALUES[name]))) == VALUES[name]


def grown(value: Any) -> Any:
    """A value as JSON, with a field more in every contract that it holds."""
    if isinstance(value, Contract):
        names = {name: field.alias or name for name, field in type(value).model_fields.items() if not field.exclude}
        return {names[n]: grown(getattr(value, n)) for n in names} | {"added": {"deep": True}}
    if isinstance(value, Mapping):
        return {key: grown(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [grown(part) for part in value]
    return to_jsonable_python(value)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_value_reads_and_writes_its_golden_file(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert json.loads(VALUES[name].to_json()) == golden
    assert type(VALUES[name]).model_validate(golden) == VALUES[name]


def test_no_golden_file_is_left_without_a_type() -> None:
    assert {p.stem for p in GOLDEN.glob("*.json")} == set(EVENT_TYPES) | set(VALUES)


def test_canonical_digests_do_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_an_event_of_an_unknown_type_or_shape_is_refused() -> None:
    event = event_of("run.started.v1")
    with pytest.raises(errors.InvalidInput, match=r"run\.started\.v1"):
        decode(event.model_copy(update={"type": "run.startd.v1"}))
    with pytest.raises(errors.InvalidInput, match="does not fit"):
        decode(event.model_copy(update={"data": {"run_id": 1}}))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"outputs": OUTPUTS, "result": {"a": 1}},
        {"result": {"a": 1}},
        {"phase": "work", "outputs": OUTPUTS},
        {"plan": MODEL.model_dump(), "num_tasks": 0},
    ],
)
def test_an_attempt_that_succeeds_gives_the_one_answer_of_its_phase(answer: dict[str, Any]) -> None:
    """Anything else would leave its stage without an end."""
    event = event_of("attempt.succeeded.v1").model_copy(update={"data": {**ATTEMPT, **answer}})
    with pytest.raises(errors.InvalidInput, match="does not fit"):
        decode(event)
