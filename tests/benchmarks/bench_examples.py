"""What the examples reach beside their baselines, and how long it takes from starting the command to an endpoint that answers.

A metric that ends in `_interval` has in `min` and `max` the ends of its 95% interval: by a paired bootstrap over test rows,
those of all seeds together.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.factories import embedded
from benchmarks.harness import Row, print_rows, row, write_results
from examples.comparing import MODEL, Comparison, Lead, answers_of, compare_answers, pooled, read_split
from examples.running import HERE, compare, make_data, predictions_in
from millrace import Client, Pipeline
from millrace_optimization.choosing import VariantTable

NUM_SEEDS = 5
UNITS = {"accuracy": "share", "bits_per_character": "bits"}
SUBJECTS = {MODEL: "millrace"}


@dataclass(frozen=True, slots=True)
class Done:
    """One run of an example.

    Attributes:
        saved: What its stages made, as `millrace run --save` lays it out.
        seconds: Of the whole way to an answering endpoint, or of training.
    """

    saved: Path
    seconds: float


def digits(num_seeds: int, folder: Path) -> list[Row]:
    """As a user runs it: one command in a fresh home, which starts a factory of its own."""
    runs = [by_command("digits", seed=seed, folder=folder / str(seed)) for seed in range(num_seeds)]
    comparisons = [compare("digits", run.saved) for run in runs]
    accuracies = [comparison.value(MODEL) for comparison in comparisons]
    drop = pooled([served_beside_source(run.saved) for run in runs]).lead("served", of="source")
    return [
        *(row("digits", f"accuracy_seed_{seed}", "share", [accuracies[seed]]) for seed in range(num_seeds)),
        row("digits", "accuracy_mean", "share", [sum(accuracies) / num_seeds]),
        *comparison_rows("digits", comparisons),
        row("digits", "served_size_over_fp32", "ratio", [size_ratio(run.saved) for run in runs]),
        interval("digits", "served_accuracy_drop_interval", "share", drop, runs=num_seeds),
        row("digits", "command_to_answer", "s", [run.seconds for run in runs]),
    ]


def tabular(num_seeds: int, folder: Path) -> list[Row]:
    return _trained("tabular", num_seeds, folder)


def docstrings(num_seeds: int, folder: Path) -> list[Row]:
    """Three seeds: the interval over one test split is as wide as the two points that are in question."""
    return _trained("docstrings", min(num_seeds, 3), folder)


def pydoc_gpt(_: int, folder: Path) -> list[Row]:
    return _trained("pydoc_gpt", 1, folder)


CASES: dict[str, Callable[[int, Path], list[Row]]] = {
    "digits": digits,
    "tabular": tabular,
    "docstrings": docstrings,
    "pydoc_gpt": pydoc_gpt,
}


def by_command(name: str, *, seed: int, folder: Path) -> Done:
    """Run an example by `millrace run`; its seconds go from the start of the process to the endpoint's answer."""
    saved = folder / "saved"
    command = [sys.executable, "-m", "millrace.cli", "run", str(HERE / name / "pipeline.yaml")]
    command += ["--seed", str(seed), "--save", str(saved)]
    seconds = 0.0
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "MILLRACE_HOME": str(folder / "home")}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("  answer"):
                seconds = time.perf_counter() - begin
    if process.returncode or not seconds:
        raise RuntimeError(f"{name} with seed {seed} ended with exit code {process.returncode}")
    return Done(saved, seconds)


def by_client(client: Client, name: str, *, seed: int, folder: Path) -> Done:
    """Run an example in a factory that stands; its seconds are those of training."""
    result = client.submit(Pipeline.load(HERE / name / "pipeline.yaml"), seed=seed).result()
    for stage, outputs in result.stages.items():
        for port, artifact in outputs.artifacts.items():
            client.download(artifact, folder / stage / port)
    return Done(folder, float(result.stages["train"].summary["seconds"]))


def served_beside_source(saved: Path) -> Comparison:
    """The variant that serves and the fp32 model that it was made from, on the test split."""
    test = read_split(saved / "clean" / "dataset", "test")
    answers = {
        "served": answers_of(predictions_in(saved), test),
        "source": answers_of(predictions_in(saved, stage="evaluate"), test),
    }
    return compare_answers(test, "label", answers)


def size_ratio(saved: Path) -> float:
    """Size of the chosen variant's program over that of the fp32 program."""
    table = VariantTable.model_validate_json(
        (saved / "optimize" / "variants" / "variants.json").read_text(encoding="utf-8")
    )
    return next(variant.size_ratio for variant in table.variants if variant.name == table.chosen)


def comparison_rows(case: str, comparisons: Sequence[Comparison]) -> list[Row]:
    """Each method's metric by seed, and the model's lead over each baseline over all seeds."""
    together = pooled(comparisons)
    metric, unit = together.metric, UNITS[together.metric]
    rows = [
        row(case, metric, unit, [one.value(method) for one in comparisons], subject=SUBJECTS.get(method, method))
        for method in together.points
    ]
    for method in together.baselines:
        name = f"lead_over_{method}_interval"
        rows.append(interval(case, name, unit, together.lead(method), runs=len(comparisons)))
    return rows


def interval(case: str, metric: str, unit: str, lead: Lead, *, runs: int) -> Row:
    return Row(case, metric, unit, "millrace", lead.value, lead.low, lead.high, runs)


def _trained(name: str, num_seeds: int, folder: Path) -> list[Row]:
    with embedded() as factory:
        runs = [by_client(factory.client, name, seed=n, folder=folder / str(n)) for n in range(num_seeds)]
    comparisons = comparison_rows(name, [compare(name, run.saved) for run in runs])
    return [*comparisons, row(name, "train", "s", [run.seconds for run in runs])]


def main() -> None:
    """Measure all, and write the results; with options, measure some, and only print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        for name in options.only:
            make_data(name)
            rows += CASES[name](options.seeds, Path(folder) / name)
    if len(options.only) == len(CASES) and options.seeds == NUM_SEEDS:
        write_results("examples", rows)
    else:
        print_rows(rows)


if __name__ == "__main__":
    main()
