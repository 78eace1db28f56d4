"""What benchmarks measure processes with."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.disagreements import measured, words
from benchmarks.harness import cpu_seconds

BUSY = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_cpu_time_of_descendants_that_have_ended_counts() -> None:
    before = cpu_seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"])
    assert 0.29 <= cpu_seconds([os.getpid()]) - before < 3


def test_a_process_that_has_ended_has_no_cpu_time_of_its_own() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert cpu_seconds([ended.pid]) == 0


def test_a_rule_is_measured_by_its_own_step_and_words_are_those_that_it_counts() -> None:
    assert measured("gopher_quality.min_words", "One, two three.") == (50, 3)
    assert measured("gopher_repetition.max_duplicate_lines", "a\na\nb\nc") == (0.3, 0.25)
    assert measured("c4_quality.curly_bracket", "Here is a { bracket.") == (1, 1)
    assert measured("c4_quality.min_sentences", "Here is a { bracket.") == (
        5,
        1,
    )  # though another rule removes it first
    assert words("One, two\nthree.") == ["One", ",", "two", "three", "."]
