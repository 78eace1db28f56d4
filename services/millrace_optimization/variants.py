"""Building variants: each a program file, or two, made from the source's fp32 ONNX program."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from millrace import errors
from millrace.models.package import program_at
from millrace.models.signature import ModelCard, Program
from millrace_optimization.settings import VariantName
from millrace_optimization.weights import quantize_weights


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a variant is made: from the source's file to the variant's, and what that is."""

    make: Callable[[Path, Path], None]
    format: Literal["onnx", "openvino"]
    precision: Literal["fp32", "fp16", "int8"]


def source_program(card: ModelCard) -> Program:
    """The fp32 ONNX program that all variants are made from.

    Raises:
        InvalidInput: The model has none.
    """
    for program in card.programs:
        if program.format == "onnx" and program.precision == "fp32":
            return program
    raise errors.InvalidInput(
        "The model has no fp32 ONNX program to make variants from.", field="model",
        remedy="Give the model that training made, not one that was optimized before.",
    )  # fmt: skip


def build(name: VariantName, source: Program, *, source_directory: Path, directory: Path) -> Program:
    """Make a variant under `directory/programs/` and describe it. Raises whatever its toolkit raises."""
    recipe = RECIPES[name]
    suffix = ".onnx" if recipe.format == "onnx" else ".xml"
    path = f"programs/{name.partition('_')[2]}{suffix}"
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    recipe.make(source_directory / source.path, directory / path)
    files = (str(Path(path).with_suffix(".bin")),) if recipe.format == "openvino" else ()
    opset = source.opset if recipe.format == "onnx" else 0
    return program_at(directory, path, format=recipe.format, opset=opset, precision=recipe.precision, files=files)


def _int8(source: Path, target: Path) -> None:
    """Dynamic quantization. Unsigned weights: signed ones saturate on CPUs without VNNI, and the answers would differ."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8, per_channel=True)


def _openvino(source: Path, target: Path, *, is_fp16: bool = False) -> None:
    import openvino as ov

    ov.save_model(ov.Core().read_model(source), target, compress_to_fp16=is_fp16)


def _openvino_fp16(source: Path, target: Path) -> None:
    _openvino(source, target, is_fp16=True)


def _openvino_int8_weights(source: Path, target: Path) -> None:
    between = target.with_suffix(".onnx")
    quantize_weights(source, between)
    _openvino(between, target)
    between.unlink()


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


RECIPES: dict[VariantName, Recipe] = {
    "onnx_fp32": Recipe(_copy, "onnx", "fp32"),
    "onnx_int8": Recipe(_int8, "onnx", "int8"),
    "onnx_int8_weights": Recipe(quantize_weights, "onnx", "int8"),
    "openvino_fp32": Recipe(_openvino, "openvino", "fp32"),
    "openvino_fp16": Recipe(_openvino_fp16, "openvino", "fp16"),
    "openvino_int8_weights": Recipe(_openvino_int8_weights, "openvino", "int8"),
}


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises its authors through the root logger; users cannot act on it."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
