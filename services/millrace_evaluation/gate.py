"""The gate: rules on a report, parsed by a small grammar and never evaluated as code.

rule     = METRIC OP NUMBER                                          accuracy >= 0.95
         | METRIC RELATION BASELINE ["by" NUMBER ["%"]]              accuracy non_inferior_to current by 0.005
         | "not" "worse" "than" ["the"] BASELINE ["release"|"model"]  the primary metric, by 1%
RELATION = "non_inferior_to" | "superior_to"
BASELINE = "current" | "source"

A comparison with a number reads the point estimate. A relation reads the paired bootstrap interval of the difference on the
same rows: it passes or fails where the whole interval lies on one side of the margin, and is inconclusive where the interval
straddles it. A margin in percent is a share of the baseline's value. Without that baseline a relation passes and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from millrace import errors
from millrace.contracts.events import Verdict
from millrace.models.comparison import OPERATORS, Comparison, Words
from millrace.models.report import LOWER_IS_BETTER, METRIC_NAMES, Baseline, BaselineName, Measure, RuleVerdict

_BASELINES: dict[str, BaselineName] = {"current": "current", "source": "source"}
_RELATIONS: dict[str, Literal["non_inferior_to", "superior_to"]] = {
    "non_inferior_to": "non_inferior_to", "superior_to": "superior_to",
}  # fmt: skip
_EXAMPLE = "accuracy >= 0.95` or `accuracy non_inferior_to current by 0.005"
_NOT_WORSE_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Relation:
    """A metric against the same metric of another model.

    Attributes:
        metric: Empty means the task's primary metric.
        margin: At least 0, in the metric's unit, or in percent of the baseline's value.
    """

    metric: str
    kind: Literal["non_inferior_to", "superior_to"]
    baseline: BaselineName
    margin: float
    is_percent: bool = False

    def __str__(self) -> str:
        by = f" by {self.margin:g}{'%' if self.is_percent else ''}" if self.margin else ""
        return f"{self.metric or 'primary metric'} {self.kind} {self.baseline}{by}"


Rule = Comparison | Relation


def parse_rule(text: str, *, field: str = "gate", metrics: Collection[str] = METRIC_NAMES) -> Rule:
    """Parse one rule.

    Raises:
        InvalidSpec: With the position at which the text stops making sense, and what was expected there.
    """
    words = Words(text, field=field, example=_EXAMPLE)
    rule = _not_worse(words) if words.word == "not" else _metric_rule(words, metrics)
    words.end()
    return rule


def judge(
    rule: Rule,
    *,
    primary: str,
    metrics: Mapping[str, Measure],
    baselines: Mapping[BaselineName, Baseline],
    unusable: Mapping[str, str],
) -> RuleVerdict:
    """Decide one rule.

    Args:
        primary: The task's primary metric.
        metrics: Of the model that is judged.
        baselines: Models that were scored on the same rows.
        unusable: Why a baseline that exists could not be scored; a relation to it is inconclusive.

    Raises:
        InvalidSpec: The task of the model has no such metric.
    """
    name = (rule.name if isinstance(rule, Comparison) else rule.metric) or primary
    if name not in metrics:
        raise errors.InvalidSpec(
            f"The model's task has no metric {name!r}; {errors.nearest(name, metrics)}", field="gate"
        )
    if isinstance(rule, Comparison):
        value = metrics[name].value
        return RuleVerdict(
            rule=str(rule), verdict="passed" if rule.holds(value) else "failed", detail=f"{name} is {value:.4g}"
        )
    baseline = baselines.get(rule.baseline)
    if rule.baseline in unusable:
        return RuleVerdict(rule=str(rule), verdict="inconclusive", detail=unusable[rule.baseline])
    if baseline is None:
        what = "current release" if rule.baseline == "current" else "source model"
        return RuleVerdict(rule=str(rule), verdict="passed", detail=f"there is no {what} to compare with")
    return _relate(rule, name, baseline)


def overall(verdicts: Sequence[RuleVerdict]) -> Verdict:
    """Failed if any rule failed, else inconclusive if any was, else passed; a gate without rules passes."""
    found = {v.verdict for v in verdicts}
    return "failed" if "failed" in found else "inconclusive" if "inconclusive" in found else "passed"


def _relate(rule: Relation, name: str, baseline: Baseline) -> RuleVerdict:
    difference = baseline.differences[name]
    margin = rule.margin / 100 * abs(baseline.metrics[name].value) if rule.is_percent else rule.margin
    low, high = difference.low, difference.high
    if name in LOWER_IS_BETTER:
        low, high = -high, -low
    reaches = Comparison(name, ">=", -margin) if rule.kind == "non_inferior_to" else Comparison(name, ">", margin)
    verdict: Verdict = "passed" if reaches.holds(low) else "inconclusive" if reaches.holds(high) else "failed"
    detail = (
        f"{name} differs by {difference.value:+.4g} (interval {difference.low:+.4g} to {difference.high:+.4g}), "
        f"margin {margin:.4g}"
    )
    return RuleVerdict(rule=str(rule), verdict=verdict, detail=detail)


def _metric_rule(words: Words, metrics: Collection[str]) -> Rule:
    metric = words.choice(metrics, "a metric")
    word = words.choice([*OPERATORS, *_RELATIONS], "a comparison")
    if word in OPERATORS:
        value, is_percent = words.number()
        return Comparison(metric, word, value / 100 if is_percent else value)
    baseline = _BASELINES[words.choice(_BASELINES, "a baseline")]
    margin, is_percent = 0.0, False
    if words.word:
        words.choice(("by",), "`by` and a margin")
        margin, is_percent = words.number()
        if margin < 0:
            raise words.fault("a margin is at least 0.")
    return Relation(metric, _RELATIONS[word], baseline, margin, is_percent)


def _not_worse(words: Words) -> Relation:
    words.take()
    words.choice(("worse",), "`worse`")
    words.choice(("than",), "`than`")
    if words.word == "the":
        words.take()
    baseline = _BASELINES[words.choice(_BASELINES, "a baseline")]
    if words.word in ("release", "model"):
        words.take()
    return Relation("", "non_inferior_to", baseline, _NOT_WORSE_PERCENT, is_percent=True)
