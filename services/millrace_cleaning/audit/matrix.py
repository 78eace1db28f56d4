"""Columns as numbers that scikit-learn's models take. N is rows, d is numbers a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from millrace.contracts.schema import Column, ColumnType
from millrace_cleaning.audit.rows import Sample
from millrace_cleaning.extras import needing

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUMBERS: tuple[ColumnType, ...] = ("number", "integer", "boolean", "timestamp")
ARRAYS: tuple[ColumnType, ...] = ("vector", "image")
JUDGED: tuple[ColumnType, ...] = (*NUMBERS, "category", "text", *ARRAYS)
"""Types of column that models look at."""

_HASHES = 2**18
_MAX_TERMS = 50_000
_THUMBNAIL = 16
_MAX_ONE_HOT = 64
_MAX_CHARACTERS = 20_000
_MAX_WIDTH = 1024
_ROWS_AT_ONCE = 256


def numbers_of(array: pa.Array) -> Floats:
    """A column as (N,) numbers; a missing value is NaN, a timestamp seconds since 1970."""
    if pa.types.is_timestamp(array.type):
        array = pc.divide(array.cast(pa.int64()).cast(pa.float64()), 1e6)
    numbers: Floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def codes_of(array: pa.Array) -> Ints:
    """A category as (N,) codes in the order of its labels' frequency; a missing value is a category of its own."""
    encoded = array.cast(pa.string()).dictionary_encode(null_encoding="encode")
    raw = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(raw, minlength=len(encoded.dictionary))
    labels = ["" if label is None else label for label in encoded.dictionary.to_pylist()]
    order = sorted(range(len(labels)), key=lambda i: (-counts[i], labels[i]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    codes: Ints = rank[raw]
    return codes


def arrays_of(array: pa.Array) -> Floats:
    """Vectors, or images as numbers or files, as (N, d); a missing one is NaN, and so is a file that does not decode.

    Of more than 1,024 numbers neighbours are averaged: what tells large pictures apart at a glance is in them still.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_struct(array.type):
        return np.stack([_thumbnail(content) for content in pc.struct_field(array, "bytes").to_pylist()])
    width = array.type.list_size
    together = -(-width // _MAX_WIDTH)
    out = np.full((len(array), width // together), np.nan)
    for start in range(0, len(array), _ROWS_AT_ONCE):
        part = array.slice(start, _ROWS_AT_ONCE)
        numbers = part.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False).reshape(-1, width)
        numbers = numbers[:, : width // together * together].reshape(len(numbers), -1, together).mean(axis=2)
        out[start : start + len(part)][part.is_valid().to_numpy(zero_copy_only=False)] = numbers
    return out


def _thumbnail(content: bytes | None) -> Floats:
    """An image file's brightness, small: (256,)."""
    with needing("media"):
        from PIL import Image
    try:
        with Image.open(io.BytesIO(content or b"")) as image:
            image.draft("L", (64, 64))
            small = image.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64).ravel()
    except Exception:  # whatever a broken file provokes: it has no features, and cleaning has reported it
        return np.full(_THUMBNAIL**2, np.nan)


def words_of(texts: Sequence[pa.Array]) -> sparse.csr_matrix:
    """Texts as sublinear TF-IDF of their words and word pairs, hashed; each row of length one, terms of one row left out."""
    counts = counted_words(texts)
    frequency = np.bincount(counts.indices, minlength=_HASHES)
    kept = np.flatnonzero(frequency >= 2)
    kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:_MAX_TERMS]])
    if not len(kept):
        return sparse.csr_matrix((counts.shape[0], 1))
    return sparse.csr_matrix(TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, kept]))


def counted_words(texts: Sequence[pa.Array]) -> sparse.csr_matrix:
    """How often each hashed word and word pair stands in each row, (N, 262,144); several texts of a row are one.

    Of a longer text its first 20,000 characters count.
    """
    cut = [pc.utf8_slice_codeunits(text, 0, _MAX_CHARACTERS).to_pylist() for text in texts]
    joined = [" \n ".join(text or "" for text in row) for row in zip(*cut, strict=True)]
    hashed = HashingVectorizer(n_features=_HASHES, ngram_range=(1, 2), norm=None, alternate_sign=False)
    return sparse.csr_matrix(hashed.transform(joined))


def standardised(values: Floats) -> npt.NDArray[np.float32]:
    """(N, d) with mean 0 and deviation 1 a column; missing values are 0. Columns without variance go."""
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    filled = np.where(present, values, 0.0)
    centred = np.where(present, filled - filled.sum(axis=0) / count, 0.0)
    deviation = np.sqrt(np.square(centred).sum(axis=0) / count)
    varies = deviation > 1e-12 * (1 + np.abs(filled).max(axis=0, initial=0.0))
    scaled: npt.NDArray[np.float32] = (centred[:, varies] / deviation[varies]).astype(np.float32)
    return scaled


def one_hot(codes: Ints) -> npt.NDArray[np.float32]:
    """(N, classes) of the most frequent categories; the others are all zero."""
    classes = np.arange(min(int(codes.max(initial=0)) + 1, _MAX_ONE_HOT))
    hot: npt.NDArray[np.float32] = np.equal(codes[:, None], classes).astype(np.float32)
    return hot


def numeric_block(sample: Sample, columns: Sequence[Column]) -> Floats:
    """All numbers of these columns, (N, d)."""
    parts = [numbers_of(sample.column(c.name))[:, None] for c in columns if c.type in NUMBERS]
    parts += [arrays_of(sample.column(c.name)) for c in columns if c.type in ARRAYS]
    return np.hstack(parts) if parts else np.empty((len(sample), 0))


def linear_matrix(sample: Sample, columns: Sequence[Column]) -> Any:
    """What a linear model reads: standardised numbers, where they are missing, one-hot categories, TF-IDF of texts.

    Returns:
        (N, d) float32, sparse where there is text.
    """
    numbers = numeric_block(sample, columns)
    missing = ~np.isfinite(numbers)
    parts = [standardised(numbers), missing[:, missing.any(axis=0) & ~missing.all(axis=0)].astype(np.float32)]
    parts += [one_hot(codes_of(sample.column(c.name))) for c in columns if c.type == "category"]
    dense = np.hstack(parts)
    texts = [sample.column(c.name) for c in columns if c.type == "text"]
    if not texts:
        return dense
    return sparse.hstack([sparse.csr_matrix(dense), words_of(texts)], format="csr", dtype=np.float32)


def tree_matrix(sample: Sample, columns: Sequence[Column]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What boosted trees read, (N, d), and which of it is categories: codes below 255, the rarest ones in one."""
    numbers = numeric_block(sample, columns)
    codes = [np.minimum(codes_of(sample.column(c.name)), 254) for c in columns if c.type == "category"]
    matrix = np.hstack([numbers, *(c[:, None].astype(np.float64) for c in codes)])
    return matrix, np.arange(matrix.shape[1]) >= numbers.shape[1]
