"""Batch prediction: which model, and where its predictions go."""

from __future__ import annotations

import re
from pathlib import Path

from millrace import errors
from millrace.client.downloads import target_of
from millrace.client.stages import Predict
from millrace.contracts.artifacts import ArtifactRef, FileEntry, Manifest
from millrace.contracts.views import EndpointView

ModelName = str | ArtifactRef
"""An endpoint's name, a model's digest, or the artifact."""

PARQUET = ".parquet"


def model_of_digest(model: ModelName) -> ArtifactRef | None:
    """The model, unless it is an endpoint's name that must be looked up."""
    if isinstance(model, ArtifactRef):
        return model
    return ArtifactRef(digest=model, type="model") if re.fullmatch("[0-9a-f]{64}", model) else None


def model_of_endpoint(view: EndpointView) -> ArtifactRef:
    """An endpoint's current model. Raises NotFound if it is stopped."""
    if view.model is None:
        raise errors.NotFound(f"Endpoint {view.name!r} has no release.", remedy="Deploy one, or give a model's digest.")
    return view.model


def batch_stage(model: ArtifactRef) -> Predict:
    return Predict(model=model)


def predictions_of(manifest: Manifest) -> FileEntry:
    """The one Parquet file of predictions, a row for each input row. Raises InvalidData if there is none."""
    found = next((entry for entry in manifest.files if entry.path.endswith(PARQUET)), None)
    if found is None:
        raise errors.InvalidData("The predictions hold no Parquet file.", remedy="See the run's `predict` stage.")
    return found


def place_of(entry: FileEntry, out: Path) -> Path:
    """Where the predictions go: the path itself, or a file in it where it is a directory."""
    return target_of(out, entry.path) if out.is_dir() else out
