"""Bytes that an attempt could not read: the error learns which artifact they belong to, so that it can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.runtime.stage import Artifact, Inputs


@contextmanager
def blamed_on(ref: ArtifactRef | None) -> Iterator[None]:
    """Blame what is missing or corrupt while this is read on one artifact."""
    try:
        yield
    except (errors.NotFound, errors.Corrupt) as error:
        if ref is not None and "digest" in error.context:
            error.context.setdefault("artifact", ref.digest)
        raise


@contextmanager
def blamed_on_inputs(inputs: Inputs) -> Iterator[None]:
    """Blame what is missing or corrupt in here on the input that names the blob; a stage may read one in its own way."""
    try:
        yield
    except (errors.NotFound, errors.Corrupt) as error:
        digest = error.context.get("digest")
        for artifact in _artifacts(inputs.values()):
            if digest == artifact.ref.digest or any(entry.digest == digest for entry in artifact.manifest.files):
                error.context.setdefault("artifact", artifact.ref.digest)
        raise


def _artifacts(bound: Iterable[object]) -> Iterator[Artifact]:
    for one in bound:
        if isinstance(one, Artifact):
            yield one
        elif isinstance(one, tuple):
            yield from _artifacts(one)
