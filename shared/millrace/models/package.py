"""A model package: the directory that holds a model, and nothing that could run by itself.

    model.json  weights.safetensors  programs/fp32.onnx  featurizer/*.safetensors|json  golden.parquet

Only files that model.json names are part of it, each of a kind that its role allows; links, pickles and strangers are
refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from millrace import errors
from millrace.contracts.schema import TASK_KINDS
from millrace.models.ops.base import Array
from millrace.models.reasons import reason_of
from millrace.models.signature import ModelCard, Program

CARD = "model.json"
MAX_CARD_BYTES = 16 * 2**20
NUM_GOLDEN_ROWS = 16

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_PROGRAM_SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml",)}
_SIDE_SUFFIXES = {"onnx": (".data",), "openvino": (".bin",)}


def write_package(directory: Path, card: ModelCard, *, weights: Mapping[str, Array] | None = None) -> None:
    """Write weights and model.json beside the programs and assets that already stand in the directory.

    Args:
        directory: The package; `programs/` and `featurizer/` are filled before (see `program_at`, `save_ops`).
        card: What model.json says; `card.weights` is empty in a package made for serving alone.
        weights: Tensors by parameter name; None with an empty `card.weights`.
    """
    assert bool(card.weights) == (weights is not None)
    directory.mkdir(parents=True, exist_ok=True)
    if weights is not None:
        save_file(dict(weights), directory / card.weights)
    (directory / CARD).write_text(card.model_dump_json(indent=1), encoding="utf-8")


def program_at(directory: Path, path: str, **facts: Any) -> Program:
    """Describe a program file of the package: `program_at(d, "programs/fp32.onnx", format="onnx", opset=20)`."""
    files = (path, *facts.get("files", ()))
    return Program(path=path, size_bytes=sum((directory / f).stat().st_size for f in files), **facts)


def read_card(directory: Path) -> ModelCard:
    """What a package says of itself; every file that it names is inside the directory and of a kind that its role allows.

    Raises:
        InvalidData: No package is there, its card is of another format, or names a file that it may not.
    """
    path = directory / CARD
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise ValueError(f"it is larger than {MAX_CARD_BYTES} bytes")
        card = ModelCard.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise errors.InvalidData(
            f"{directory.name or directory} is not a model package: {CARD} cannot be read ({reason_of(error)}).",
            remedy="Give the directory of a model that millrace made.",
        ) from error
    for name, suffixes in _named(card).items():
        if not name.endswith(suffixes) or ".." in name or not _PLAIN_PATH.fullmatch(name):
            raise errors.InvalidData(
                f"{name!r} in {CARD} is not the name of a {' or '.join(suffixes)} file.", field=name
            )
    return card


def package_files(directory: Path) -> dict[str, Path]:
    """Every file of the package by its manifest path: what a model's manifest is made of.

    Raises:
        InvalidData: A file is missing, is a link, is of the wrong kind, or is not named by the card.
    """
    names = _named(read_card(directory))
    for name in names:
        if not (directory / name).is_file():
            raise errors.InvalidData(f"The model package lacks {name!r}, which {CARD} names.", field=name)
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            raise errors.InvalidData(f"{name!r} in the model package is a link.", remedy="Use plain files.", field=name)
        if not path.is_dir() and name not in names:
            raise errors.InvalidData(
                f"{name!r} in the model package is not named by {CARD}.", remedy="Remove the file.", field=name
            )
    return {name: directory / name for name in sorted(names)}


def model_meta(card: ModelCard) -> dict[str, Any]:
    """`meta` of a model's manifest."""
    kind = TASK_KINDS.get(card.task)
    return {
        "task": card.task,
        "architecture": card.architecture,
        "num_parameters": card.num_parameters,
        "primary_metric": kind.primary_metric if kind else "",
    }


def write_golden(directory: Path, batch: pa.RecordBatch, outputs: pa.RecordBatch) -> None:
    """Keep raw rows with the fp32 program's answers: what every other form of the model is compared with.

    Args:
        directory: The package, with its card.
        batch: The signature's columns, at least 16 rows where the data has as many.
        outputs: What `Predictor.predict(batch)` answered.
    """
    columns = [pa.StructArray.from_arrays(b.columns, fields=list(b.schema)) for b in (batch, outputs)]
    pq.write_table(pa.table(columns, names=["input", "output"]), directory / read_card(directory).golden)


def read_golden(directory: Path) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The golden rows and their answers.

    Raises:
        InvalidData: The file is missing or is not one that `write_golden` made.
    """
    try:
        table = pq.read_table(directory / read_card(directory).golden).combine_chunks()
        halves = [table.column(name).chunk(0) for name in ("input", "output")]
    except (OSError, KeyError, IndexError, pa.ArrowException) as error:
        raise errors.InvalidData(f"The golden rows cannot be read: {reason_of(error)}.", field="golden") from error
    source, answer = (pa.RecordBatch.from_arrays(h.flatten(), names=[f.name for f in h.type]) for h in halves)
    return source, answer


def _named(card: ModelCard) -> dict[str, tuple[str, ...]]:
    """The files that a card names, each with the suffixes that its role allows."""
    named: dict[str, tuple[str, ...]] = {CARD: (".json",), card.golden: (".parquet",)}
    if card.weights:
        named[card.weights] = (".safetensors",)
    named.update({op.asset: (".safetensors", ".json") for op in card.signature.featurizer if op.asset})
    for program in card.programs:
        named[program.path] = _PROGRAM_SUFFIXES[program.format]
        named.update(dict.fromkeys(program.files, _SIDE_SUFFIXES[program.format]))
    return named
