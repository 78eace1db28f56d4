"""Bounds: any bytes are taken, a huge cell too, and no text makes a pattern slow."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_cleaning.steps.pii.find import Finder, Hits
from millrace_cleaning.steps.pii.prefilter import buffers_of, windows_of
from millrace_cleaning.steps.pii.rewrite import replaced
from millrace_cleaning.steps.pii.settings import PiiConfig

FINDER = Finder(PiiConfig.model_validate({"step": "pii", "column": "t"}))
ALPHABET = "aZ09 @.:-+()/<_=,\n\u00a0é€"


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.text(ALPHABET, max_size=60), max_size=4))
def test_hits_are_in_order_apart_and_within_their_rows(texts: list[str]) -> None:
    column = pa.array(texts, pa.string())
    hits = FINDER.find(column)
    _, offsets = buffers_of(column)
    assert (hits.begins < hits.ends).all()
    assert (hits.begins[1:] >= hits.ends[:-1]).all()
    assert (hits.begins >= offsets[hits.rows]).all()
    assert (hits.ends <= offsets[hits.rows + 1]).all()


@given(st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=6), st.data())
def test_only_what_is_replaced_changes(texts: list[str], data: st.DataObject) -> None:
    """Against plain Python: random spans on the boundaries of characters."""
    column = pa.array(texts)
    found, expected, base = [], [], 0
    for row, text in enumerate(texts):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, len(text)))
        found.append((row, base + len(text[:begin].encode()), base + len(text[:end].encode()), 0))
        expected.append(text[:begin] + "<ß>" + text[end:])
        base += len(text.encode())
    made = replaced(column, Hits.of(found), ["<ß>".encode()] * len(found))
    made.validate(full=True)
    assert made.to_pylist() == expected


def test_bytes_that_are_not_utf8_pass_through() -> None:
    raw = b"\xff\xfe a@b.de \xc3"
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, len(raw)], np.int32)), pa.py_buffer(raw)]
    )
    hits = FINDER.find(column)
    assert raw[hits.begins[0] : hits.ends[0]] == b"a@b.de"
    assert replaced(column, hits, [b"<EMAIL>"]).buffers()[2].to_pybytes() == b"\xff\xfe <EMAIL> \xc3"


def test_a_cell_of_ten_megabytes_has_its_two_data_masked() -> None:
    filler = "Nobody had expected the bridge to be finished before winter. " * 82_000
    column = pa.array([f"a@b.de {filler} call +49 30 12345678"])
    hits = FINDER.find(column)
    made = replaced(column, hits, [b"<EMAIL>", b"<PHONE>"])
    assert made[0].as_py() == f"<EMAIL> {filler} call <PHONE>"


def test_text_without_candidates_has_no_windows() -> None:
    column = pa.array(["The 3 of us met at 10:30 in 1984, and left -- as ever -- by half past 12. " * 50])
    assert len(windows_of(*buffers_of(column))) == 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "piece",
    [
        "@",
        "a@",
        "a.",
        "a@a.",
        "1",
        "1 ",
        "1.",
        "1-",
        "(1",
        "+1",
        "+49 ",
        "0",
        "00",
        ":",
        "::",
        "a:",
        "1:",
        "ab:",
        "0x",
        "A",
        "<",
        "A<<",
        "P<",
        "a1",
        "DE89 ",
        "AB12 ",
        "AB 12 ",
        "://",
        "://a:",
        "://a:b@",
        "eyJ",
        "eyJaaaaaaaaaa.",
        "sk-",
        "-----BEGIN ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "born ",
        "born 1",
        "née ",
        "4111 ",
        "1/",
        "xn--",
        "ghp_",
        "12.34.",
        "é",
        "\u00a01",
        "1\u00a0",
        "aaaa.aaaa",
        "tel 1",
        "1 tel ",
        "user@host.",
        "01 ",
        "1234.5678.",
        "ABCDEF12G34H567",
        "RSS MRA ",
        "bc1",
        "A1a-",
    ],
)
def test_no_repetition_makes_it_slow(piece: str) -> None:
    """30 kB of any piece, at no less than 10 kB/s: what backtracks would take hours."""
    column = pa.array([piece * (30_000 // len(piece))])
    began = time.process_time()
    FINDER.find(column)
    assert time.process_time() - began < 3
