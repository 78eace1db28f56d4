"""Which code the workers of a service agree on."""

from __future__ import annotations

import pytest

from millrace.ledger.workers import WorkerRow, agreed_code


def worker(name: str, *, code: str, slots: int = 2) -> WorkerRow:
    return WorkerRow(name, "host", ["training"], {"cpu": slots}, 0.0, {"train": code})


@pytest.mark.parametrize(
    ("workers", "agreed"),
    [
        ([worker("a", code="1"), worker("b", code="1")], "1"),
        ([worker("a", code="1"), worker("b", code="2")], ""),
        ([worker("a", code="1", slots=0), worker("b", code="2")], "2"),
        ([WorkerRow("a", "host", [], {}, 0.0, {}), worker("b", code="2")], "2"),
        ([worker("a", code="1"), WorkerRow("b", "host", ["training"], {"cpu": 1}, 0.0, {})], ""),
    ],
)
def test_those_who_offer_slots_agree_or_do_not(workers: list[WorkerRow], agreed: str) -> None:
    assert agreed_code(workers)["training", "train"] == agreed
