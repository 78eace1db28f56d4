"""What a child compares and puts back between attempts, in this process."""

from __future__ import annotations

import random

import numpy as np
import pytest

from millrace.runtime import cleanliness


def test_a_generator_known_from_the_start_is_put_back_to_where_it_stood() -> None:
    np.random.seed(5)
    baseline = cleanliness.Baseline()
    first = np.random.random()
    baseline._restore_random()
    assert np.random.random() == first


def test_pythons_own_generator_starts_anywhere() -> None:
    baseline = cleanliness.Baseline()
    random.seed(5)
    first = random.random()
    random.seed(5)
    baseline._restore_random()
    assert random.random() != first


@pytest.mark.parametrize("name", ["numpy.random", "torch"])
def test_a_generator_that_an_attempt_imported_starts_anywhere(name: str) -> None:
    pytest.importorskip(name)
    save, restore, start = cleanliness._GENERATORS[name]
    before = save()
    restore(before)
    assert str(save()) == str(before)
    start()
    assert str(save()) != str(before)
