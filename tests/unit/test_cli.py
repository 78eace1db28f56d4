"""The command line without a factory: the live view, reports, and what wrong arguments are told."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from millrace.cli.__main__ import COMMANDS, main
from millrace.cli.doctor import unread_variables
from millrace.cli.follow import Board, show
from millrace.cli.reports import stage_report
from millrace.cli.runs import print_run
from millrace.contracts.events import ErrorInfo
from millrace.contracts.pipelines import RunStatus
from millrace.contracts.views import EventView, RunView, SignalView, StageView

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(type: str, after_s: float = 0.0, **data: Any) -> EventView:
    return EventView(
        seq=1, id="e", type=f"{type}.v1", time=START + timedelta(seconds=after_s), source="conductor", data=data
    )


def signal(kind: str, payload: dict[str, Any], *, after_s: float = 0.0, attempt: str = "a1") -> SignalView:
    return SignalView.model_validate(
        {
            "run_id": "r", "stage": "train", "attempt_id": attempt, "kind": kind,
            "time": START + timedelta(seconds=after_s), "payload": payload,
        }
    )  # fmt: skip


def progress(done: float, total: float, *, after_s: float, attempt: str = "a1", **values: Any) -> SignalView:
    payload = {"done": done, "total": total, "unit": "rows", "values": values}
    return signal("progress", payload, after_s=after_s, attempt=attempt)


def heard(*messages: EventView | SignalView) -> Board:
    board = Board("p  run_1")
    board.hear(event("run.started", stages=["train", "deploy"]))
    board.hear(event("stage.started", stage="train"))
    for message in messages:
        board.hear(message)
    return board


def shown(messages: Sequence[EventView | SignalView], *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, _environ={})
    show(console, "p [x] run_1", iter(messages))
    return out.getvalue()


def lost(n: int) -> EventView:
    return event("attempt.failed", stage="train", error={"code": "worker_lost", "message": f"Worker w{n} was killed."})


@pytest.mark.parametrize("terminal", [True, False])
def test_failed_attempts_are_told_while_the_stage_goes_on(terminal: bool) -> None:
    begun = [event("run.started", stages=["train"]), event("stage.started", stage="train")]
    told = shown([*begun, *map(lost, range(4))], terminal=terminal)
    if terminal:
        assert "4 failed attempts" in told
    else:
        assert told.count("train: an attempt failed: Worker w") == 3


def test_rate_and_time_left_are_over_what_the_attempt_has_done() -> None:
    board = heard(progress(0, 1000, after_s=0), progress(400, 1000, after_s=2, loss=0.31))
    assert board.stages["train"].details() == "200 rows/s, 3.0 s left, loss 0.31"
    assert board.stages["train"].share == 0.4


def test_a_new_attempt_starts_its_rate_anew() -> None:
    board = heard(
        progress(0, 1000, after_s=0), progress(400, 1000, after_s=2), progress(500, 1000, after_s=9, attempt="a2")
    )
    assert board.stages["train"].rate == 0.0


def test_a_round_that_counts_from_the_start_again_starts_its_rate_anew() -> None:
    board = heard(
        progress(0, 9, after_s=0), progress(9, 9, after_s=90), progress(0, 9, after_s=90), progress(3, 9, after_s=91)
    )
    assert board.stages["train"].details() == "3 rows/s, 2.0 s left"


def test_a_stage_with_many_tasks_counts_tasks_whatever_each_of_them_says() -> None:
    done = [event("attempt.succeeded", 2.0 + n, stage="train", phase="work") for n in range(3)]
    mixed = [progress(n % 3, 3, after_s=n, attempt=f"a{n}") for n in range(5)]
    board = heard(event("stage.planned", 1.0, stage="train", num_tasks=12), *done, *mixed)
    assert board.stages["train"].details() == "3/12 tasks, 1 tasks/s, 9.0 s left"


def test_a_retried_run_keeps_the_tasks_that_are_done() -> None:
    board = heard(event("stage.planned", 1.0, stage="train", num_tasks=4))
    for message in (
        event("attempt.succeeded", 2.0, stage="train", phase="work"),
        event("stage.finished", 3.0, stage="train", status="failed"),
        event("run.retried", 9.0, stages=["train", "deploy"]),
    ):
        board.hear(message)
    assert [(s.name, s.status) for s in board.stages.values()] == [("train", "pending"), ("deploy", "pending")]
    board.hear(event("stage.started", 10.0, stage="train"))
    board.hear(event("attempt.succeeded", 11.0, stage="train", phase="work"))
    assert board.stages["train"].details() == "2/4 tasks, 1 tasks/s, 2.0 s left"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_that_is_held_or_retried_and_a_cached_stage_are_called_so(terminal: bool) -> None:
    messages = [
        event("run.started", stages=["train"]), event("run.paused", reason="lunch"), event("run.resumed"),
        event("run.retried", stages=["train"]), event("stage.started", stage="train"),
        event("stage.finished", 1.0, stage="train", status="succeeded", cached=True),
    ]  # fmt: skip
    words = ["retried", "cached"] if terminal else ["run paused", "run resumed", "run retried", "train: cached"]
    text = shown(messages, terminal=terminal)
    assert [word for word in words if word not in text] == []


def test_how_long_a_stage_took_is_told_by_its_events_also_afterwards() -> None:
    board = heard(event("stage.finished", 61.0, stage="train", status="succeeded"))
    assert board.text(board.stages["train"]) == "train: succeeded in 1 min 1 s"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        signal("log", {"lines": ["[/red] no markup"], "dropped": 3}),
        signal("log", {"lines": [], "dropped": 0}),
        signal("metric", {"name": "loss", "value": 0.1, "step": 1}),
        signal("progress", {}),
        signal("progress", {"done": None, "total": "many", "unit": "[/x]", "values": {"[/y]": "[/z]"}}),
        event("attempt.failed", stage="train", error={}),
        event("stage.finished", stage="never_heard_of", status="failed"),
    ],
)
def test_no_word_of_a_worker_breaks_the_view(odd: EventView | SignalView, terminal: bool) -> None:
    messages: Iterator[EventView | SignalView] = iter(
        [
            event("run.started", stages=["train"]), event("stage.started", stage="train"), odd,
            event("stage.finished", 1.0, stage="train", status="failed"),
        ]
    )  # fmt: skip
    text = shown(list(messages), terminal=terminal)
    assert "p [x] run_1" in text
    assert "failed" in text


def test_a_terminal_shows_a_line_for_every_stage() -> None:
    text = shown(
        [
            event("run.started", stages=["train", "deploy"]), event("stage.started", stage="train"),
            event("stage.finished", 2.0, stage="train", status="succeeded"),
            event("stage.finished", 2.0, stage="deploy", status="skipped"),
        ],
        terminal=True,
    )  # fmt: skip
    last = text.split("p [x] run_1")[-1]
    assert "✓" in last
    assert "2.0 s" in last
    assert "deploy" in last
    assert "skipped" in last


def _printed(kind: str, summary: Mapping[str, Any]) -> str:
    stage = StageView.model_validate(
        {"name": kind, "kind": kind, "status": "succeeded", "outputs": {"summary": summary}}
    )
    out = io.StringIO()
    Console(file=out, width=100).print(stage_report(stage))
    return out.getvalue()


def test_many_rules_stand_one_below_the_other_the_most_frequent_first() -> None:
    removed = {f"gopher.rule_{i}": i for i in range(1, 7)}
    printed = _printed("clean", {"rows_in": 50, "rows_out": 29, "removed": removed, "removed_by_others": 40})
    rules = [line.split() for line in printed.splitlines() if "rule" in line]
    assert rules[0] == ["6", "gopher.rule_6"]
    assert rules[-2:] == [["1", "gopher.rule_1"], ["40", "other", "rules"]]


def test_few_rules_stand_in_one_line() -> None:
    assert "removed: b 3, a 1" in _printed("clean", {"rows_in": 9, "rows_out": 5, "removed": {"a": 1, "b": 3}})


def test_an_audit_shows_what_it_found_and_what_failed_it() -> None:
    gate = [{"rule": "group_leak", "verdict": "failed", "detail": "3 groups"}]
    counts = {"error": 1, "warning": 0, "info": 2}
    summary = {"findings": counts, "rows_judged": 1200, "found": ["error: 3 groups [x] leak"], "gate": gate}
    printed = _printed("audit", summary)
    assert "error 1, warning 0, info 2; models looked at 1,200 rows" in printed
    assert "error: 3 groups [x] leak" in printed
    assert "fail_on group_leak: 3 groups" in printed


def test_tokens_are_counted_by_split() -> None:
    summary = {"vocabulary_size": 4096, "bytes_per_token": 3.5, "tokens": {"train": 12345, "test": 67}}
    assert "vocabulary of 4,096, 3.5 bytes a token; tokens: train 12,345, test 67" in _printed("tokenize", summary)


def test_a_class_name_in_brackets_is_no_markup() -> None:
    summary = {
        "num_rows": 2,
        "metrics": {"[/f1]": {"value": 1.0}},
        "labels": ["[/b]", "c"],
        "confusion": [[1, 0], [0, 1]],
    }
    stage = StageView.model_validate(
        {"name": "evaluate", "kind": "evaluate", "status": "succeeded", "outputs": {"summary": summary}}
    )
    out = io.StringIO()
    Console(file=out, width=100).print(stage_report(stage))
    assert "[/b]" in out.getvalue()
    assert "[/f1]" in out.getvalue()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: millrace {command}")
    assert "Options:" in text


def _status_of(status: RunStatus, stage: StageView, capsys: pytest.CaptureFixture[str], message: str = "") -> str:
    error = ErrorInfo(code="cancelled", message=message) if message else None
    print_run(RunView(run_id="run_1", pipeline="p", status=status, stages=(stage,), error=error, submitted_at=START))
    return capsys.readouterr().out


def test_the_status_of_a_run_says_what_it_waits_for_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = StageView(name="fit", kind="function", status="running")
    assert "fit: waits for a slot, a limit" in _status_of("running", waiting, capsys)
    held = _status_of("paused", waiting.model_copy(update={"attempts": 1}), capsys)
    assert "running" not in held
    assert "waits" not in held
    assert "cancelled: enough" in _status_of("cancelled", waiting, capsys, "enough")


def test_a_setting_that_nobody_reads_is_noted_with_the_nearest_that_there_is() -> None:
    told = unread_variables(
        {"MILLRACE_SLOT": "3", "MILLRACE_SLOTS": "3", "MILLRACE_URL": "", "MILLRACE_GATEWAY_POLL_S": "1"}
    )
    assert [(f.state, f.remedy) for f in told] == [("note", "Did you mean MILLRACE_SLOTS?")]
    assert "MILLRACE_SLOT is set" in told[0].detail


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu"], "'run'"),
        (["run"], "Missing argument 'PIPELINE'"),
        (["run", "nowhere.yaml"], "no pipeline file"),
        (["run", "p.yaml", "--priority", "1000"], "--priority"),
        (["plan", "p.yaml", "--nonsense"], "--nonsense"),
        (["runs", "--status", "asleep"], "asleep"),
        (["runs", "--label", "team"], "NAME=VALUE"),
        (["endpoints", "stop"], "Which endpoint?"),
        (["limits", "set", "gpu:0"], "how many"),
        (["limits", "set", "gpu:0", "many"], "0 to 100000 or none"),
        (["predict", "e"], "No row was given"),
        (["predict", "e", "--row", "{"], "Not valid JSON"),
        (["predict", "e", "--row", "[1]"], "a JSON object"),
        (["worker"], "SERVICE"),
        (["init"], "DATA"),
    ],
)
def test_wrong_arguments_are_told_in_words_or_in_json(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("api: millrace/v1\nname: p\nstages: {noop: {}}\n")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert main([*arguments, "--json"]) == 2
    told = json.loads(capsys.readouterr().err)
    assert told["error"]["code"] in ("invalid_input", "invalid_spec", "not_found")
