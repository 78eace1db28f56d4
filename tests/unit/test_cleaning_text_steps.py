"""Text steps: what they repair, recognise and remove, and what they say of it."""

from __future__ import annotations

import unicodedata
from typing import Any

import ftfy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import ValidationError

from millrace import errors
from millrace_cleaning.steps.findings import Memo, Outcome, Scratch
from millrace_cleaning.steps.text import blocklist, fineweb, gopher, language, length, repair, repetition
from millrace_cleaning.steps.text.buffers import texts_of
from millrace_cleaning.steps.text.settings import (
    BlocklistConfig,
    FinewebQualityConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
    LanguageConfig,
    LengthConfig,
    RepairTextConfig,
)
from millrace_cleaning.steps.text.words import split, split_of

PROSE = "The old bridge had to be closed, and that is why people have walked with their bicycles along the river since then. "


def batch_of(*texts: str | None) -> pa.RecordBatch:
    return pa.record_batch({"text": pa.array(texts, pa.string())})


def removed(outcome: Outcome) -> dict[int, set[str]]:
    gone: dict[int, set[str]] = {}
    for finding in outcome.findings.table().to_pylist():
        if finding["action"] == "removed":
            gone.setdefault(finding["row"], set()).add(finding["rule"])
    return gone


def repaired(*texts: str | None, **options: Any) -> tuple[list[str | None], set[tuple[int, str]]]:
    outcome = repair.apply(batch_of(*texts), RepairTextConfig(step="repair_text", column="text", **options), Scratch())
    outcome.batch.validate(full=True)
    return outcome.batch.column("text").to_pylist(), {
        (f["row"], f["rule"]) for f in outcome.findings.table().to_pylist()
    }


def test_text_is_repaired_and_each_change_accounted_for() -> None:
    texts, changes = repaired(
        "itâ€™s", "a\x00b\x1bc", "a\r\nb\rc\u2028d", "x\u200by\ufeff", "e\u0301", "well, né", None
    )
    assert texts == ["it’s", "abc", "a\nb\nc\nd", "xy", "é", "well, né", None]
    assert changes == {
        (0, "mojibake"), (1, "control_characters"), (2, "line_endings"), (3, "invisible"), (4, "normalize"),
    }  # fmt: skip


def test_what_is_switched_off_is_not_repaired() -> None:
    off = {
        "mojibake": False,
        "normalize": "none",
        "line_endings": False,
        "control_characters": False,
        "invisible": False,
    }
    texts = ["itâ€™s", "a\x00", "a\r\n", "x\u200b", "e\u0301"]
    assert repaired(*texts, **off) == (texts, set())


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.sampled_from("aé’ñ—ß€日本Пр œ"), max_size=12),
    st.sampled_from(["latin-1", "cp1252", "cp1251", "cp1250", "mac-roman", "cp437"]),
)
def test_no_mojibake_that_ftfy_mends_is_passed_over(text: str, charset: str) -> None:
    misread = text.encode().decode(charset, errors="ignore")
    mended = ftfy.fix_text(misread, config=repair._ENCODING_ALONE)
    assert repaired(misread, normalize="none", line_endings=False, control_characters=False, invisible=False)[0] == [
        mended
    ]


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_what_is_repaired_is_in_nfc(text: str) -> None:
    (mended,), _ = repaired(text, mojibake=False)
    assert mended is not None
    assert unicodedata.is_normalized("NFC", mended)


def test_the_language_is_the_one_that_py3langid_finds() -> None:
    texts = [
        "Bonjour le monde, comment allez-vous ?",
        "ALL IN CAPITALS, BUT ENGLISH",
        "ПРИВЕТ, КАК ДЕЛА?",
        "日本語です。",
        "7",
    ]
    model, library = language.load_model(), LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found, scores = language.identify(texts_of(pa.array(texts)), model, sample_bytes=1024)
    expected = [library.classify(text) for text in texts]
    assert [model.labels[i] for i in found] == [label for label, _ in expected]
    assert scores.tolist() == pytest.approx([score for _, score in expected], abs=1e-5)


def test_another_language_goes_and_a_null_has_none() -> None:
    config = LanguageConfig(step="language", column="text", keep=("en",), sample_bytes=64)
    outcome = language.apply(batch_of(PROSE * 9, "Der Fluss war an diesem Morgen sehr ruhig.", None), config, Scratch())
    assert outcome.batch.column("language").to_pylist() == ["en", "de", None]
    assert removed(outcome) == {1: {"keep"}}
    assert outcome.findings.table().column("detail").to_pylist() == ["de"]


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(errors.InvalidData, match="no language 'xq'"):
        language.apply(batch_of("x"), LanguageConfig(step="language", column="text", keep=("xq",)), Scratch())


def test_gopher_says_every_rule_that_fails_with_its_value_and_limit() -> None:
    config = GopherQualityConfig(step="gopher_quality", column="text")
    outcome = gopher.apply(batch_of(PROSE * 4, "# # few", None), config, Scratch())
    assert set(removed(outcome)) == {1}
    found = {f["rule"]: (f["value"], f["limit"]) for f in outcome.findings.table().to_pylist()}
    assert found["min_words"] == (1.0, 50.0)
    assert found["max_hash_ratio"] == (pytest.approx(2 / 3), 0.1)
    assert found["min_stop_words"] == (0.0, 2.0)


def test_a_limit_of_null_switches_a_rule_off() -> None:
    config = GopherQualityConfig(step="gopher_quality", column="text", min_words=None, min_stop_words=None)
    assert removed(gopher.apply(batch_of("few words"), config, Scratch())) == {}


def test_a_text_that_repeats_itself_goes() -> None:
    config = GopherRepetitionConfig(step="gopher_repetition", column="text")
    gone = removed(repetition.apply(batch_of("\n".join([PROSE] * 5), PROSE), config, Scratch()))
    assert set(gone) == {0}
    assert "max_duplicate_lines" in gone[0]
    assert "max_duplicate_ngram_chars.5" in gone[0]


def test_fineweb_may_spare_texts_without_any_punctuated_line() -> None:
    text = "\n".join(f"{PROSE.strip('. ')} {i}" for i in range(9))
    strict = FinewebQualityConfig(step="fineweb_quality", column="text")
    assert removed(fineweb.apply(batch_of(text), strict, Scratch())) == {0: {"min_punctuated_lines"}}
    lenient = FinewebQualityConfig(step="fineweb_quality", column="text", allow_no_punctuated_line=True)
    assert removed(fineweb.apply(batch_of(text), lenient, Scratch())) == {}


def test_a_term_matches_whole_words_in_any_case() -> None:
    config = BlocklistConfig(step="blocklist", column="text", terms=("bad", "Very Évil"))
    texts = ("BAD!", "badly", "a very-ÉVIL day", "very", "evil very", None)
    assert set(removed(blocklist.apply(batch_of(*texts), config, Scratch()))) == {0, 2}


def test_a_term_may_match_parts_of_words() -> None:
    config = BlocklistConfig(step="blocklist", column="text", terms=("c++", "悪"), whole_words=False)
    assert set(removed(blocklist.apply(batch_of("In C++11.", "最悪です", "c", None), config, Scratch()))) == {0, 1}


def test_a_term_without_a_word_is_refused() -> None:
    with pytest.raises(errors.InvalidData, match="has 0 words"):
        blocklist.apply(batch_of("x"), BlocklistConfig(step="blocklist", column="text", terms=("+++",)), Scratch())


def test_lengths_are_in_characters_words_and_bytes() -> None:
    batch = batch_of("éé", "a, b!", "abcdef")
    for limits, gone in (
        ({"min_chars": 3}, {0}),
        ({"min_words": 2}, {0, 2}),
        ({"max_bytes": 5}, {2}),
        ({"max_words": 1}, {1}),
    ):
        outcome = length.apply(batch, LengthConfig(step="length", column="text", **limits), Scratch())
        assert set(removed(outcome)) == gone


@pytest.mark.parametrize("limits", [{}, {"min_chars": 9, "max_chars": 3}])
def test_lengths_without_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        LengthConfig(step="length", **limits)


def test_two_steps_share_one_split() -> None:
    memo, column = Memo(), batch_of(PROSE).column("text")
    assert split_of(column, memo) is split_of(column, memo)


def test_a_slice_of_a_column_is_split_as_a_column_of_its_own() -> None:
    column = pa.array(["one", None, "two three", "four"], pa.large_string())
    assert split(column[1:]).word_hashes.tolist() == split(pa.array([None, "two three", "four"])).word_hashes.tolist()


def test_bytes_that_are_no_utf8_do_no_harm() -> None:
    offsets, data = pa.py_buffer(bytes([0, 0, 0, 0, 6, 0, 0, 0])), pa.py_buffer(b"ab \xf0\x9f\xe2")
    column = pa.Array.from_buffers(pa.string(), 1, [None, offsets, data])
    assert split(column).word_starts.tolist()[0] == 0


def test_long_runs_take_linear_time() -> None:
    texts = ["." * 200_000, "!" * 200_000, "a-" * 100_000, "a." * 100_000, "'" * 200_000]
    assert split(pa.array(texts)).chars.tolist() == [200_000] * 5
