"""Programs: choosing one of a package's and loading it into its runtime, which is imported only then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from millrace import errors
from millrace.models.ops.base import Array
from millrace.models.signature import ModelCard, Program


class Executable(Protocol):
    """A loaded program: tensors by name to tensors by name."""

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]: ...


def choose_program(card: ModelCard, path: str = "") -> Program:
    """The card's program at that path; its first if the path is empty."""
    if not card.programs or card.requires == "torch":
        raise errors.InvalidInput(
            "The model has no portable program; it needs torch.",
            field="requires", remedy="Export it to ONNX: training does so for every architecture that it ships.",
        )  # fmt: skip
    programs = {p.path: p for p in card.programs}
    if path and path not in programs:
        raise errors.NotFound(f"The model has no program {path!r}; {errors.nearest(path, programs)}", field="program")
    return programs[path] if path else card.programs[0]


def open_program(directory: Path, program: Program, *, num_threads: int = 1) -> Executable:
    """Load a program into its runtime, which is imported here and not before."""
    try:
        if program.format == "onnx":
            from millrace.models.onnx_program import OnnxProgram

            return OnnxProgram(directory / program.path, num_threads=num_threads)
        from millrace.models.openvino_program import OpenVinoProgram

        return OpenVinoProgram(directory / program.path, num_threads=num_threads)
    except ModuleNotFoundError as error:
        raise errors.InvalidInput(
            f"Program {program.path!r} needs {error.name}, which is not installed.",
            remedy="Install the extra of this service, such as `millrace[deployment]`.",
        ) from error
