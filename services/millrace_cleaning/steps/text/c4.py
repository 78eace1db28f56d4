"""C4's rules: lines that are no sentences go, and texts that keep too few of them, or have a sign of not being prose."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from millrace_cleaning.steps.findings import Outcome, Scratch
from millrace_cleaning.steps.text import tokens
from millrace_cleaning.steps.text.buffers import array_of
from millrace_cleaning.steps.text.characters import classes
from millrace_cleaning.steps.text.judging import Judge
from millrace_cleaning.steps.text.lines import after_break, line_end, strip_left, strip_right
from millrace_cleaning.steps.text.memory import byte_at
from millrace_cleaning.steps.text.phrases import compiled, lowered, stands_at
from millrace_cleaning.steps.text.sentences import count_in_bytes, count_in_marks
from millrace_cleaning.steps.text.settings import C4QualityConfig
from millrace_cleaning.steps.text.words import LENGTH, OPENS_LINE, OPENS_RUN, split_of

_LONG, _OPEN, _SHORT, _SCRIPT, _POLICY, _CITED, _STRIPPED, _LOREM, _CURLY, _SENTENCES = range(10)
"""What is counted of a row: lines that went by each rule, in the rules' order; citations that were taken out; lines that lost
spaces at their ends; signs for which the text goes; sentences that stay."""

LINE_RULES = (
    ("max_word_length", _LONG), ("terminal_punctuation", _OPEN), ("min_words_per_line", _SHORT), ("javascript", _SCRIPT),
    ("policy_phrases", _POLICY), ("citations", _CITED), ("spaces", _STRIPPED),
)  # fmt: skip

_EDIT, _NEEDED = (np.frombuffer(word, dtype=np.uint8) for word in (b"[edit]", b"[citation needed]"))
_HAS_LOREM, _HAS_SCRIPT, _HAS_POLICY, _HAS_CURLY = 1, 2, 4, 8


def apply(batch: pa.RecordBatch, config: C4QualityConfig, scratch: Scratch) -> Outcome:
    """Keep the lines that are sentences, and remove texts that keep too few."""
    column = batch.column(config.column)
    split = split_of(column, scratch.memo)
    phrases = compiled(("lorem ipsum", "javascript", *config.policy_phrases))
    options = np.array(
        [
            -1 if config.max_word_length is None else config.max_word_length,
            config.citations, config.terminal_punctuation,
            -1 if config.min_words_per_line is None else config.min_words_per_line,
            config.lorem_ipsum, config.javascript, config.curly_bracket,
        ], dtype=np.int64,
    )  # fmt: skip
    offsets, data, counts = _keep_lines(
        split.texts.offsets, split.texts.data, split.word_starts, split.word_marks, classes(), tokens.whole_words(),
        phrases, options,
    )  # fmt: skip
    judge = Judge(config.column, split.texts.valid)
    judge.at_most("lorem_ipsum", counts[:, _LOREM], 0)
    judge.at_most("curly_bracket", counts[:, _CURLY], 0)
    # A text that goes for a sign is not read to its end.
    is_whole = (counts[:, _LOREM] == 0) & (counts[:, _CURLY] == 0)
    judge.at_least("min_sentences", counts[:, _SENTENCES], config.min_sentences, spare=~is_whole)
    stays = ~judge.findings.removed(batch.num_rows)
    for rule, count in LINE_RULES:
        judge.changed(rule, counts[:, count], stays)
    index = batch.schema.get_field_index(config.column)
    kept = array_of(offsets, data, split.texts.valid, column.type)
    return Outcome(batch.set_column(index, batch.schema.field(index), kept), judge.findings)


@numba.njit(cache=True, nogil=True)
def _keep_lines(offsets, data, word_starts, marks, table, whole, phrases, options):  # type: ignore[no-untyped-def]  # numba infers
    """Copy what stays of each row; the next row begins where it ends."""
    max_word, cites, needs_end, min_words, no_lorem, no_script, no_curly = options
    num_rows = len(offsets) - 1
    counts = np.zeros((num_rows, 10), dtype=np.int64)
    kept_offsets = np.zeros(num_rows + 1, dtype=np.int64)
    kept = np.empty(offsets[num_rows] - offsets[0], dtype=np.uint8)
    longest = 0
    for row in range(num_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    kinds, places = np.empty(longest + 1, dtype=np.uint16), np.empty(longest + 1, dtype=np.uint32)
    ends = np.empty(2 * longest + 2, dtype=np.int64)
    first_byte = data.ctypes.data
    num = 0
    for row in range(num_rows):
        at, end, word = first_byte + offsets[row], first_byte + offsets[row + 1], word_starts[row]
        first_kept = num
        while at < end:
            stop = line_end(at, end)
            begin = strip_left(at, stop, table.ctypes.data)
            until = strip_right(begin, stop, table.ctypes.data)
            stripped = begin > at or until < stop
            at = after_break(stop, end)
            first_word = word
            if begin < until:
                word += 1
                while word < word_starts[row + 1] and not marks[word] & OPENS_LINE:
                    word += 1
            num_words, longest_word = _runs(marks, first_word, word)
            if max_word >= 0 and longest_word > max_word:
                counts[row, _LONG] += 1
                continue
            line = num if num == first_kept else num + 1  # a line feed comes between
            size, cited = _copy(data, begin - first_byte, until - first_byte, kept, line, cites, line == first_kept)
            if needs_end and not _ends_sentence(kept, line, line + size):
                counts[row, _OPEN] += 1
                continue
            if num_words < min_words:
                counts[row, _SHORT] += 1
                continue
            signs = _signs(kept.ctypes.data + line, kept.ctypes.data + line + size, phrases)
            if no_lorem and signs & _HAS_LOREM:
                counts[row, _LOREM] += 1
                break
            if no_script and signs & _HAS_SCRIPT:
                counts[row, _SCRIPT] += 1
                continue
            if no_curly and signs & _HAS_CURLY:
                counts[row, _CURLY] += 1
                break
            if signs & _HAS_POLICY:
                counts[row, _POLICY] += 1
                continue
            if cited:
                counts[row, _SENTENCES] += count_in_bytes(kept, line, line + size, table, whole, kinds, places, ends)
            else:
                counts[row, _SENTENCES] += count_in_marks(marks, first_word, word)
            counts[row, _CITED] += cited
            counts[row, _STRIPPED] += stripped
            if line > num:
                kept[num] = 10
            num = line + size
        while num > first_kept and kept[num - 1] == 32:
            num -= 1
        if counts[row, _LOREM] or counts[row, _CURLY]:
            num = first_kept
        kept_offsets[row + 1] = num
    return kept_offsets, kept[:num], counts


@numba.njit(cache=True, nogil=True)
def _runs(marks, begin, end):  # type: ignore[no-untyped-def]  # numba infers
    """How many words between spaces there are, and how many characters the longest has."""
    num = longest = length = 0
    for word in range(begin, end):
        mark = np.int64(marks[word])
        if mark & OPENS_RUN:
            num, length = num + 1, 0
        length += mark & LENGTH
        longest = max(longest, length)
    return num, longest


@numba.njit(cache=True, nogil=True)
def _copy(data, begin, end, kept, to, cites, is_first):  # type: ignore[no-untyped-def]  # numba infers
    """Copy a line without its citations; return its size, and how many citations went. A text does not begin with a space."""
    size = cited = 0
    while begin < end:
        if cites and data[begin] == 91:
            width = _citation(data, begin, end)
            if width:
                cited += 1
                begin += width
                continue
        if size or not is_first or data[begin] != 32:
            kept[to + size] = data[begin]
            size += 1
        begin += 1
    return size, cited


@numba.njit(cache=True, nogil=True)
def _citation(data, begin, end):  # type: ignore[no-untyped-def]  # numba infers
    """The width of [1], [], [edit] or [citation needed] here, or 0."""
    at = begin + 1
    while at < end and 48 <= data[at] <= 57:
        at += 1
    if at < end and data[at] == 93:
        return at + 1 - begin
    for word in (_EDIT, _NEEDED):
        if end - begin >= len(word):
            same = True
            for i in range(len(word)):
                same &= data[begin + i] == word[i]
            if same:
                return len(word)
    return 0


@numba.njit(cache=True, nogil=True)
def _ends_sentence(kept, begin, end):  # type: ignore[no-untyped-def]  # numba infers
    """Whether a line ends with . ? ! or a quotation mark of ASCII, and not with three full stops."""
    if begin == end:
        return False
    last = kept[end - 1]
    if last == 46:
        return end - begin < 3 or kept[end - 2] != 46 or kept[end - 3] != 46
    return last == 63 or last == 33 or last == 34 or last == 39


@numba.njit(cache=True, nogil=True)
def _signs(begin, end, phrases):  # type: ignore[no-untyped-def]  # numba infers
    """Which signs a line has: a set of bits."""
    content, starts, anchors, first, order = phrases
    found = 0
    for at in range(begin, end):
        byte = byte_at(at)
        if byte == 123:
            found |= _HAS_CURLY
        low = lowered(byte)
        for i in range(first[low], first[low + 1]):
            phrase = content.ctypes.data + starts[i]
            if stands_at(at, begin, end, phrase, content.ctypes.data + starts[i + 1], anchors[i]):
                found |= _HAS_POLICY if order[i] > 1 else 1 << order[i]
    return found
