"""Batch prediction: which model, and how the predictions' shards become what the caller asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def shards_of(manifest: Manifest) -> tuple[FileEntry, ...]:
    """The Parquet files of predictions, in row order."""
    return tuple(entry for entry in manifest.files if entry.path.endswith(PARQUET))


def places(shards: Sequence[FileEntry], out: Path, scratch: Path) -> list[tuple[FileEntry, Path]]:
    """Where each shard is to be written before `finish`: straight to its end where that is possible."""
    if out.suffix != PARQUET:
        return [(entry, target_of(out, entry.path)) for entry in shards]
    if len(shards) == 1:
        return [(shards[0], out)]
    return [(entry, scratch / f"{number:05d}{PARQUET}") for number, entry in enumerate(shards)]


def finish(written: Sequence[Path], out: Path) -> Path:
    """Make one file of several shards where one was asked for; memory holds one row group.

    Raises:
        InvalidInput: That needs pyarrow, which is not installed.
    """
    if out.suffix != PARQUET or list(written) == [out]:
        return out
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise errors.InvalidInput(
            f"Joining {len(written)} shards into {out} needs pyarrow.",
            field="out",
            remedy="Install millrace[cleaning], or give a directory for one file a shard.",
        ) from None
    scratch = out.with_name(f".{out.name}.part")
    try:
        with pq.ParquetWriter(scratch, pq.read_schema(written[0])) as writer:
            for path in written:
                for batch in pq.ParquetFile(path).iter_batches():
                    writer.write_batch(batch)
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    return out
