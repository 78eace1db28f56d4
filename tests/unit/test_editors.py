"""The published schema of the pipeline file accepts what the loader accepts, and refuses what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from millrace.contracts.editors import pipeline_schema
from millrace.contracts.loading import parse_yaml
from millrace.contracts.stages import Port, StageConfig, StageKind, installed_kinds

ROOT = Path(__file__).parents[2]


class Nested(StageConfig):
    by: str = ""


class Config(StageConfig):
    rate: float = 0.1
    nested: Nested = Nested()


KINDS = {
    "train": StageKind(
        name="train",
        caption="Trains.",
        service="s",
        module="m",
        config=Config,
        inputs={},
        outputs={"m": Port(type="model")},
    )
}

GOOD = [
    "{name: p, stages: {train: {}}}",
    "{name: p, stages: {train: {with: {rate: 3.0e-4, nested: {by: user}}}}}",
    "{name: p, params: {r: float, d: {type: dataset}}, stages: {train: {with: {rate: $params.r}}}}",
    "{name: p, params: {r: string}, stages: {train: {with: {nested: {by: $params.r}}}}}",
    "{name: p, stages: {big: {kind: train, with: {rate: 1}}, train: {kind: plugin, with: {anything: 1}}}}",
]
BAD = [
    "{stages: {train: {}}}",
    "{name: p, stages: {}}",
    "{name: p, stages: {train: {with: {rat: 1}}}}",
    "{name: p, stages: {train: {with: {rate: fast}}}}",
    "{name: p, stages: {train: {with: {nested: {buy: user}}}}}",
    "{name: p, stages: {big: {kind: train, with: {rat: 1}}}}",
    "{name: p, stages: {train: {needs: clean}}}",
    "{name: p, params: {r: number}, stages: {train: {}}}",
    "{name: p, stages: {Train!: {}}}",
]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return pipeline_schema(KINDS)


def test_it_is_valid_json_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("text", GOOD)
def test_a_good_pipeline_is_accepted(schema: dict[str, Any], text: str) -> None:
    jsonschema.Draft202012Validator(schema).validate(parse_yaml(text))


@pytest.mark.parametrize("text", BAD)
def test_a_bad_pipeline_is_refused(schema: dict[str, Any], text: str) -> None:
    assert not jsonschema.Draft202012Validator(schema).is_valid(parse_yaml(text))


def test_the_published_file_is_the_schema_of_the_shipped_kinds() -> None:
    published = json.loads((ROOT / "docs" / "pipeline.schema.json").read_text(encoding="utf-8"))
    current = json.loads(json.dumps(pipeline_schema(installed_kinds())))
    assert published == current, "run: millrace schema > docs/pipeline.schema.json"


@pytest.mark.parametrize(
    "text",
    [
        "{name: p, stages: {clean: {with: {target: y, near_dedup: true, expect: [{column: a, min: 0, max: {max: 9}}]}}}}",
        "{name: p, stages: {clean: {with: {near_dedup: {threshold: 0.9}, steps: [{step: language, keep: en}]}}}}",
        "{name: p, stages: {audit: {with: {checks: target, fail_on: error}}}}",
        "{name: p, stages: {evaluate: {with: {gate: accuracy >= 0.9}}}}",
    ],
)
def test_short_forms_that_the_shipped_kinds_take_are_accepted(text: str) -> None:
    spec = parse_yaml(text)
    jsonschema.Draft202012Validator(pipeline_schema(installed_kinds())).validate(spec)
    for name, stage in spec["stages"].items():
        installed_kinds()[name].config.model_validate(stage["with"])


def test_short_forms_of_wrong_values_are_refused() -> None:
    checks = jsonschema.Draft202012Validator(pipeline_schema(installed_kinds()))
    for text in ("{clean: {with: {near_dedup: 0.8}}}", "{clean: {with: {expect: [{rows: 5}]}}}"):
        assert not checks.is_valid({"name": "p", "stages": parse_yaml(text)})
