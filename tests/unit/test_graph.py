"""Expansion: what a written pipeline becomes, and how it is refused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import Field

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.graph import expand
from millrace.contracts.loading import load_spec
from millrace.contracts.pipelines import Binding, Graph
from millrace.contracts.stages import Port, StageConfig, StageKind

DATA = ArtifactRef(digest="a" * 64, type="source")


class Config(StageConfig):
    learning_rate: float = Field(default=0.1, gt=0)
    gate: tuple[str, ...] = ()
    endpoint: str = ""
    uri: str = ""


def port(text: str) -> Port:
    """A port by its type; `model?` is optional and not bound by itself."""
    return Port.model_validate({"type": text.rstrip("?"), "optional": "?" in text, "auto": "?" not in text})


def kind(name: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **more: Any) -> StageKind:
    quiet = {"variants"}
    return StageKind(
        name=name, caption=name, service=name, module=name, config=Config,
        inputs={p: port(t) for p, t in inputs.items()},
        outputs={p: Port.model_validate({"type": t, "auto": p not in quiet}) for p, t in outputs.items()}, **more,
    )  # fmt: skip


KINDS = {
    k.name: k
    for k in (
        kind("ingest", {}, {"source": "source"}),
        kind("clean", {"raw": "source"}, {"dataset": "dataset"}),
        kind("train", {"dataset": "dataset"}, {"model": "model"}),
        kind(
            "evaluate",
            {"model": "model", "dataset": "dataset", "current": "model?", "source": "model?"},
            {"report": "report"},
        ),
        kind("optimize", {"model": "model", "dataset": "dataset"}, {"model": "model", "variants": "variants"}),
        kind("deploy", {"model": "model", "report": "report"}, {"release": "release"}, effect="release"),
        kind("twins", {}, {"left": "dataset", "right": "dataset"}),
    )
}

LINEAR = """
api: millrace/v1
name: digits
params: {data: dataset, rate: {type: float, default: 3e-4}}
stages:
  clean: {}
  train: {with: {learning_rate: $params.rate}}
  evaluate: {with: {gate: [accuracy >= 0.9]}}
  optimize: {}
  deploy: {with: {endpoint: digits}}
"""


def graph_of(text: str, **params: Any) -> Graph:
    return expand(load_spec(text), {"data": DATA, **params} if "data:" in text else params, kinds=KINDS)


def refusal_of(text: str, **params: Any) -> errors.InvalidSpec:
    with pytest.raises(errors.InvalidSpec) as caught:
        graph_of(text, **params)
    return caught.value


def one(stages: str) -> str:
    return f"api: millrace/v1\nname: p\nparams: {{data: dataset}}\nstages:\n{stages}"


def test_a_linear_pipeline_needs_no_wiring() -> None:
    stages = {s.name: s for s in graph_of(LINEAR).stages}
    assert stages["clean"].inputs == {"raw": Binding(artifact=DATA)}
    assert stages["train"].inputs == {"dataset": Binding(stage="clean", port="dataset")}
    assert stages["deploy"].inputs["model"] == Binding(stage="optimize", port="model")


def test_yaml_1_2_reads_3e_4_as_a_number() -> None:
    train = next(s for s in graph_of(LINEAR).stages if s.name == "train")
    assert train.config["learning_rate"] == 3e-4


def test_the_optimized_model_is_judged_again_before_it_ships() -> None:
    graph = graph_of(LINEAR)
    stages = {s.name: s for s in graph.stages}
    again = stages["evaluate_optimized"]
    assert again.implied
    assert again.inputs["model"] == Binding(stage="optimize", port="model")
    assert again.inputs["source"] == Binding(stage="train", port="model")
    assert stages["deploy"].inputs["report"] == Binding(stage="evaluate_optimized", port="report")
    assert [s.name for s in graph.stages].index("evaluate_optimized") < [s.name for s in graph.stages].index("deploy")


def test_a_soft_limit_that_the_hard_one_comes_before_is_refused() -> None:
    refused = refusal_of(one("  clean: {timeout_s: 60, soft_timeout_s: 60}"))
    assert refused.field == "stages.clean.soft_timeout_s"
    assert "less than `timeout_s`, 60 s; found 60 s" in refused.message
    assert graph_of(one("  clean: {timeout_s: 60, soft_timeout_s: 50}")).stages[0].soft_timeout_s == 50


def test_evaluations_know_the_endpoint_they_are_compared_with() -> None:
    assert {s.name: s.endpoint for s in graph_of(LINEAR).stages}["evaluate"] == "digits"


def test_an_outside_location_is_ingested_first() -> None:
    graph = graph_of(one("  clean: {}"), data="s3://bucket/raw/")
    assert [s.name for s in graph.stages] == ["ingest_data", "clean"]
    assert graph.stages[0].config["uri"] == "s3://bucket/raw/"


def test_equal_specs_have_equal_digests() -> None:
    assert graph_of(LINEAR).spec_digest == graph_of(LINEAR.replace("clean: {}", "clean: {with: {}}")).spec_digest


def test_stages_may_be_written_in_any_order_when_wired() -> None:
    graph = graph_of(one("  train: {inputs: {dataset: clean.dataset}}\n  clean: {}"))
    assert [s.name for s in graph.stages] == ["clean", "train"]


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        (one("  claen: {}"), "stages.claen", "'clean'"),
        (one("  clean: {wiht: {}}"), "stages.clean.wiht", "'with'"),
        (one("  clean: {with: {learning_rat: 1}}"), "stages.clean.with.learning_rat", "'learning_rate'"),
        (one("  clean: {with: {learning_rate: fast}}"), "stages.clean.with.learning_rate", "number"),
        (one("  clean: {with: {learning_rate: -1}}"), "stages.clean.with.learning_rate", "greater than 0"),
        (one("  clean: {with: {learning_rate: $params.rat}}"), "stages.clean.with.learning_rate", "no parameter"),
        (one("  clean: {inputs: {row: $params.data}}"), "stages.clean.inputs.row", "'raw'"),
        (one("  clean: {}\n  train: {inputs: {dataset: claen.dataset}}"), "stages.train.inputs.dataset", "'clean'"),
        (one("  clean: {}\n  train: {inputs: {dataset: clean.model}}"), "stages.train.inputs.dataset", "no output"),
        (one("  train: {inputs: {dataset: $params.data}}"), "stages.train.inputs.dataset", "is a source"),
        (one("  train: {}"), "stages.train.inputs.dataset", "Nothing before"),
        (one("  clean: {}\n  train: {}\n  deploy: {}"), "stages.deploy.inputs.report", "evaluate"),
        (one("  twins: {}\n  train: {}"), "stages.train.inputs.dataset", "several outputs"),
        (one("  clean: {needs: [train]}\n  train: {}"), "stages", "clean -> train -> clean"),
        (one("  clean: {needs: [trian]}"), "stages.clean.needs", "no stage 'trian'"),
        (one("  clean: {sweep: {trials: 3}}"), "stages.clean.sweep", "no sweeps"),
        (one("  clean: {foreach: []}"), "stages.clean.foreach", "at least one"),
        (one("  clean: {when: 'train.accuracy >'}"), "stages.clean.when", "expected a value"),
        (one("  clean: {resources: {gpu: many}}"), "stages.clean.resources.gpu", "number"),
        (one("  Clean!: {}"), "stages.Clean!", "lower-case"),
        (one("  clean: {}").replace("api: millrace/v1", "api: millrace/v9"), "api", "millrace/v1"),
        (one("  clean: {}").replace("name: p", "name: My Pipeline"), "name", "lower-case"),
        (one("  {}"), "stages", "at least 1"),
        (one("  clean: {resources: {cpu: .inf}}"), "stages.clean.resources.cpu", "finite"),
        (one("  clean: {env: {A=B: x}}"), "stages.clean.env.A=B", "environment variable"),
        (one("  clean: {env: {A: \"x\\0y\"}}"), "stages.clean.env.A", "null character"),
        (one("  clean: {foreach: [{learning_rate: 1}, {learning_rat: 2}]}"), "stages.clean.foreach.1.learning_rat",
         "'learning_rate'"),
        (one("  clean: {foreach: [1, 2]}"), "stages.clean.foreach.0", "{field: value}"),
        (one("  clean: {}").replace("{data: dataset}", "{data: dataset, rate!: float}"), "params.rate!", "a parameter's name"),
        (one("  clean: {when: params.data == 1}"), "stages.clean.when", "cannot be compared"),
        (LINEAR + "  evaluate_optimized: {kind: clean, inputs: {raw: $params.data}}", "stages.evaluate_optimized",
         "expansion adds"),
        (LINEAR + "  again: {kind: deploy, inputs: {model: optimize.model}, with: {endpoint: digits}}",
         "stages.again.with.endpoint", "already releases"),
        (one("\n".join(f"  s{n}: {{kind: twins}}" for n in range(1001))), "stages", "at most 1000"),
    ],
)  # fmt: skip
def test_a_wrong_pipeline_is_refused_with_the_field_and_the_nearest_name(text: str, field: str, words: str) -> None:
    error = refusal_of(text)
    assert error.field == field
    assert words in str(error)


def test_a_missing_parameter_says_how_to_give_it() -> None:
    with pytest.raises(errors.InvalidSpec, match="--data data=PATH"):
        expand(load_spec(LINEAR), {}, kinds=KINDS)


@pytest.mark.parametrize("value", [True, "0.1", None, [0.1]])
def test_a_parameter_of_another_type_is_refused(value: Any) -> None:
    if value is None:
        assert next(s for s in graph_of(LINEAR, rate=None).stages if s.name == "train").config["learning_rate"] == 3e-4
    else:
        assert refusal_of(LINEAR, rate=value).field == "params.rate"


def test_an_unknown_parameter_names_the_nearest() -> None:
    assert "'rate'" in str(refusal_of(LINEAR, rte=1.0))


def test_a_local_path_is_refused_where_only_references_travel() -> None:
    assert "upload" in str(refusal_of(LINEAR, data="reviews.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages: [", "not valid YAML"),
        ("name: a\nname: b", "twice"),
        ("- 1", "a list, not a mapping"),
        ("", "nothing, not a mapping"),
        ("a: !!python/object:os.system {}", "not valid YAML"),
        ("[" * 3000, "64 levels"),
        ("a: " + "[" * 80 + "]" * 80, "64 levels"),
        ("a: &a [*a]", "contains itself"),
        (f"a: {'9' * 5000}", "thousands of digits"),
    ],
)
def test_text_that_is_no_pipeline_is_refused(text: str, words: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=words):
        load_spec(text)


def test_a_thousand_bytes_of_aliases_that_stand_for_gigabytes_are_refused_at_once() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    begin = time.process_time()
    with pytest.raises(errors.InvalidSpec, match="12345679011 values"):
        load_spec(bomb)
    assert time.process_time() - begin < 2.0


def test_an_alias_is_allowed() -> None:
    text = one("  clean: {with: &same {learning_rate: 2}}\n  other: {kind: clean, with: *same}")
    assert [s.config["learning_rate"] for s in graph_of(text).stages] == [2.0, 2.0]


def test_an_item_of_foreach_overrides_with_and_may_give_what_it_leaves_out() -> None:
    text = one("  clean: {with: {endpoint: e}, foreach: [{learning_rate: $params.rate}, {learning_rate: 2}]}")
    [stage] = graph_of(text.replace("dataset}", "dataset, rate: {type: float, default: 0.5}}")).stages
    assert stage.foreach is not None
    assert [(i["learning_rate"], i["endpoint"]) for i in stage.foreach.items] == [(0.5, "e"), (2.0, "e")]  # type: ignore[call-overload, index]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_a_number_that_json_or_a_float_cannot_hold_is_refused(value: float) -> None:
    assert refusal_of(LINEAR, rate=value).field == "params.rate"
    text = LINEAR.replace("{type: float, default: 3e-4}", "json")
    if isinstance(value, float):
        assert refusal_of(text, rate={"a": [value]}).field == "params.rate"
