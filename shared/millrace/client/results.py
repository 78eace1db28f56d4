"""What a run came to, typed; shared by the sync and the async client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace import errors
from millrace.client import calls
from millrace.client.calls import Call
from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.events import StageOutputs, Verdict
from millrace.contracts.views import RunView, StageView

RESULT_FILE, REPORT_FILE = "result.json", "report.json"
"""What a function's JSON and its Report are stored as."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outputs of a run that succeeded, by stage; the most wanted by name."""

    view: RunView

    @property
    def stages(self) -> Mapping[str, StageOutputs]:
        """What each stage made, in order; skipped stages are left out."""
        return {stage.name: stage.outputs for stage in self.view.stages if stage.outputs is not None}

    @property
    def dataset(self) -> ArtifactRef:
        """The cleaned data set. Raises NotFound if no stage made one."""
        return self._last("dataset")

    @property
    def model(self) -> ArtifactRef:
        """The model at the end: the optimized one where there is one. Raises NotFound if no stage made one."""
        return self._last("model")

    @property
    def predictions(self) -> ArtifactRef:
        """The predictions of a batch. Raises NotFound if no stage made any."""
        return self._last("predictions")

    @property
    def report(self) -> StageOutputs:
        """The last evaluation: `metrics`, `verdict`, `summary`. Raises NotFound if no stage evaluated."""
        return self._last_with("report")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers of the last evaluation, by name. Raises NotFound if no stage evaluated."""
        return self.report.metrics

    @property
    def verdict(self) -> Verdict | None:
        """Whether the last evaluation passed its gate; None without one. Raises NotFound if no stage evaluated."""
        return self.report.verdict

    def returned(self, stage: str = "") -> ArtifactRef | tuple[ArtifactRef, ...] | None:
        """What a function stage returned, as it is stored: several where it was mapped over items, None for nothing.

        Raises:
            NotFound: The run made nothing under that name.
            InvalidInput: The stage has several outputs.
        """
        name = stage or next(reversed(list(self.stages)), "")
        if name not in self.stages:
            raise errors.NotFound(f"Stage {name!r} made nothing; {errors.nearest(name, self.stages)}", field="stage")
        outputs = self.stages[name]
        ports: dict[str, ArtifactRef | tuple[ArtifactRef, ...]] = {**outputs.artifacts, **outputs.lists}
        if len(ports) > 1:
            raise errors.InvalidInput(
                f"Stage {name!r} has several outputs: {', '.join(ports)}.",
                remedy=f"Take one from result.stages[{name!r}].artifacts.",
            )
        return next(iter(ports.values()), None)

    def endpoint_name(self) -> str:
        """The endpoint that the run deployed to. Raises NotFound if it deployed nothing."""
        name = self._last_with("release").summary.get("endpoint")
        if not isinstance(name, str):
            raise self._without("release")
        return name

    def _last(self, type: ArtifactType) -> ArtifactRef:
        return next(ref for ref in self._last_with(type).artifacts.values() if ref.type == type)

    def _last_with(self, type: ArtifactType) -> StageOutputs:
        for outputs in reversed(list(self.stages.values())):
            if any(ref.type == type for ref in outputs.artifacts.values()):
                return outputs
        raise self._without(type)

    def _without(self, type: ArtifactType) -> errors.NotFound:
        names = ", ".join(self.stages) or "none"
        return errors.NotFound(f"Run {self.view.run_id} made no {type}. Its stages: {names}.")


def reading(ref: ArtifactRef) -> Call[Any] | None:
    """How to read what a function returned, where that is JSON; None where the artifact itself is the value."""
    file = {"any": RESULT_FILE, "report": REPORT_FILE}.get(ref.type)
    return calls.read_json(ref.digest, file) if file else None


def check_succeeded(view: RunView) -> RunView:
    """Return a run that succeeded.

    Raises:
        RunFailed: It failed, was rejected by its gate, or was cancelled; with the stage, the cause and the remedy.
    """
    if view.status == "succeeded":
        return view
    field = f", {view.error.field}" if view.error and view.error.field else ""
    where = f" at stage {view.stage!r}{field}" if view.stage else ""
    reason = view.error.message if view.error else _reason(view.stages, view.stage)
    raise errors.RunFailed(
        f"Run {view.run_id} of {view.pipeline!r} was {view.status}{where}: {reason}"
        if view.status != "failed"
        else f"Run {view.run_id} of {view.pipeline!r} failed{where}: {reason}",
        run_id=view.run_id,
        status=view.status,
        stage=view.stage,
        cause=view.error.code if view.error else "",
        remedy=view.error.remedy if view.error else "",
    )


def _reason(stages: Sequence[StageView], name: str) -> str:
    """Where the run itself has no error: the stage's, or the rules of its gate that failed."""
    stage = next((stage for stage in stages if stage.name == name), None)
    if stage is not None and stage.error is not None:
        return stage.error.message
    gate = stage.outputs.summary.get("gate", ()) if stage is not None and stage.outputs else ()
    failed = [str(rule.get("rule")) for rule in gate if isinstance(rule, dict) and rule.get("verdict") != "passed"]
    return f"its gate did not pass ({'; '.join(failed)})." if failed else "no reason was given."
