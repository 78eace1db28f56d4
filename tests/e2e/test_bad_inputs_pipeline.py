"""Bad pipelines, parameters and arguments: refused at submit, with the field, what was expected and the nearest name."""

from __future__ import annotations

import json

import pytest

from bad_inputs import CLEAN, HEAD, TRAIN, Terminal

FILES = [
    ("api: [\n", ["pipeline.yaml, line 2", "not valid YAML", "Check indentation"]),
    ("api: millrace/v1\nname: t\nstages:\n\tclean: {}\n", ["pipeline.yaml, line 4", "not valid YAML"]),
    ("", ["pipeline.yaml holds nothing", "Start with"]),
    ("- clean\n- train\n", ["holds a list, not a mapping"]),
    (HEAD + CLEAN + CLEAN, ["line 7", "same key stands twice", "Keep one"]),
    (HEAD + CLEAN + "---\n" + HEAD, ["not valid YAML", "another document"]),
    ("api: !!python/object/apply:os.system ['true']\n", ["line 1", "not valid YAML", "tag"]),
    ("api: " + "[" * 5000, ["nested more than 64 levels deep", "Close its brackets"]),
    ("api: millrace/v1\nname: ä\n".encode("latin-1"), ["not UTF-8 text (byte 23)", "Save it as UTF-8"]),
    (b"\x00\x01\x02", ["not valid YAML"]),
    ("stages: {clean: {}}\n", ["name", "required", "Add it"]),
    ("api: millrace/v2\nname: t\nstages: {clean: {}}\n", ["api:", "Expected 'millrace/v1'", "found 'millrace/v2'"]),
    ("name: My Pipe\nstages: {clean: {}}\n", ["name:", "lower-case letters", "'My Pipe'"]),
    ("name: t\nstages:\n", ["stages:", "Expected a mapping", "found nothing"]),
    ("name: t\nstages: {}\n", ["stages:", "at least 1"]),
    ("name: t\nstage: {}\n", ["stage:", "Unknown field", "did you mean 'stages'"]),
]  # fmt: skip

STAGES = [
    ("  claen: {}\n", ["stages.claen", "No stage kind 'claen'", "did you mean 'clean'"]),
    ("  one: {kind: trian}\n", ["stages.one.kind", "did you mean 'train'"]),
    ("  clean:\n", ["stages.clean:", "Expected a mapping", "found nothing"]),
    ("  clean: {wiht: {target: label}}\n", ["stages.clean.wiht", "did you mean 'with'"]),
    ("  clean: {with: {targte: label}}\n", ["stages.clean.with.targte", "did you mean 'target'"]),
    ("  clean: {with: {target: label, task: tabular_clasification}}\n",
     ["stages.clean.with.task", "did you mean 'tabular_classification'"]),
    ("  clean: {with: {target: label, split: {train: 0.9}}}\n", ["stages.clean.with.split", "must be 1, and is 1.26"]),
    ("  clean: {with: {target: label, split: {train: 1.2}}}\n", ["with.split.train", "less than or equal to 1"]),
    ("  clean: {with: {target: 2020-01-01}}\n", ["stages.clean.with.target", "value that JSON has"]),
    ("  clean: {inputs: {raw: $params.dta}}\n", ["stages.clean.inputs.raw", "did you mean 'data'"]),
    ("  clean: {inputs: {rwa: $params.data}}\n", ["stages.clean.inputs.rwa", "did you mean 'raw'"]),
    ("  clean: {timeout_s: -1}\n", ["stages.clean.timeout_s", "greater than 0; found -1"]),
    ("  clean: {retry: {max_attempts: 0}}\n", ["stages.clean.retry.max_attempts", "greater than or equal to 1"]),
    ("  clean: {resources: {gpu: lots}}\n", ["stages.clean.resources.gpu", "Expected a number; found 'lots'"]),
    ("  clean: {env: {A: 1}}\n", ["stages.clean.env.A", "Expected a text; found 1"]),
    ("  clean: {foreach: 7}\n", ["stages.clean.foreach", "Expected a list"]),
    ("  clean: {when: import os}\n", ["stages.clean.when", "At character 1", "'import'"]),
    ("  train: {}\n", ["stages.train.inputs.dataset", "Nothing before this stage makes a dataset", "`clean`"]),
    (CLEAN + "  train: {needs: [evaluate]}\n  evaluate: {}\n", ["wait for each other: train -> evaluate -> train"]),
    (CLEAN + "  train: {needs: [cleen]}\n", ["stages.train.needs", "did you mean 'clean'"]),
    (CLEAN + "  train: {inputs: {dataset: clean.dataste}}\n", ["inputs.dataset", "did you mean 'dataset'"]),
    (CLEAN + TRAIN + "  evaluate: {inputs: {model: clean.dataset}}\n",
     ["stages.evaluate.inputs.model", "Expected a model, but clean.dataset is a dataset"]),
    (CLEAN + "  train: {with: {learning_rate: -1}}\n", ["with.learning_rate", "greater than 0; found -1"]),
    (CLEAN + "  train: {with: {learning_rate: .inf}}\n", ["with.learning_rate", "finite number; found inf"]),
    (CLEAN + "  train: {with: {learning_rate: .nan}}\n", ["with.learning_rate", "finite number; found nan"]),
    (CLEAN + "  train: {with: {epochs: many}}\n", ["stages.train.with.epochs", "'many'"]),
    (CLEAN + "  train: {with: {batch_size: 100000000}}\n", ["with.batch_size", "less than or equal to 65536"]),
    (CLEAN + "  train: {with: {architecture: mpl}}\n", ["stages.train.with", "did you mean 'mlp@1'"]),
    (CLEAN + "  train: {with: {task: tabular_clasification}}\n", ["with.task", "did you mean 'tabular_classification'"]),
    (CLEAN + "  train: {with: {epochs: 2, steps: 2}}\n", ["stages.train.with", "epochs or steps, not both"]),
    (CLEAN + "  train: {sweep: {trials: 3}}\n", ["stages.train.sweep", "no sweeps", "foreach"]),
    (CLEAN + TRAIN + "  evaluate: {with: {gate: [acuracy >= 0.9]}}\n", ["with.gate", "did you mean 'accuracy'"]),
    (CLEAN + TRAIN + "  evaluate: {with: {gate: [accuracy >]}}\n", ["At character 11", "expected a number"]),
    (CLEAN + TRAIN + "  evaluate: {with: {gate: [accuracy beats current]}}\n", ["expected a comparison", "superior_to"]),
    (CLEAN + TRAIN + "  evaluate: {with: {gate: ['__import__(\"os\")']}}\n", ["expected a metric", "Write for example"]),
    (CLEAN + TRAIN + "  evaluate: {}\n  optimize: {with: {minimize: speed}}\n", ["with.minimize", "latency_p50_ms"]),
    (CLEAN + TRAIN + "  deploy: {with: {endpoint: e}}\n", ["stages.deploy.inputs.report", "Add an `evaluate` stage"]),
    (CLEAN + TRAIN + "  evaluate: {}\n  deploy: {}\n", ["stages.deploy.with.endpoint", "required"]),
    (CLEAN + TRAIN + "  evaluate: {}\n  deploy: {with: {endpoint: My E}}\n", ["with.endpoint", "lower-case", "'My E'"]),
]  # fmt: skip

PARAMS = [
    ("  rate: {type: flaot}\n", [], ["params.rate.type", "did you mean 'float'"]),
    ("  rate: {type: float}\n", [], ["params.rate", "no value and no default", "--param rate=VALUE"]),
    ("  rate: {type: float, default: abc}\n", [], ["params.rate", "Expected a float; found 'abc'"]),
    ("  rate: {type: float}\n", ["--param", "rate=fast"], ["params.rate", "Expected a float; found 'fast'"]),
    ("  rate: {type: float}\n", ["--param", "rate=.nan"], ["params.rate", "finite number"]),
    ("", ["--param", "epohcs=3"], ["params.epohcs", "no parameter 'epohcs'", "valid: data"]),
    ("", ["--param", "epochs"], ["--param", "Expected NAME=VALUE; found 'epochs'"]),
    ("", ["--param", "a=["], ["--param", "line 1", "not valid YAML"]),
    ("", ["--data", "other=rows.csv"], ["params.other", "no parameter 'other'", "valid: data"]),
    ("", ["--data", "missing.csv"], ["params.data", "no file or directory", "missing.csv", "Correct the path"]),
    ("", ["--data", "data="], ["--data", "found no path"]),
    ("", ["--data", "."], ["params.data"]),
]  # fmt: skip

COMMANDS = [
    (["run", "nope.yaml"], ["no pipeline file 'nope.yaml'", "millrace init"]),
    (["run", "."], ["Cannot read '.'", "Is a directory"]),
    (["run"], ["Missing argument 'PIPELINE'"]),
    (["rnu", "pipeline.yaml"], ["No command 'rnu'", "did you mean 'run'"]),
    (["run", "pipeline.yaml", "--priority", "high"], ["--priority", "'high'"]),
    (["run", "pipeline.yaml", "--seed", "-1"], ["--seed", "x>=0"]),
    (["runs", "--status", "done"], ["--status", "'done' is not one of"]),
    (["runs", "--label", "team"], ["--label", "Expected NAME=VALUE"]),
    (["status", "run_nope"], ["run_id", "no run 'run_nope'", "millrace runs"]),
    (["events", "run_nope"], ["no run 'run_nope'"]),
    (["logs", "run_nope"], ["no run 'run_nope'"]),
    (["cancel", "run_nope"], ["no run 'run_nope'"]),
    (["endpoints", "stop"], ["Which endpoint", "millrace endpoints stop NAME"]),
    (["endpoints", "stop", "nope"], ["no endpoint 'nope'"]),
    (["predict", "nope", "--row", "{}"], ["no endpoint 'nope'"]),
    (["predict", "No Name", "--row", "{}"], ["lower-case letters", "'No Name'"]),
    (["batch", "nope", "rows.csv", "--out", "o.parquet"], ["no endpoint 'nope'"]),
    (["batch", "0" * 64, "nope.csv", "--out", "o.parquet"], ["no file or directory 'nope.csv'"]),
    (["init", "nope.csv"], ["DATA", "no data file 'nope.csv'"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "words"), FILES)
def test_a_file_that_is_no_pipeline_is_refused(millrace: Terminal, content: str | bytes, words: list[str]) -> None:
    millrace("run", millrace.write("pipeline.yaml", content)).refused(*words)


@pytest.mark.parametrize(("stages", "words"), STAGES)
def test_a_wrong_stage_is_refused_before_anything_runs(millrace: Terminal, stages: str, words: list[str]) -> None:
    millrace("run", millrace.pipeline(stages)).refused(*words)


@pytest.mark.parametrize(("declared", "arguments", "words"), PARAMS)
def test_a_wrong_parameter_is_refused_by_name(
    millrace: Terminal, monkeypatch: pytest.MonkeyPatch, declared: str, arguments: list[str], words: list[str]
) -> None:
    (millrace.directory / "empty").mkdir()
    monkeypatch.chdir(millrace.directory / "empty")
    pipeline = millrace.pipeline(CLEAN, head=HEAD.replace("stages:\n", f"{declared}stages:\n"))
    millrace("run", pipeline, *arguments).refused(*words)


@pytest.mark.parametrize(("arguments", "words"), COMMANDS)
def test_a_wrong_command_line_is_refused(millrace: Terminal, arguments: list[str], words: list[str]) -> None:
    millrace(*arguments).refused(*words)


def test_with_json_the_error_is_json_with_its_field(millrace: Terminal) -> None:
    outcome = millrace("plan", millrace.pipeline(CLEAN + "  train: {with: {learning_rate: 0}}\n"), "--json")
    error = json.loads(outcome.err)["error"]
    assert (outcome.code, outcome.out) == (2, "")
    assert (error["code"], error["field"]) == ("invalid_spec", "stages.train.with.learning_rate")


def test_a_refused_pipeline_leaves_no_run(millrace: Terminal) -> None:
    millrace("run", millrace.pipeline("  claen: {}\n"), "--label", "test=refused").refused("claen")
    assert millrace("runs", "--label", "test=refused").out.startswith("No runs")
