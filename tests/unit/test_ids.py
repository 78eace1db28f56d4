"""Identifiers: unique, and in the order of their making."""

from __future__ import annotations

import re
import threading

from millrace.contracts.ids import attempt_id, new_id


def test_ids_sort_in_the_order_of_their_making() -> None:
    ids = [new_id("evt") for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"evt_[0-9a-hjkmnp-tv-z]{26}", i) for i in ids)


def test_threads_never_make_one_id_twice() -> None:
    made: list[list[str]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda ids=ids: ids.extend(new_id("x") for _ in range(2000))) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({i for ids in made for i in ids}) == 8000


def test_an_attempts_id_says_what_it_is_an_attempt_of() -> None:
    assert attempt_id("run_1", "train", "work0", 3, 2) == "run_1.train.work0.3.2"
