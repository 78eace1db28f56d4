"""What a run and its replay made, compared."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hands import chain
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.contracts.pipelines import StageStatus
from millrace.contracts.views import RunView, StageView
from millrace.ledger.replaying import compare

MADE = StageOutputs(artifacts={"out": ArtifactRef(digest="a" * 64, type="report")})


def run_of(status: StageStatus) -> RunView:
    stage = StageView(name="a", kind="noop", status=status, outputs=MADE if status == "succeeded" else None)
    return RunView(
        run_id="run_1", pipeline="p", status="succeeded", stages=(stage,), submitted_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ("succeeded", "succeeded", "equal"),
        ("skipped", "skipped", "equal"),
        ("failed", "failed", "missing"),
        ("skipped", "failed", "missing"),
        ("succeeded", "failed", "missing"),
        ("failed", "succeeded", "missing"),
    ],
)
def test_only_what_both_made_or_skipped_is_equal(first: StageStatus, second: StageStatus, verdict: str) -> None:
    found = compare(chain("a"), run_of(first), run_of(second))
    assert (found.stages[0].verdict, found.is_equal) == (verdict, verdict == "equal")
