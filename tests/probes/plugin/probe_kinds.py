"""A stage kind for tests of the runtime, installed as any plug-in is: by an entry point."""

from __future__ import annotations

from pydantic import Field

from millrace.contracts.stages import Port, StageConfig, StageKind


class ProbeConfig(StageConfig):
    do: str = "nothing"
    path: str = ""
    code: str = ""
    seconds: float = 0
    tasks: int = Field(default=1, ge=0)
    rounds: int = 1
    size: int = 0


PROBE = StageKind(
    name="probe",
    caption="Does what a test asks of it.",
    service="probe",
    module="probe_stage",
    config=ProbeConfig,
    inputs={},
    outputs={"result": Port(type="any")},
)
