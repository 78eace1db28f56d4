"""Why a stage was or was not computed, what an artifact came from, and whether a replay made the same: as users see it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.commands import Phase


class FieldChange(Contract):
    """A field of a cache key that differs from that of an earlier run."""

    field: str = Field(description="Such as `with.learning_rate`, `inputs.dataset`, `code`.")
    before: str = Field(description="Empty: there was no such field.")
    now: str


class CacheLook(Contract):
    """What a run found about one phase of a stage."""

    phase: Phase
    round: int = 0
    num_hits: int = Field(description="Tasks answered from the cache.")
    num_shared: int = Field(description="Tasks answered by an identical one of another run, or waiting for it.")
    num_misses: int = Field(description="Tasks computed here.")
    from_run: str = Field(default="", description="The run that had computed what was taken, the latest if several.")
    reason: str = Field(
        default="", description="Why answers could not be taken or kept, where that was not decided at submit."
    )
    compared_with: str = Field(default="", description="The earlier run whose key is nearest to this one's.")
    differences: tuple[FieldChange, ...] = ()


class CacheView(Contract):
    """Whether a stage of a run was answered from the cache, and if not, why."""

    run_id: str
    stage: str
    answer: Literal["off", "waiting", "hit", "shared", "miss"]
    reason: str = Field(description="In words.")
    looks: tuple[CacheLook, ...] = ()


class Maker(Contract):
    """The stage that made an artifact first, and what it was made with."""

    run_id: str
    pipeline: str
    stage: str
    kind: str
    port: str
    spec_digest: str = Field(description="Version of the pipeline.")
    code_digest: str = Field(default="", description="Of the code that computed it; empty if no worker said.")
    seed: int = 0


class LineageNode(Contract):
    """An artifact, and those that it came from; forward, those that came from it."""

    digest: str
    port: str = Field(default="", description="The input that it was, of the node above; forward, of the stage below.")
    maker: Maker | None = Field(default=None, description="None: it was given to a run.")
    serves: tuple[str, ...] = Field(default=(), description="Releases that it became, such as `reviews 3 (serving)`.")
    is_repeated: bool = Field(default=False, description="It stands elsewhere in the tree with all below it.")
    children: tuple[LineageNode, ...] = ()


class LineageView(Contract):
    """Answer of GET /v1/lineage: a tree for each artifact that was asked about."""

    asked: str
    direction: Literal["back", "forward"]
    roots: tuple[LineageNode, ...]


class StageComparison(Contract):
    """One stage of a run beside its replay."""

    stage: str
    kind: str
    verdict: Literal["equal", "differs", "measured", "follows", "left_out", "missing"] = Field(
        description="`measured`: timings are in its result and may differ; `follows`: its inputs differ already;"
        " `left_out`: it has an effect outside; `missing`: one of both, or neither, succeeded in it; `differs`: a fault."
    )
    ports: tuple[str, ...] = Field(default=(), description="Those whose digests differ.")


class ComparisonView(Contract):
    """A run beside another of the same graph, stage by stage."""

    run_id: str
    replay: str
    is_equal: bool = Field(description="Whether nothing differs that should not, and both ended the same way.")
    stages: tuple[StageComparison, ...]
