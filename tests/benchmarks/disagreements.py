"""Where Millrace and datatrove judge a document differently: what each measured, and the words that they cut differently.

The cause is looked for, not believed: if the words differ, the first that do are shown; if they do not, it is said whether the
values differ or only the decisions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, zip_longest
from pathlib import Path

import pyarrow as pa

from benchmarks.peers.environment import run_peer
from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.kinds import KINDS
from millrace_cleaning.steps.recipe import load
from millrace_cleaning.steps.settings import StepConfig
from millrace_cleaning.steps.text.words import LENGTH, split

VALUES = Path(__file__).parent / "peers" / "datatrove_values.py"
SAMPLES = 5
"""Documents of a rule that are looked at, of either side."""

WORDS = "spaCy has exceptions that rules here leave out (emoticons such as `):`, `and/or`, `id` as I'd): there"
CAUSES: Mapping[str, str] = {
    "gopher_quality": WORDS,
    "gopher_repetition": WORDS,
    "fineweb_quality": WORDS,
    "c4_quality": "sentences are counted over words, which spaCy has exceptions for: there",
}
"""By step: where its rules may differ from datatrove's. What is shown beside says whether they did for this reason."""


ENDING: Mapping[str, object] = {"lorem_ipsum": False, "curly_bracket": False, "min_sentences": None}
"""C4's rules that remove texts, off: a text that one has removed is not judged by the next."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    rule: str
    id: str
    removed_by: str
    limit: float
    value_here: float
    value_there: float
    num_words_here: int
    num_words_there: int
    first_words_here: tuple[str, ...]
    first_words_there: tuple[str, ...]
    cause: str

    @property
    def is_measured(self) -> bool:
        """Whether both values decide as their sides did, so that the explanation is about the right quantity."""
        here, there = (self._removes(value) for value in (self.value_here, self.value_there))
        return (here, there) == ((True, False) if self.removed_by == "millrace" else (False, True))

    def _removes(self, value: float) -> bool:
        name = self.rule.split(".")[1]
        if name.startswith("min_"):
            return value < self.limit
        return value > self.limit if name.startswith("max_") else value >= self.limit


def explain(
    removed_here: Mapping[str, set[str]],
    removed_there: Mapping[str, set[str]],
    texts: Sequence[str],
    *,
    python: Path,
    folder: Path,
) -> list[Disagreement]:
    """Measure a few documents a rule on both sides. Ids are positions in texts."""
    asked = [
        (rule, id_)
        for rule, here in removed_here.items()
        for some in (here - removed_there[rule], removed_there[rule] - here)
        for id_ in sorted(some, key=int)[:SAMPLES]
    ]
    file = folder / "disagreements.jsonl"
    file.write_text("".join(json.dumps({"rule": r, "text": texts[int(i)]}) + "\n" for r, i in asked), encoding="utf-8")
    answers = run_peer(python, VALUES, str(file)) if asked else []
    found = []
    for (rule, id_), answer in zip(asked, answers, strict=True):
        text = texts[int(id_)]
        limit, value = measured(rule, text)
        here, there = words(text), answer["words"]
        ours, theirs = _first_difference(here, there)
        found.append(
            Disagreement(
                rule, id_, "millrace" if id_ in removed_here[rule] else "datatrove", limit, value, answer["value"],
                len(here), len(there), ours, theirs, _cause(rule, ours, theirs, is_same=value == answer["value"]),
            )
        )  # fmt: skip
    return found


def config_of(rule: str, **fields: object) -> StepConfig:
    """The settings of a rule's step, with the other rules off that would end the judgement of a text before it."""
    step, name, *_ = rule.split(".")
    others = {other: value for other, value in ENDING.items() if other != name} if step == "c4_quality" else {}
    return KINDS[step].model_validate({"step": step, "column": "text", **others, **fields})


def as_notes(found: Sequence[Disagreement]) -> list[dict[str, object]]:
    """For a results file."""
    return [asdict(one) for one in found]


def print_all(found: Sequence[Disagreement]) -> None:
    """A line each, and why."""
    for one in found:
        print(
            f"{one.rule} document {one.id}: removed by {one.removed_by} alone; limit {one.limit:g}, here {one.value_here:.4f} of "
            f"{one.num_words_here} words, there {one.value_there:.4f} of {one.num_words_there}\n    {one.cause}"
        )


def measured(rule: str, text: str) -> tuple[float, float]:
    """The limit that a rule has by default, and the value that it measures: its finding when nothing passes it."""
    step, name, *size = rule.split(".")
    limit = KINDS[step].model_fields[name].default
    if isinstance(limit, bool):
        return 1.0, float(_value(rule, config_of(rule), text) is not None)
    strictest: object = 0
    if name.startswith("min_"):
        strictest = 1.0 if isinstance(limit, float) else 10**9
    if size:
        limit, strictest = limit[int(size[0])], {int(size[0]): 0.0}
    value = _value(rule, config_of(rule, **{name: strictest}), text)
    return float(limit), value if value is not None else float(name.startswith("min_"))


def _value(rule: str, config: StepConfig, text: str) -> float | None:
    """What a step says of a text by a rule; None if nothing. NaN where it says that something is there."""
    (step,) = load([config])
    table = step.apply(pa.record_batch({"text": pa.array([text])}), step.config, Scratch()).findings.table()
    for found in table.select(["rule", "action", "value"]).to_pylist():
        if found["action"] == "removed" and f"{step.label}.{found['rule']}" == rule:
            return float("nan") if found["value"] is None else float(found["value"])
    return None


def words(text: str) -> list[str]:
    """The words that rules count, which the product keeps as lengths and hashes alone."""
    cut = split(pa.array([text]))
    kept = "".join(text.split())
    ends = [0]
    for mark in cut.word_marks.tolist():
        ends.append(ends[-1] + (mark & LENGTH))
    return [kept[begin:end] for begin, end in pairwise(ends)]


def _first_difference(here: Sequence[str], there: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for at, (one, other) in enumerate(zip_longest(here, there)):
        if one != other:
            return tuple(here[at : at + 4]), tuple(there[at : at + 4])
    return (), ()


def _cause(rule: str, here: Sequence[str], there: Sequence[str], *, is_same: bool) -> str:
    if here or there:
        return f"{CAUSES[rule.partition('.')[0]]} {' | '.join(there)}, here {' | '.join(here)}"
    return "same words and value, another decision" if is_same else "same words, another value"
