"""The gate's grammar and its verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import errors
from millrace.models.comparison import Comparison
from millrace.models.report import LOWER_IS_BETTER, METRIC_NAMES, Baseline, BaselineName, Measure, RuleVerdict
from millrace_evaluation.gate import Relation, judge, overall, parse_rule

METRICS = {"accuracy": Measure(value=0.95, low=0.93, high=0.97), "log_loss": Measure(value=0.2, low=0.1, high=0.3)}

margins = st.floats(0, 1e6).map(lambda x: float(f"{x:g}"))
relations = st.builds(
    Relation, st.sampled_from(METRIC_NAMES), st.sampled_from(["non_inferior_to", "superior_to"]),
    st.sampled_from(["current", "source"]), margins,
)  # fmt: skip
comparisons = st.builds(
    Comparison, st.sampled_from(METRIC_NAMES), st.sampled_from(["<", "<=", ">", ">="]), margins
)  # fmt: skip


def compared(low: float, high: float, *, metric: str = "accuracy") -> dict[BaselineName, Baseline]:
    difference = Measure(value=(low + high) / 2, low=low, high=high)
    return {"current": Baseline(model="0" * 64, metrics=METRICS, differences={metric: difference})}


def verdict(rule: str, baselines: dict[BaselineName, Baseline]) -> str:
    return judge(parse_rule(rule), primary="accuracy", metrics=METRICS, baselines=baselines, unusable={}).verdict


@given(relations | comparisons)
def test_a_rule_parses_back_from_its_text(rule: Relation | Comparison) -> None:
    assert parse_rule(str(rule)) == rule


@given(st.text(alphabet="acury<>=.0123456789 %bnotwrsehi_", max_size=40))
def test_any_text_is_a_rule_or_a_fault_with_a_position(text: str) -> None:
    fault = None
    try:
        parse_rule(text)
    except errors.InvalidSpec as error:
        fault = error.message
    assert fault is None or fault.startswith("At character ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "At character 1: expected a metric, found the end"),
        ("acuracy >= 0.9", "At character 1: .*did you mean 'accuracy'"),
        ("accuracy => 0.9", "At character 10: expected a comparison"),
        ("accuracy >= high", "At character 13: expected a number, found 'high'"),
        ("accuracy >= 0.9 or true", "At character 17: expected the end of the rule"),
        ("accuracy non_inferior_to curent by 0.1", "At character 26: .*did you mean 'current'"),
        ("accuracy superior_to current by -1", "a margin is at least 0"),
        ("not better than the current release", "At character 5: expected `worse`"),
        ("accuracy >= 1e999", "expected a finite number"),
        ("__import__('os')", "At character 1"),
    ],
)
def test_a_wrong_rule_names_the_position_and_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=says):
        parse_rule(text)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("accuracy >= 0.95", "passed"),
        ("accuracy > 0.95", "failed"),
        ("accuracy >= 95%", "passed"),
        ("log_loss < 0.1", "failed"),
    ],
)
def test_a_number_is_compared_with_the_point_estimate(rule: str, expected: str) -> None:
    assert verdict(rule, {}) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.004, 0.01, "passed"), (-0.005, 0.0, "passed"), (-0.02, 0.01, "inconclusive"), (-0.03, -0.006, "failed")],
)
def test_non_inferiority_reads_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert verdict("accuracy non_inferior_to current by 0.005", compared(low, high)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.01, 0.02, "passed"), (0.0, 0.02, "inconclusive"), (-0.02, 0.0, "failed")]
)
def test_superiority_excludes_no_difference(low: float, high: float, expected: str) -> None:
    assert verdict("accuracy superior_to current", compared(low, high)) == expected


def test_of_a_loss_less_is_better() -> None:
    assert verdict("log_loss superior_to current", compared(-0.2, -0.1, metric="log_loss")) == "passed"
    assert verdict("log_loss non_inferior_to current", compared(0.1, 0.2, metric="log_loss")) == "failed"


def test_not_worse_means_one_percent_of_the_primary_metric() -> None:
    assert verdict("not worse than the current release", compared(-0.0094, 0.0)) == "passed"
    assert verdict("not worse than the current release", compared(-0.0096, 0.0)) == "inconclusive"


def test_without_a_current_release_a_comparison_passes_and_says_so() -> None:
    rule = parse_rule("accuracy superior_to current by 0.1")
    found = judge(rule, primary="accuracy", metrics=METRICS, baselines={}, unusable={})
    assert (found.verdict, found.detail) == ("passed", "there is no current release to compare with")


def test_a_current_release_that_cannot_answer_leaves_it_open() -> None:
    rule = parse_rule("not worse than current")
    found = judge(rule, primary="accuracy", metrics=METRICS, baselines={}, unusable={"current": "no column 'x'"})
    assert (found.verdict, found.detail) == ("inconclusive", "no column 'x'")


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(errors.InvalidSpec, match="no metric 'rmse'"):
        verdict("rmse <= 3", {})


@given(st.sampled_from(sorted(METRIC_NAMES)), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_difference_cannot_be_superior_and_fail_non_inferiority(
    metric: str, low: float, width: float, margin: float
) -> None:
    metrics = {metric: Measure(value=0.5, low=0.4, high=0.6)}
    baselines = compared(low, low + width, metric=metric)
    superior, non_inferior = (
        judge(
            Relation(metric, kind, "current", margin), primary=metric, metrics=metrics, baselines=baselines, unusable={}
        )
        for kind in ("superior_to", "non_inferior_to")
    )
    assert not (superior.verdict == "passed" and non_inferior.verdict != "passed")
    assert not (non_inferior.verdict == "failed" and superior.verdict != "failed")


def test_the_worst_rule_decides() -> None:
    def of(*verdicts: str) -> str:
        return overall([RuleVerdict.model_validate({"rule": "", "verdict": v, "detail": ""}) for v in verdicts])

    assert of() == of("passed") == "passed"
    assert of("passed", "inconclusive") == "inconclusive"
    assert of("inconclusive", "failed", "passed") == "failed"


def test_every_metric_says_which_way_is_better() -> None:
    assert set(METRIC_NAMES) - LOWER_IS_BETTER == {"accuracy", "macro_f1", "r2"}
