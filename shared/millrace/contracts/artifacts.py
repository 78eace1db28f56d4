"""Artifacts: immutable bytes named by their digest; manifests; and refs, the only mutable things."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from millrace.contracts.base import Contract
from millrace.contracts.ids import DEFAULT_TENANT, DigestText

ArtifactType = Literal[
    "source",
    "dataset",
    "tokens",
    "quarantine",
    "model",
    "report",
    "variants",
    "release",
    "predictions",
    "plan",
    "logs",
    "code",
    "checkpoint",
    "any",
]


class FileEntry(Contract):
    """One file of a manifest."""

    path: str = Field(
        description="Relative POSIX path, without '..' or a leading slash.", min_length=1, max_length=1024
    )
    digest: DigestText = Field(description="SHA-256 of the bytes.")
    size_bytes: int = Field(ge=0)
    media_type: str = "application/octet-stream"


class Manifest(Contract):
    """The list that makes a set of files one artifact. Its canonical JSON's digest names the artifact."""

    format: Literal["millrace.manifest/v1"] = "millrace.manifest/v1"
    type: ArtifactType
    files: tuple[FileEntry, ...] = Field(description="Sorted by path, each path once.")
    meta: dict[str, Any] = Field(
        default_factory=dict, description="Small facts about the whole, such as rows or task kind."
    )


class ArtifactRef(Contract):
    """How a message names an artifact: never its bytes."""

    digest: DigestText = Field(description="Digest of the manifest.")
    type: ArtifactType
    size_bytes: int = Field(default=0, ge=0, description="Sum over the manifest's files.")
    tenant: str = DEFAULT_TENANT


class Ref(Contract):
    """The body of a mutable name. Generation, fence and nonce make each write differ from every other."""

    target: dict[str, Any] = Field(description="What the name points to, JSON.")
    generation: int = Field(ge=0, description="Grows by one with each accepted write.")
    fence: int = Field(default=0, ge=0, description="The writer's fence; a lower one never replaces a higher one.")
    nonce: str = Field(description="Made per write; who finds its own nonce has won.")
