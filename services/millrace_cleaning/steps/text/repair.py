"""Mending text. One look at the bytes finds the rows that may need it; only these are turned into Python strings.

Order: mojibake, then line endings, control and invisible characters in one go, then NFC.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import ftfy
import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text.buffers import Texts, array_of, texts_of
from millrace_cleaning.steps.text.judging import Judge
from millrace_cleaning.steps.text.lines import code_at, width_at
from millrace_cleaning.steps.text.memory import byte_at
from millrace_cleaning.steps.text.settings import RepairTextConfig
from millrace_cleaning.steps.text.suspects import C1, COMPOSES, CONTROL, FOLLOWS, INVISIBLE, LEADS, LINE_END, suspects

Bits = npt.NDArray[np.uint32]

_MISREAD = 1 << 31
"""A row's bit, beside those of its characters: two in a row that look like UTF-8 read in another charset."""
_ROW = _MISREAD | CONTROL | INVISIBLE | LINE_END | COMPOSES | C1

_ENCODING_ALONE = ftfy.TextFixerConfig(
    unescape_html=False, remove_terminal_escapes=False, fix_latin_ligatures=False, fix_character_width=False,
    uncurl_quotes=False, fix_line_breaks=False, remove_control_chars=False, normalization=None, explain=False,
)  # fmt: skip


def apply(batch: pa.RecordBatch, config: RepairTextConfig, _scratch: Scratch) -> Outcome:
    """Mend a column; rows that are well are not touched."""
    column = batch.column(config.column)
    texts = texts_of(column)
    judge = Judge(config.column, texts.valid)
    bits = look(texts)
    if config.mojibake:
        column, changed = _mended(column, bits & (_MISREAD | C1) != 0, _fixed)
        judge.changed("mojibake", changed)
        texts = texts_of(column)
        bits = look(texts) if changed.any() else bits
    wanted = CONTROL * config.control_characters | INVISIBLE * config.invisible | LINE_END * config.line_endings
    if (bits & np.uint32(wanted)).any():
        offsets, data, counts = _cleaned(texts.offsets, texts.data, suspects(), wanted)
        column = array_of(offsets, data, texts.valid, column.type)
        for i, rule in enumerate(("control_characters", "invisible", "line_endings")):
            judge.changed(rule, counts[:, i])
        bits = look(texts_of(column))
    if config.normalize == "NFC":
        column, changed = _mended(column, bits & COMPOSES != 0, _composed)
        judge.changed("normalize", changed)
    index = batch.schema.get_field_index(config.column)
    return Outcome(batch.set_column(index, batch.schema.field(index), column), judge.findings)


def look(texts: Texts) -> Bits:
    """Return what may be wrong with each row: the bits of its characters, and of pairs."""
    return np.asarray(_look(texts.offsets, texts.data, suspects()))


def _mended(
    column: pa.Array, doubtful: npt.NDArray[np.bool_], mend: Callable[[str], str]
) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Return the column with its doubtful rows mended, and 1 for each row that changed."""
    changed = np.zeros(len(column), dtype=np.int64)
    new = []
    for row in np.flatnonzero(doubtful).tolist():
        old = column[row].as_py()
        text = None if old is None else mend(old)
        if text != old:
            changed[row] = 1
            new.append(text)
    if not new:
        return column, changed
    return pc.replace_with_mask(column, pa.array(changed == 1), pa.array(new, column.type)), changed


def _fixed(text: str) -> str:
    return ftfy.fix_text(text, config=_ENCODING_ALONE)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@numba.njit(cache=True, nogil=True)
def _look(offsets, data, table):  # type: ignore[no-untyped-def]  # numba infers
    num_rows = len(offsets) - 1
    bits = np.zeros(num_rows, dtype=np.uint32)
    for row in range(num_rows):
        at, end = data.ctypes.data + offsets[row], data.ctypes.data + offsets[row + 1]
        found, leads = np.int64(0), np.int64(0)
        while at < end:
            width = 1 if byte_at(at) < 0x80 else width_at(at, end)
            kind = np.int64(table[byte_at(at) if width == 1 else code_at(at, width)])
            found |= kind
            if leads & (kind >> FOLLOWS):
                found |= _MISREAD
            leads = kind & LEADS
            at += width
        bits[row] = np.uint32(found & _ROW)
    return bits


@numba.njit(cache=True, nogil=True)
def _cleaned(offsets, data, table, wanted):  # type: ignore[no-untyped-def]  # numba infers
    """Copy all rows without the characters of these kinds; what ends a line becomes a line feed."""
    num_rows = len(offsets) - 1
    new_offsets, counts = np.zeros(num_rows + 1, dtype=np.int64), np.zeros((num_rows, 3), dtype=np.int64)
    kept = np.empty(offsets[num_rows] - offsets[0], dtype=np.uint8)
    num = 0
    for row in range(num_rows):
        at, end = data.ctypes.data + offsets[row], data.ctypes.data + offsets[row + 1]
        while at < end:
            width = width_at(at, end)
            kind = np.int64(table[code_at(at, width)]) & wanted
            if not kind:
                for i in range(width):
                    kept[num] = byte_at(at + i)
                    num += 1
            elif kind & LINE_END:
                if byte_at(at) == 13 and at + 1 < end and byte_at(at + 1) == 10:
                    width = 2
                kept[num] = 10
                num += 1
            counts[row, 0] += kind & CONTROL != 0
            counts[row, 1] += kind & INVISIBLE != 0
            counts[row, 2] += kind & LINE_END != 0
            at += width
        new_offsets[row + 1] = num
    return new_offsets, kept[:num], counts
