"""Parquet whose pages say less, or more, than is good: bounded memory, and an error that names the row or the file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from made_parquet import DELTA_LENGTH, ZSTD, MadePage, packed_texts, sparse_text, texts, write_parquet
from millrace import errors
from millrace_cleaning.read import Files
from millrace_cleaning.read.pages import read_pages
from reading_runs import Read, read

GOOD = [texts(*"abcd"), texts("e")]
GIB = 2**30


def read_file(path: Path, **config: Any) -> Read:
    return read(path.parent, Files({path.name: path.stat().st_size}, lambda name: path.parent / name), **config)


def test_what_is_written_by_hand_is_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [GOOD, [texts("f")]])
    made = read_file(tmp_path / "t.parquet")
    assert (made.column("a"), made.bad) == ([*"abcdef"], [])


def test_rows_beside_a_cell_of_a_gigabyte_are_bad_and_other_row_groups_are_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [GOOD, [texts(*"xyz" * 10), sparse_text(GIB)], GOOD])
    made = read_file(tmp_path / "t.parquet")
    assert (made.column("a"), made.reasons) == ([*"abcdeabcde"], ["too_long"] * 31)
    assert [made.bad[0]["row"], made.bad[-1]["row"]] == [6, 36]
    assert "its row group has a page of 1073741828 bytes" in made.bad[0]["message"]
    assert made.numbers == [*range(5), *range(36, 41)]


def test_a_cell_of_a_gigabyte_fails_the_run_by_default(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [GOOD, [sparse_text(GIB)]])
    with pytest.raises(errors.InvalidData, match=r"t.parquet, row 6: its row group has \d+ bytes a row") as caught:
        read_file(tmp_path / "t.parquet", on_bad_row="fail")
    assert "max_row_bytes" in caught.value.remedy


@pytest.mark.parametrize(
    ("damage", "says"), [(lambda content: content[:8], "cut off"), (lambda content: b"\xff" + content, "damaged")]
)
def test_a_damaged_header_of_a_page_is_told(damage: Callable[[bytes], bytes], says: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [GOOD])
    content = (tmp_path / "t.parquet").read_bytes()[4:]
    with pytest.raises(ValueError, match=says):
        list(read_pages(io.BytesIO(damage(content)), 0, 1000))


def test_a_page_that_goes_beyond_its_column_is_told(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [[sparse_text(1000)]])
    content = io.BytesIO((tmp_path / "t.parquet").read_bytes())
    assert [page.size_bytes for page in read_pages(content, 4, 1020)] == [1004]
    with pytest.raises(ValueError, match="goes beyond its column"):
        list(read_pages(content, 4, 500))


def test_pages_are_those_that_arrow_wrote(tmp_path: Path) -> None:
    table = pa.table({"a": [f"text {i % 7}" for i in range(5000)], "n": range(5000)})
    for version in ("1.0", "2.0"):
        path = tmp_path / f"{version}.parquet"
        pq.write_table(table, path, data_page_version=version, data_page_size=1000, compression="zstd")
        with path.open("rb") as stream, pq.ParquetFile(path) as parquet:
            for column in (parquet.metadata.row_group(0).column(i) for i in range(2)):
                pages = list(read_pages(stream, column.dictionary_page_offset, column.total_compressed_size))
                assert [page.is_dictionary for page in pages] == [True] + [False] * (len(pages) - 1)
                assert sum(page.num_values for page in pages[1:]) == 5000
                assert 0 < column.total_uncompressed_size - sum(page.size_bytes for page in pages) < 100 * len(pages)


def understated(path: Path) -> None:
    """A page that would give a gigabyte, of which the footer says that it gives ten bytes."""
    page = packed_texts(2**20, num_values=1024)
    write_parquet(path, [[packed_texts(1, num_values=5)], [page]], codec=ZSTD, claimed=10)


def skewed(path: Path) -> None:
    """Eight thousand small rows, and behind them 300 of 8 MiB each that zstd does not shrink much."""
    noise = os.urandom(2**16).hex()
    large = [texts(noise * 64)] * 40
    write_parquet(path, [[texts(*"x" * 8000), *large]])


def many_lengths(path: Path) -> None:
    """A page of a few bytes that says it has half a billion lengths."""
    write_parquet(path, [GOOD, [MadePage(b"\x80\x01\x04\x80\xca\xb5\xee\x01\0", 9, 9, 500_000_000, DELTA_LENGTH)]])


def one_cell(path: Path) -> None:
    write_parquet(path, [GOOD, [texts(*"xyz"), sparse_text(GIB)]])


MAKERS: dict[str, tuple[Callable[[Path], None], int, set[str]]] = {
    "understated": (understated, 5, {"bomb"}), "skewed": (skewed, 8040, set()),
    "many lengths": (many_lengths, 5, {"bomb"}), "one cell": (one_cell, 5, {"too_long"}),
}  # fmt: skip

MEASURE = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from millrace_cleaning.read import Files, Part, Rejects, read_part
from millrace_cleaning.read_settings import ReadConfig
pa.set_memory_pool(pa.system_memory_pool())
path = Path(sys.argv[1])
rejects = Rejects.of(ReadConfig(on_bad_row="skip", on_bad_file="skip"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files = Files({path.name: path.stat().st_size}, lambda name: path)
config = ReadConfig(on_bad_row="skip", on_bad_file="skip")
rows = sum(batch.num_rows for batch in read_part(files, Part(path.name), config=config, rejects=rejects))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, *rejects.rows, *rejects.files)
"""


@pytest.mark.parametrize("name", MAKERS)
def test_memory_is_bounded_by_what_pages_say(tmp_path: Path, name: str) -> None:
    make, num_rows, reasons = MAKERS[name]
    make(tmp_path / "t.parquet")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "t.parquet")], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows, grown, *found = done.stdout.split()
    assert (int(rows), set(found)) == (num_rows, reasons)
    assert int(grown) < 400, done.stdout
