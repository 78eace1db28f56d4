"""From a data set's Parquet shards to tensors, through files in the attempt's own directory: memory stays bounded.

A split is featurized once, batch by batch, into memory-mapped arrays; the page cache decides what stays in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from millrace import errors
from millrace.contracts.schema import ROW_ID, Column, DatasetMeta, SplitName
from millrace.models.featurizers import apply, target_codes, target_values
from millrace.models.ops.base import Array, Op, strings
from millrace.models.ops.tokens import END_OF_TEXT_ID, CharTokens
from millrace.runtime.stage import Artifact

ROWS_PER_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set artifact, opened shard by shard."""

    artifact: Artifact
    meta: DatasetMeta

    def batches(self, split: SplitName, *, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """Record batches of a split, in file order.

        Raises:
            InvalidData: A shard is not readable Parquet.
        """
        for shard in self.meta.of(split):
            try:
                with pq.ParquetFile(self.artifact.file(shard.path)) as file:
                    yield from file.iter_batches(batch_size=ROWS_PER_BATCH, columns=list(columns) or None)
            except pa.ArrowException as error:
                raise errors.InvalidData(
                    f"Shard {shard.path} cannot be read: {str(error).splitlines()[0]}", remedy="Clean the data again."
                ) from error

    def num_rows(self, split: SplitName) -> int:
        return self.meta.num_rows.get(split, 0)


def open_dataset(artifact: Artifact) -> Dataset:
    """Read the data set's description and refuse one that cannot be trained on.

    Raises:
        InvalidData: The artifact is no data set, or its train or validation split is empty.
    """
    try:
        meta = DatasetMeta.model_validate(artifact.meta)
    except ValueError as error:
        raise errors.InvalidData(
            f"Artifact {artifact.ref.digest[:12]} is not a data set.", remedy="Give the output of a clean stage."
        ) from error
    for split in ("train", "validation"):
        if not meta.num_rows.get(split):
            raise errors.InvalidData(
                f"The {split} split has no rows; training needs train to learn from and validation to choose by.",
                remedy="Give more data, or a larger share in the clean stage's split.", field=f"splits.{split}",
            )  # fmt: skip
    return Dataset(artifact=artifact, meta=meta)


def finite(batches: Iterable[pa.RecordBatch], columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    """Pass batches on, and refuse an infinite number, which would spoil every mean. NaN and null are missing values.

    Raises:
        InvalidData: Names the column and the row.
    """
    for batch in batches:
        for column in columns:
            array = batch.column(batch.schema.get_field_index(column.name))
            if pa.types.is_floating(array.type) and pc.any(pc.is_inf(array)).as_py():
                row = pc.index(pc.fill_null(pc.is_inf(array), False), True).as_py()
                raise errors.InvalidData(
                    f"Row {_row_id(batch, row)} has {array[row].as_py()}, which is not a finite number.",
                    field=column.name, remedy="Let the clean stage repair or remove such rows.",
                )  # fmt: skip
        yield batch


class StoredTensor:
    """One tensor of a split on disk: rows of one shape, or rows of ids of different lengths."""

    def __init__(self, path: Path, dtype: np.dtype[Any], *, shape: tuple[int, ...], offsets: Array | None) -> None:
        size = int(offsets[-1]) if offsets is not None else int(np.prod(shape))
        self.values: Array = np.memmap(path, dtype=dtype, mode="r", shape=shape) if size else np.zeros(shape, dtype)
        self.offsets = offsets

    @property
    def width(self) -> int:
        """Length of each row of numbers."""
        return int(self.values.shape[1])

    def row(self, index: int) -> Array:
        """One row, without padding."""
        if self.offsets is None:
            return np.asarray(self.values[index])
        return np.asarray(self.values[self.offsets[index] : self.offsets[index + 1]])

    def rows(self, index: Array) -> Tensor:
        """A batch of rows; ids are padded with zeros to the longest, and to one at least."""
        if self.offsets is None:
            return torch.from_numpy(np.ascontiguousarray(self.values[index]))
        starts, lengths = self.offsets[index], self.offsets[index + 1] - self.offsets[index]
        out = np.zeros((len(index), max(int(lengths.max(initial=0)), 1)), dtype=np.int64)
        for row, start, length in zip(out, starts, lengths, strict=True):
            row[:length] = self.values[start : start + length]
        return torch.from_numpy(out)


@dataclass(frozen=True, slots=True)
class Rows:
    """A split in tensors: the program's inputs by name, and the target (codes, or standardized values)."""

    columns: dict[str, StoredTensor]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Array, names: Sequence[str]) -> tuple[tuple[Tensor, ...], Tensor]:
        return tuple(self.columns[name].rows(index) for name in names), self.targets[torch.from_numpy(index)]


def featurize(
    dataset: Dataset, split: SplitName, ops: Sequence[Op], directory: Path, *, target: str, labels: Sequence[str] | None
) -> Rows:
    """Apply the featurizers to a split.

    Args:
        labels: Ordered classes; None for a numeric target.

    Raises:
        InvalidData: A target is missing, unknown or not a number, or a feature is not finite; names the row.
    """
    writers: dict[str, _Writer] = {}
    targets = []
    for batch in dataset.batches(split):
        targets.append(_targets(batch, target, labels))
        for name, values in apply(ops, batch).items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
                raise errors.InvalidData(
                    f"Row {_row_id(batch, row)} of the {split} split has a feature that is not a finite number.",
                    remedy="Let the clean stage repair or remove such rows.",
                )
            if name not in writers:
                writers[name] = _Writer(directory / f"{split}-{name}.bin")
            writers[name].write(values)
    columns = {name: writer.column() for name, writer in writers.items()}
    return Rows(columns=columns, targets=torch.from_numpy(np.concatenate(targets)))


def tokenize(dataset: Dataset, split: SplitName, tokenizer: CharTokens, path: Path) -> tuple[Array, int]:
    """The split's texts as one stream of tokens, each text after an end-of-text; and its number of characters."""
    dtype = np.dtype("<u2" if tokenizer.vocabulary_size <= 2**16 else "<u4")
    num_tokens = num_characters = 0
    with path.open("wb") as file:
        for batch in dataset.batches(split, columns=tokenizer.spec.columns):
            for text in strings(batch, tokenizer.spec.columns[0]).drop_null().to_pylist():
                tokens = np.concatenate([[END_OF_TEXT_ID], tokenizer.encode(text)]).astype(dtype)
                file.write(tokens.tobytes())
                num_tokens, num_characters = num_tokens + len(tokens), num_characters + len(text)
    if not num_characters:
        raise errors.InvalidData(f"The {split} split has no text.", remedy="Give rows with text.")
    return np.memmap(path, dtype=dtype, mode="r", shape=(num_tokens,)), num_characters


class _Writer:
    """Appends one tensor's batches to a file. Integers are ids whose trailing zeros are padding, kept out of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("wb")
        self.shape: tuple[int, ...] = ()
        self.num_rows = 0
        self.lengths: list[Array] | None = None

    def write(self, values: Array) -> None:
        self.num_rows += len(values)
        if values.dtype.kind == "f":
            self.shape = values.shape[1:]
            self.file.write(np.ascontiguousarray(values, dtype=np.float32).tobytes())
            return
        self.lengths = self.lengths or []
        present = values != 0
        lengths = np.where(present.any(axis=1), values.shape[1] - present[:, ::-1].argmax(axis=1), 0)
        self.lengths.append(lengths)
        kept = np.arange(values.shape[1]) < lengths[:, None]
        self.file.write(values[kept].astype(np.int32).tobytes())

    def column(self) -> StoredTensor:
        self.file.close()
        if self.lengths is None:
            return StoredTensor(self.path, np.dtype(np.float32), shape=(self.num_rows, *self.shape), offsets=None)
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))]).astype(np.int64)
        return StoredTensor(self.path, np.dtype(np.int32), shape=(int(offsets[-1]),), offsets=offsets)


def _targets(batch: pa.RecordBatch, name: str, labels: Sequence[str] | None) -> Array:
    values = target_values(batch, name) if labels is None else target_codes(batch, name, labels)
    wrong = ~np.isfinite(values) if labels is None else values < 0
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        found = batch.column(batch.schema.get_field_index(name))[row].as_py()
        expected = "a finite number" if labels is None else "one of the target's labels"
        raise errors.InvalidData(
            f"Row {_row_id(batch, row)} has the target {found!r}, expected {expected}.", field=name,
            remedy="Let the clean stage remove rows without a target.",
        )  # fmt: skip
    return values


def _row_id(batch: pa.RecordBatch, row: int) -> str:
    place = batch.schema.get_field_index(ROW_ID)
    return str(batch.column(place)[row].as_py()) if place >= 0 else str(row)
