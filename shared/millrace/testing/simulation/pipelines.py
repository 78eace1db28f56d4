"""Random graphs for the simulation, each with the ends that are right for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from millrace.contracts.artifacts import ArtifactType
from millrace.contracts.commands import ResourceClass
from millrace.contracts.pipelines import Binding, Graph, GraphStage, Limit, Resources, Retry
from millrace.contracts.stages import StageConfig

Behaviour = Literal["works", "flaky", "broken", "hopeless", "late", "gate"]
"""How a stage's code behaves: as it should; fails at first; fails for good; fails whenever tried, though a retry might
help; never ends in time; ends with a verdict that its gate failed."""

SERVICES = ("functions", "training")
CLASSES: Sequence[ResourceClass] = ("cpu", "gpu")
TENANTS = ("default", "acme")
ENDPOINTS = ("first", "second")
PIPELINES = ("wide", "wide", "narrow")
MAX_RUNS = 3
"""Of `narrow`, at once."""

LEASE_S = 6.0
KIND = "noop"
"""An installed kind: the conductor asks whether answers of a kind may be kept."""

CODE = {KIND: "c" * 64}
"""What all simulated workers announce."""

PATIENT = Retry(max_attempts=3, backoff_s=0.2, max_losses=100, max_outages=1000)
"""A simulated world kills more workers than a real one in a year: a task is not poison for that."""

_END_OF: dict[Behaviour, str] = {"broken": "failed", "hopeless": "failed", "late": "failed", "gate": "rejected"}


class SimulatedConfig(StageConfig):
    """What a simulated stage does.

    Attributes:
        seconds: How long one of its tasks takes.
        num_checkpoints: How often it saves one meanwhile.
    """

    num_tasks: int = 1
    num_rounds: int = 1
    seconds: float = 0.0
    num_checkpoints: int = 0
    behaviour: Behaviour = "works"


@dataclass(frozen=True, slots=True)
class Planned:
    """A run to submit, and which of its ends are right.

    Attributes:
        may_release: Whether it ends by a release, which a newer one may replace before a server reports it.
    """

    tenant: str
    priority: int
    graph: Graph
    ends: frozenset[str]
    may_release: bool


def random_run(random: Random) -> Planned:
    """A run of one to five stages."""
    tenant = random.choice(TENANTS)
    if random.random() < 0.25:
        return _popular(random, tenant)
    stages = [_stage(random, n) for n in range(random.choice((1, 1, 2, 2, 3, 4, 5)))]
    behaviours = [SimulatedConfig.model_validate(s.config).behaviour for s in stages]
    ends = {_END_OF[b] for b in behaviours if b in _END_OF}
    may_release = not ends and random.random() < 0.3
    if may_release:
        stages.append(_deploy(random, stages[-1].name))
    pipeline = random.choice(PIPELINES)
    graph = Graph(
        pipeline=pipeline, tenant=tenant, spec_digest="0" * 64, stages=tuple(stages), seed=random.randrange(1 << 30),
        max_runs=MAX_RUNS if pipeline == "narrow" else None,
    )  # fmt: skip
    return Planned(
        tenant, random.choice((0, 0, 0, 5, -5)), graph,
        frozenset(ends or {"succeeded"} | ({"failed"} if may_release else set())), may_release,
    )  # fmt: skip


def _popular(random: Random, tenant: str) -> Planned:
    """One of three runs that many ask for: what one of them computes, the others need not."""
    num_tasks, behaviour = random.choice(((1, "works"), (3, "flaky"), (1, "hopeless")))
    config = SimulatedConfig(num_tasks=num_tasks, seconds=2.0, behaviour=behaviour)
    stage = GraphStage(
        name="s0", kind=KIND, service="functions", config=config.model_dump(mode="json"), inputs={},
        outputs={"model": "model"}, needs=(), retry=PATIENT,
    )  # fmt: skip
    end = _END_OF.get(config.behaviour, "succeeded")
    graph = Graph(pipeline="popular", tenant=tenant, spec_digest="0" * 64, stages=(stage,))
    return Planned(tenant, 0, graph, frozenset({end}), may_release=False)


def _stage(random: Random, number: int) -> GraphStage:
    behaviour: Behaviour = random.choices(
        ("works", "flaky", "broken", "hopeless", "late", "gate"), (80, 10, 2, 2, 2, 4)
    )[0]
    is_wide = random.random() < 0.2
    config = SimulatedConfig(
        num_tasks=random.randint(2, 6) if is_wide else 1,
        num_rounds=2 if is_wide and random.random() < 0.3 else 1,
        seconds=random.choice((0.02, 0.02, 0.05, random.uniform(0.1, 3.0), random.uniform(0.5, 1.3) * LEASE_S)),
        num_checkpoints=random.choice((0, 0, 2)),
        behaviour=behaviour,
    )
    needs = tuple(f"s{n}" for n in range(number) if random.random() < 0.6) or ((f"s{number - 1}",) if number else ())
    return GraphStage(
        name=f"s{number}", kind=KIND, service=random.choice(SERVICES), config=config.model_dump(mode="json"),
        inputs={}, outputs={"model": "model"}, needs=needs, retry=PATIENT,
        resources=Resources(gpu=1) if random.random() < 0.15 else Resources(),
        timeout_s=2.0 if behaviour == "late" else None,
        limit=Limit(key="desk", max=1) if random.random() < 0.1 else None, cache=False,
    )  # fmt: skip


def _deploy(random: Random, source: str) -> GraphStage:
    outputs: dict[str, ArtifactType] = {}
    config: dict[str, Any] = SimulatedConfig(seconds=0.05).model_dump(mode="json")
    return GraphStage(
        name="deploy", kind=KIND, service="functions", config=config,
        inputs={"model": Binding(stage=source, port="model")}, outputs=outputs, needs=(source,), retry=PATIENT,
        effect="release", endpoint=random.choice(ENDPOINTS), cache=False,
    )  # fmt: skip
