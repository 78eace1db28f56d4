"""Methods beside each other: paired, resampled by row, and told plainly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from examples.comparing import Comparison, Lead, compare_answers, pooled
from examples.running import show

ROOT = Path(__file__).parents[2]
TEST = pa.table({"row_id": [f"r{n}" for n in range(200)], "target": ["yes", "no"] * 100})
RIGHT: list[str] = TEST["target"].to_pylist()


def with_errors(num: int) -> list[str]:
    """Answers that are wrong in the first rows."""
    return ["wrong"] * num + RIGHT[num:]


def judged(model: int, baseline: int) -> Comparison:
    answers = {"model": with_errors(model), "counting": with_errors(baseline)}
    return compare_answers(TEST, "target", answers, tuned={"counting": "k = 3"})


def test_accuracy_is_the_share_of_right_answers() -> None:
    found = judged(model=10, baseline=30)
    assert (found.value("model"), found.value("counting")) == (0.95, 0.85)


def test_the_interval_of_a_lead_is_that_of_differences_by_row() -> None:
    """Against a slow reference: the same draws, row by row."""
    found = judged(model=10, baseline=30).lead("counting")
    differences = [0.0] * 10 + [1.0] * 20 + [0.0] * 170
    order = np.unique(TEST["row_id"].to_pylist(), return_index=True)[1]
    drawn = np.random.default_rng(0).integers(0, 200, size=(2000, 200))
    means = [float(np.mean([differences[order[n]] for n in draw])) for draw in drawn]
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


@pytest.mark.parametrize(("model", "baseline", "outcome"), [(10, 40, "ahead"), (20, 21, "level"), (40, 10, "behind")])
def test_only_a_whole_interval_is_a_win(model: int, baseline: int, outcome: str) -> None:
    assert judged(model, baseline).lead("counting").outcome == outcome


def test_few_bits_are_better_than_many_and_long_texts_count_more() -> None:
    found = Comparison(
        metric="bits_per_character", goal="low", row_ids=["a", "b"], sizes=np.array([10.0, 90.0]),
        points={"model": np.array([20.0, 90.0]), "counting": np.array([20.0, 180.0])},
    )  # fmt: skip
    assert (found.value("model"), found.value("counting")) == (1.1, 2.0)
    assert found.lead("counting").value == pytest.approx(0.9)


def test_a_row_that_several_runs_tested_is_drawn_once_for_all() -> None:
    once = judged(model=10, baseline=30)
    assert pooled([once, once, once]).lead("counting") == once.lead("counting")


def test_a_comparison_says_who_wins(capsys: pytest.CaptureFixture[str]) -> None:
    show(judged(model=40, baseline=10), as_json=False)
    printed = capsys.readouterr().out
    assert "the baseline wins" in printed
    assert "-0.1500" in printed
    assert "k = 3" in printed


def test_a_comparison_is_one_document_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = judged(model=10, baseline=30)
    show(comparison, as_json=True)
    said = json.loads(capsys.readouterr().out)["baselines"]
    assert (said["model"], said["rows"]) == (0.95, 200)
    assert Lead(**said["counting"]["model_leads_by"]) == comparison.lead("counting")


def test_an_example_hands_its_arguments_to_the_command_line() -> None:
    command = [sys.executable, "-m", "examples.tabular.run", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert "--param NAME=VALUE" in done.stdout
    assert "baselines" not in done.stdout
