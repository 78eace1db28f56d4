"""From what a user submits to the request's body: parameters resolved, local data uploaded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from millrace import errors
from millrace.client import uploads
from millrace.client.calls import Call
from millrace.client.pipelines import DATA, REMOTE_SCHEMES, Pipeline
from millrace.client.stages import Function, FunctionLike, Stage
from millrace.contracts.artifacts import ArtifactRef, ArtifactType
from millrace.contracts.base import digest_of
from millrace.contracts.events import CacheUse
from millrace.contracts.ids import new_run_id
from millrace.contracts.loading import validate
from millrace.contracts.params import check_names
from millrace.contracts.pipelines import PipelineSpec
from millrace.contracts.views import SubmitRun

Submittable = Pipeline | Stage | FunctionLike
Data = str | PathLike[str] | ArtifactRef
Send = Callable[[Call[ArtifactRef]], ArtifactRef]


@dataclass(frozen=True, slots=True)
class Submission:
    """What the caller gave to `submit`."""

    what: Submittable
    data: Data | None = None
    params: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    priority: int = 0
    idempotency_key: str = ""
    seed: int = 0
    cache: CacheUse = "use"


class Preparer:
    """Makes requests of submissions. `send` uploads, and blocks; one thread at a time."""

    def __init__(self) -> None:
        self._uploaded: dict[uploads.LocalData | str, ArtifactRef] = {}
        """What was uploaded in this session, also code by its digest: what did not change is not sent again."""

    def prepare(self, submission: Submission, send: Send) -> SubmitRun:
        """Upload what is local, and return the body of POST /v1/runs with a new run id.

        Raises:
            InvalidSpec, InvalidData, NotFound: Before anything is submitted.
        """
        pipeline, params = _pipeline(submission)

        def upload_files(type: ArtifactType, files: Mapping[str, bytes], meta: Mapping[str, Any], /) -> ArtifactRef:
            digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
            key = digest_of([type, digests, dict(meta)])
            if key not in self._uploaded:
                self._uploaded[key] = send(uploads.files_call(type, files, meta))
            return self._uploaded[key]

        spec, own = pipeline.spec(upload=upload_files, wants_data=submission.data is not None)
        given = {**own, **params}
        if submission.data is not None:
            given[_data_param(spec, given)] = submission.data
        check_names(spec, given)
        body = {
            "run_id": new_run_id(),
            "pipeline": spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "params": self._values(spec, given, pipeline.base, send),
            "labels": dict(submission.labels or {}),
            "priority": submission.priority,
            "idempotency_key": submission.idempotency_key,
            "seed": submission.seed,
            "cache": submission.cache,
        }
        return validate(SubmitRun, body)

    def _values(self, spec: PipelineSpec, given: Mapping[str, Any], base: Path, send: Send) -> dict[str, Any]:
        """The parameters as JSON: data sets as references. Defaults start at the file, arguments at the caller."""
        values = dict(given)
        for name, param in spec.params.items():
            if param.type != "dataset":
                continue
            if name in given:
                values[name] = self._dataset(given[name], Path(), f"params.{name}", send)
            elif param.default is not None:
                values[name] = self._dataset(param.default, base, f"params.{name}", send)
        return values

    def _dataset(self, value: Any, base: Path, field: str, send: Send) -> Any:
        if isinstance(value, ArtifactRef):
            return value.model_dump(mode="json")
        if isinstance(value, str) and value.startswith(REMOTE_SCHEMES):
            return value
        if not isinstance(value, str | PathLike):
            return value  # a reference as JSON, or a mistake that the gateway names
        local = uploads.local_data(base / Path(fspath(value)).expanduser(), field=field)
        if local not in self._uploaded:
            self._uploaded[local] = send(local.call())
        return self._uploaded[local].model_dump(mode="json")


def _pipeline(submission: Submission) -> tuple[Pipeline, Mapping[str, Any]]:
    """The pipeline to run and its parameters. A bare function's parameters are its own."""
    what, params = submission.what, submission.params or {}
    if isinstance(what, Pipeline):
        return what, params
    if isinstance(what, Stage):
        return Pipeline.of_stage(what), params
    return Pipeline.of_stage(Function(what, params=params)), {}


def _data_param(spec: PipelineSpec, given: Mapping[str, Any]) -> str:
    """The parameter that `data=` fills: `data`, or the only data set that nothing else fills."""
    names = [name for name, param in spec.params.items() if param.type == "dataset"]
    if DATA in names:
        return DATA
    open_names = [name for name in names if name not in given]
    if len(open_names) == 1:
        return open_names[0]
    if not names:
        raise errors.InvalidSpec(
            f"Pipeline {spec.name!r} takes no data: it has no parameter of type dataset.",
            field="data",
            remedy="Add `params: {data: dataset}`, and use it as `$params.data`.",
        )
    raise errors.InvalidSpec(
        f"Pipeline {spec.name!r} has several data sets: {', '.join(names)}.",
        field="data",
        remedy="Name each in `params=`.",
    )
