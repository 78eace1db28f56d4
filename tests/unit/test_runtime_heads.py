"""Heads: who may write them, and what the next attempt finds."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.runtime.heads import TaskHead, is_whole
from millrace.runtime.stage import HandedBack, local_context
from millrace.store import Store
from millrace.store.artifacts import write_manifest
from millrace.store.local import LocalStore

NAME = "tasks/run_a/train/plan0/0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store", tenant="default")


def head(store: Store, fence: int, nonce: str = "") -> TaskHead:
    return TaskHead(store, NAME, attempt_id=f"attempt.{fence}", fence=fence, nonce=nonce or f"nonce{fence}")


def saved(store: Store, text: str) -> ArtifactRef:
    return write_manifest(store, "checkpoint", {"text": text.encode()}, meta={})


def test_a_task_that_nobody_left_anything_of_has_no_checkpoint_and_no_outcome(store: Store) -> None:
    left = head(store, 2).seal()
    assert (left.checkpoint, left.outcome) == (None, None)


def test_the_next_attempt_finds_the_latest_checkpoint(store: Store) -> None:
    first = head(store, 1)
    first.save_checkpoint(saved(store, "one"))
    first.save_checkpoint(saved(store, "two"))
    assert head(store, 2).seal().checkpoint == saved(store, "two") == head(store, 3).seal().checkpoint


def test_a_sealed_task_refuses_earlier_fences(store: Store) -> None:
    first = head(store, 1)
    first.save_checkpoint(saved(store, "one"))
    head(store, 2).seal()
    for write in (first.seal, lambda: first.save_checkpoint(saved(store, "late")), lambda: first.save_outcome({})):
        with pytest.raises(errors.Stale):
            write()
    assert first.checkpoint() is None
    assert head(store, 2).checkpoint() == saved(store, "one")


def test_of_two_holders_of_one_fence_the_one_that_was_told_to_hold_prevails(store: Store) -> None:
    unheard, bound = head(store, 1, "unheard"), head(store, 1, "bound")
    unheard.save_checkpoint(saved(store, "one"))
    assert bound.seal().checkpoint == saved(store, "one")
    with pytest.raises(errors.Stale):
        unheard.save_checkpoint(saved(store, "two"))
    bound.save_checkpoint(saved(store, "three"))
    assert bound.checkpoint() == saved(store, "three")


def test_of_two_that_race_to_seal_one_is_stale(store: Store) -> None:
    losers: list[int] = []

    def seal(fence: int) -> None:
        try:
            head(store, fence).seal()
        except errors.Stale:
            losers.append(fence)

    threads = [threading.Thread(target=seal, args=(fence,)) for fence in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 3 not in losers
    ref = store.read_ref(NAME)
    assert ref is not None
    assert ref.fence == 3


def test_an_outcome_can_be_announced_while_all_that_it_names_is_there(store: Store) -> None:
    made = saved(store, "model").model_dump(mode="json")
    lost = {**made, "digest": "0" * 64}
    head(store, 1).save_outcome({"outputs": {"artifacts": {"model": made}, "verdict": "passed"}})
    outcome = head(store, 2).seal().outcome
    assert outcome is not None
    assert is_whole(store, outcome)
    assert not is_whole(store, {"data": {"outputs": {"artifacts": {"model": lost}}}})
    assert not is_whole(store, {"data": {"outputs": {"artifacts": {"report": made}, "verdict": "failed"}}})
    assert not is_whole(store, {"data": {"plan": lost}})
    assert is_whole(store, {"data": {"result": {"row": 1}}})


def test_a_stages_code_resumes_from_what_its_last_attempt_handed_back(store: Store, tmp_path: Path) -> None:
    stop = threading.Event()
    with local_context(store, tmp_path, stop=stop) as context:
        assert context.resumed() is None
        assert not context.stop_requested
        stop.set()
        assert context.stop_requested
        with pytest.raises(HandedBack):
            context.hand_back({"weights": b"1 2 3"}, meta={"step": 7})
    with local_context(store, tmp_path, fence=2) as second:
        resumed = second.resumed()
        assert resumed is not None
        assert (resumed.meta["step"], resumed.read("weights")) == (7, b"1 2 3")
        with pytest.raises(errors.Stale):
            context.checkpoint({"weights": b"4 5 6"})
