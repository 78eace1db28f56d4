"""The rules' kernels measure what slow references in plain Python measure, on random texts of all scripts."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.text import c4, fineweb, gopher, repetition
from millrace_cleaning.steps.text.settings import C4_POLICY_PHRASES, GOPHER_STOP_WORDS, C4QualityConfig
from millrace_cleaning.steps.text.tokens import WHOLE
from millrace_cleaning.steps.text.words import LENGTH, OPENS_LINE, split
from unit import text_reference as reference

PIECES = st.sampled_from(
    [
        "the", "of", "and", "Word", "word", "don't", "they’re", "it's", "cannot", "e.g.", "U.S.", "a.", "10km", "3.5", "5%",
        "$5", "5€", "C++", "x-y", "a--b", "1-2", "a/b", "k:v", "...", "…", ".", "!", "?", ",", "(", ")", "'", '"', "#", "-", "•",
        "http://a-b.org/x-y", "me@x-y.org", "file-name.py", "日本語", "Привет", "été", "école.Les", "—", "–", "☃", "[1]",
        "[edit]", "{", "JavaScript", "Lorem ipsum", "use cookies", "\n", "\n\n", "\r\n", "\x0b", "\u2028", "\x85", " ", "  ",
        "\t", "\u00a0", "\u3000", "\x00", "é", "ß", "😀",
    ]
)  # fmt: skip
TEXTS = st.lists(
    st.one_of(PIECES, st.just(" "), st.text(max_size=4).filter(lambda t: t.isprintable())), max_size=60
).map("".join)  # fmt: skip
LINES = st.lists(
    st.sampled_from(["One two three.", "a b c d e f", "", " ", "x.", "one two three four five six."]), max_size=9
)
REPEATING = st.lists(st.sampled_from(["a", "b", "c", "dd", "the", "of"]), max_size=60).map(" ".join)


def column(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.string())


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=4))
@example(["...", "a...b", "..a", "don't.", '"(e.g.)"', "a\n\nb\n", ""])
@example(["http://a-b.org/x-yme@x-y.orge.g."])
def test_words_are_those_that_the_reference_cuts(texts: list[str]) -> None:
    found = split(column(texts))
    lengths = (found.word_marks & LENGTH).tolist()
    starts = found.word_starts.tolist()
    by_row = [lengths[a:b] for a, b in pairwise(starts)]
    assert by_row == [[len(word) for word in reference.words(text)] for text in texts]


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_equal_words_have_equal_hashes_and_others_do_not(text: str) -> None:
    hashes, words = split(column([text])).word_hashes.tolist(), reference.words(text)
    assert len(set(zip(hashes, words, strict=True))) == len(set(hashes)) == len(set(words))


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_the_first_word_of_each_line_is_marked(text: str) -> None:
    marked = (split(column([text])).word_marks & OPENS_LINE != 0).sum()
    assert marked == sum(bool(line.strip()) for line in text.splitlines())


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=3))
def test_gophers_counts_are_the_references(texts: list[str]) -> None:
    counts = gopher.measure(split(column(texts)), GOPHER_STOP_WORDS)
    assert counts.tolist() == [reference.gopher(text, GOPHER_STOP_WORDS) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.one_of(TEXTS, LINES.map("\n".join)).filter(bool))
@example("\n\n")
@example("a\n\n\nb\n\na")
@example("a\n \nb\n\na ")
def test_repeated_lines_and_paragraphs_are_the_references(text: str) -> None:
    assert repetition.measure_lines(split(column([text])))[0].tolist() == reference.repetition(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(TEXTS, REPEATING))
def test_repeated_ngrams_are_the_references(text: str) -> None:
    top, again = repetition.measure_ngrams(split(column([text])), (2, 3, 4), (3, 5, 6))
    assert top[0].tolist() == [reference.top_ngram(text, size) for size in (2, 3, 4)]
    assert again[0].tolist() == [reference.repeated_ngrams(text, size) for size in (3, 5, 6)]


@settings(max_examples=200, deadline=None)
@given(st.one_of(TEXTS, LINES.map("\n".join)))
def test_finewebs_counts_are_the_references(text: str) -> None:
    assert fineweb.measure(split(column([text])), ".?!。", 6)[0].tolist() == reference.fineweb(text, ".?!。", 6)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(TEXTS, LINES.map("\n".join)), min_size=1, max_size=3))
def test_c4_keeps_the_lines_that_the_reference_keeps(texts: list[str]) -> None:
    config = C4QualityConfig(step="c4_quality", column="text")
    outcome = c4.apply(pa.record_batch({"text": column(texts)}), config, Scratch())
    outcome.batch.validate(full=True)
    gone = {f["row"]: f["rule"] for f in outcome.findings.table().to_pylist() if f["action"] == "removed"}
    for row, (given_text, kept) in enumerate(zip(texts, outcome.batch.column("text").to_pylist(), strict=True)):
        expected, reason = reference.c4(given_text, C4_POLICY_PHRASES)
        assert gone.get(row, "") == reason
        assert reason or kept == expected


@pytest.mark.parametrize("abbreviation", WHOLE.split())
def test_an_abbreviation_keeps_its_full_stop(abbreviation: str) -> None:
    assert len(split(column([f"({abbreviation}, x)"])).word_hashes) == 5
