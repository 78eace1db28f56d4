"""Broken and hostile files end in an error with file and line, or are set aside with the reason; memory stays bounded."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cleaning_runs import clean
from millrace import errors
from millrace_cleaning.read import Files
from millrace_cleaning.read.rejects import MAX_RAW_BYTES
from reading_runs import parquet_of, png_of, read, tar_of, zip_of

GOOD_CSV = b"a,b\n" + b"".join(b"%d,x\n" % i for i in range(5))
GOOD_JSONL = b"".join(b'{"a": "%d", "b": "x"}\n' % i for i in range(5))
TABLE = pa.table({"a": [str(i) for i in range(200)], "b": ["x" * 50] * 200})
PARQUET = parquet_of(TABLE, row_group_size=100, compression="none", use_dictionary=False)


def named(cases: Sequence[tuple[Any, ...]]) -> list[str]:
    """Ids without the cases' bytes, in which packed files have the time: all of pytest's processes must say the same."""
    return [f"{number}-{case[0]}-{case[2]}" for number, case in enumerate(cases)]


def link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, "/etc/passwd"
    return info


BAD_ROWS = [
    ("t.csv", b"1,2,3\n", "ragged", 7, "expected 2 values as in the header, found 3"),
    ("t.csv", b"1\n", "ragged", 7, "found 1"),
    ("t.csv", b'1,"x\n', "quote", 7, "quoted value that starts here is broken"),
    ("t.csv", b"1,\xff\xfe\n", "encoding", 7, "the bytes are not utf-8"),
    ("t.csv", b"1,a\0b\n", "binary", 7, "NUL"),
    ("t.csv", b"1," + b"y" * 3000 + b"\n", "too_long", 7, "longer than 2000"),
    ("t.jsonl", b'{"a": \n', "not_json", 6, "not JSON"),
    ("t.jsonl", b"[1]\n", "not_an_object", 6, "expected a JSON object, found list"),
    ("t.jsonl", b'{"a": 1, "a": 2}\n', "not_json", 6, "'a' stands twice"),
    ("t.jsonl", b'{"a": "\xff"}\n', "encoding", 6, "not utf-8"),
    ("t.jsonl", b'{"a": "\0"}\n', "not_json", 6, "control character"),
    ("t.jsonl", b'{"a": "\\ud800"}\n', "surrogate", 6, "surrogate"),
    ("t.jsonl", b"[" * 1900 + b"\n", "nesting", 6, "not JSON"),
    ("t.jsonl", b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}\n", "nesting", 6, "nested"),
    ("t.jsonl", b'{"a": "' + b"y" * 3000 + b'"}\n', "too_long", 6, "longer than 2000"),
    ("t.jsonl", b'{"a": ' + b"9" * 1900 + b"e}\n", "not_json", 6, "not JSON"),
    ("t.txt", b"a\0b\n", "binary", 6, "NUL"),
    ("t.txt", b"y" * 3000 + b"\n", "too_long", 6, "longer than 2000"),
]  # fmt: skip


def around(path: str, bad: bytes) -> bytes:
    """Five good rows, a bad one, five good ones."""
    good = {"t.csv": GOOD_CSV, "t.jsonl": GOOD_JSONL, "t.txt": b"some text\n" * 5}[path]
    return good + bad + good.removeprefix(b"a,b\n")


@pytest.mark.parametrize(("path", "bad", "reason", "line", "says"), BAD_ROWS, ids=named(BAD_ROWS))
def test_a_bad_row_is_set_aside_and_the_others_are_read(
    tmp_path: Path, path: str, bad: bytes, reason: str, line: int, says: str
) -> None:
    made = read(tmp_path, {path: around(path, bad)}, max_row_bytes=2000, text_unit="line")
    (found,) = made.bad
    assert (found["reason"], found["line"], found["row"], found["path"]) == (reason, line, 6, path)
    assert says in found["message"]
    assert found["raw"] == bad[: len(found["raw"])]
    assert found["size_bytes"] >= len(bad) - 1
    assert (len(made.rows), made.numbers) == (10, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])


@pytest.mark.parametrize(("path", "bad", "reason", "line", "says"), BAD_ROWS, ids=named(BAD_ROWS))
def test_a_bad_row_fails_the_run_by_default(
    tmp_path: Path, path: str, bad: bytes, reason: str, line: int, says: str
) -> None:
    with pytest.raises(errors.InvalidData, match=f"{path}, line {line}: ") as caught:
        read(tmp_path, {path: around(path, bad)}, max_row_bytes=2000, text_unit="line", on_bad_row="fail")
    assert says in str(caught.value)
    assert "on_bad_row: skip" in caught.value.remedy


@pytest.mark.parametrize("path", ["t.csv", "t.jsonl", "t.txt"])
@pytest.mark.parametrize("step", [30, 70, 10_000])
def test_bad_rows_have_the_same_lines_and_numbers_however_a_file_is_cut(tmp_path: Path, path: str, step: int) -> None:
    bad = next(row[1] for row in BAD_ROWS if row[0] == path and row[2] != "quote")
    config: dict[str, Any] = {"max_row_bytes": 2000, "text_unit": "line"}
    content = around(path, bad) + around(path, bad).removeprefix(b"a,b\n")
    whole = read(tmp_path, {path: content}, **config)
    cut = read(tmp_path, {path: content}, bytes_per_part=step, **config)
    assert (cut.rows, cut.bad, cut.numbers) == (whole.rows, whole.bad, whole.numbers)
    assert len(whole.bad) == 2


def test_a_skipped_row_is_counted_and_not_kept(tmp_path: Path) -> None:
    made = read(tmp_path, {"t.csv": around("t.csv", b"1\n")}, on_bad_row="skip")
    assert (len(made.rows), made.bad, made.counts[0]["rows"]) == (10, [], {"ragged": 1})


def test_a_quote_that_never_closes_costs_one_line(tmp_path: Path) -> None:
    made = read(tmp_path, {"t.csv": GOOD_CSV + b'"5,x\n' + b"6,y\n" * 1000}, max_row_bytes=2000)
    assert (made.reasons, made.bad[0]["line"], len(made.rows)) == (["quote"], 7, 1005)


def test_of_a_bad_text_in_an_archive_the_bytes_are_kept(tmp_path: Path) -> None:
    made = read(tmp_path, {"t.zip": zip_of({"a.txt": b"good", "b.txt": b"caf\xe9", "c.txt": b"good"})})
    (found,) = made.bad
    assert (found["path"], found["row"], found["reason"]) == ("t.zip/b.txt", 2, "encoding")
    assert (found["raw"], found["size_bytes"]) == (b"caf\xe9", 4)
    assert made.column("text") == ["good", "good"]


def test_of_a_large_bad_row_the_first_bytes_are_kept(tmp_path: Path) -> None:
    made = read(tmp_path, {"t.jsonl": GOOD_JSONL + b"y" * 10**6 + b"\n" + GOOD_JSONL})
    assert (len(made.bad[0]["raw"]), made.bad[0]["size_bytes"]) == (MAX_RAW_BYTES, 10**6 + 1)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


BAD_FILES = [
    ("t.parquet", PARQUET[:-60], "unreadable", 0),
    ("t.parquet", PARQUET[: len(PARQUET) // 2], "unreadable", 0),
    ("t.parquet", PARQUET[: len(PARQUET) // 2] + PARQUET[-900:], "", 0),
    ("t.parquet", GOOD_CSV, "unreadable", 0),
    ("t.parquet", b"", "unreadable", 0),
    ("t.csv", PARQUET, "format", 0),
    ("t.csv", b"", "empty", 0),
    ("t.csv", zip_of({"t.csv": GOOD_CSV}), "format", 0),
    ("t.csv", b",".join(b"c%d" % i for i in range(20_000)) + b"\n", "columns", 0),
    ("t.csv", b"a,a\n1,2\n", "columns", 0),
    ("t.csv", b'"a,b\n1,2\n', "quote", 0),
    ("t.jsonl", gzip.compress(GOOD_JSONL), "format", 0),
    ("t.json", b"", "empty", 0),
    ("t.json", b"hello", "not_json", 0),
    ("t.json", b'[{"a": 1}, {"a": 2}, {"a": ', "not_json", 2),
    ("t.json", b'[{"a": 1} {"a": 2}]', "truncated", 1),
    ("t.json", b'[{"a": 1}, {"b": 1, "b": 2}]', "not_json", 1),
    ("t.json", b'[{"a": 1}, {"a": "' + b"y" * 3 * 10**6 + b'"}]', "too_long", 1),
    ("t.json", b'[{"a": 1}, \xff]', "encoding", 0),
    ("t.json", b'[{"a": 1}, ' + b"[" * 100_000, "nesting", 1),
    ("t.csv.gz", gzip.compress(GOOD_CSV)[:-9], "truncated", None),
    ("t.csv.gz", GOOD_CSV, "format", 0),
    ("t.jsonl.zst", flipped(bytes(pa.compress(GOOD_JSONL * 99, "zstd", asbytes=True)), 30), "truncated", None),
    ("t.zip", zip_of({"t.csv": GOOD_CSV})[:-30], "truncated", 0),
    ("t.zip", b"PK\x03\x04 and nothing else", "truncated", 0),
    ("t.zip", flipped(zip_of({"t.csv": GOOD_CSV * 99}), 70), "truncated", None),
    ("t.tar", tar_of({"t.csv": GOOD_CSV * 400})[:4000], "truncated", None),
    ("t.tar.gz", gzip.compress(tar_of({"t.csv": GOOD_CSV * 400}))[:-30], "truncated", None),
    ("t.tar", b"no tar at all", "truncated", 0),
]


@pytest.mark.parametrize(("path", "content", "reason", "num_rows"), BAD_FILES, ids=named(BAD_FILES))
def test_a_bad_file_is_set_aside_after_its_good_rows(
    tmp_path: Path, path: str, content: bytes, reason: str, num_rows: int | None
) -> None:
    made = read(tmp_path, {path: content, "z.jsonl": b'{"z": 1}\n'}, max_row_bytes=500_000)
    found = [row for row in made.bad if row["kind"] == "file"]
    assert [row["path"].removesuffix("/t.csv") for row in found] == [path]
    assert reason in ("", found[0]["reason"])
    assert made.rows[-1] == {"z": 1}
    assert num_rows is None or len(made.rows) == num_rows + 1


@pytest.mark.parametrize(("path", "content", "reason", "num_rows"), BAD_FILES, ids=named(BAD_FILES))
def test_a_bad_file_fails_the_run_by_default(
    tmp_path: Path, path: str, content: bytes, reason: str, num_rows: int | None
) -> None:
    with pytest.raises(errors.InvalidData) as caught:
        read(tmp_path, {path: content}, max_row_bytes=500_000, on_bad_file="fail")
    assert path in caught.value.message
    assert "on_bad_file: skip" in caught.value.remedy


@pytest.mark.parametrize("at", range(4, len(PARQUET), 97))
def test_a_parquet_file_with_a_byte_changed_is_read_or_set_aside(tmp_path: Path, at: int) -> None:
    made = read(tmp_path, {"t.parquet": flipped(PARQUET, at)})
    assert len(made.rows) <= 200
    assert set(made.reasons) <= {"unreadable", "footer", "columns", "too_long", "encoding"}
    assert made.rows or made.bad


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"../../etc/cron.d/x.csv": GOOD_CSV}, "unsafe_path"),
        ({"/etc/x.csv": GOOD_CSV}, "unsafe_path"),
        ({"a/../../x.csv": GOOD_CSV}, "unsafe_path"),
        ({"C:\\x.csv": GOOD_CSV}, "unsafe_path"),
        ({"in.zip": zip_of({"t.csv": GOOD_CSV})}, "nested"),
        ({"in.csv.gz": gzip.compress(GOOD_CSV)}, "nested"),
    ],
)
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_an_unsafe_member_is_a_bad_file_and_the_others_are_read(
    tmp_path: Path, pack: Any, members: dict[str, bytes], reason: str
) -> None:
    archive = {"t.zip" if pack is zip_of else "t.tar": pack({**members, "z.csv": GOOD_CSV})}
    made = read(tmp_path, archive)
    assert (made.reasons, len(made.rows)) == ([reason], 5)
    with pytest.raises(errors.InvalidData):
        read(tmp_path, archive, on_bad_file="fail")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_passed_over_and_counted(tmp_path: Path, kind: bytes) -> None:
    made = read(tmp_path, {"t.tar": tar_of({"x.csv": link(kind), "z.csv": GOOD_CSV})}, on_bad_file="fail")
    assert (len(made.rows), sum(made.counts[0]["files"].values())) == (5, 1)


def test_a_link_in_a_zip_is_passed_over(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        info = zipfile.ZipInfo("x.csv")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    made = read(tmp_path, {"t.zip": sink.getvalue(), "z.csv": GOOD_CSV}, on_bad_file="fail")
    assert (len(made.rows), made.counts[0]["files"]) == (5, {"link": 1})


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_members_of_kinds_that_are_not_read_are_counted_and_named(tmp_path: Path, pack: Any) -> None:
    name = "t.zip" if pack is zip_of else "t.tar"
    archive = {name: pack({"a.txt": b"a text", "b.pdf": b"%PDF", "c.txt": b"more", "notes": b"?", ".hidden": b"x"})}
    made = read(tmp_path, archive)
    assert made.column("text") == ["a text", "more"]
    assert made.counts[0]["files"] == {"other_kind": 2}
    assert [(row["path"], row["kind"]) for row in made.bad] == [(f"{name}/b.pdf", "file"), (f"{name}/notes", "file")]
    assert f"{name}/b.pdf is of a kind that is not read: it was left out." == made.bad[0]["message"]
    assert read(tmp_path, archive, on_bad_file="fail").counts[0]["files"] == {"other_kind": 2}
    texts_alone = read(tmp_path, {name: pack({"a.txt": b"a text", "b.json": b"{}"})}, formats=["archive", "text"])
    assert texts_alone.counts[0]["files"] == {"other_kind": 1}


def test_an_archive_of_nothing_that_is_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidData, match=r"none of what is in it was read \(other_kind 2\)"):
        clean(tmp_path, {"t.tar": tar_of({"a.pdf": b"%PDF", "b.docx": b"PK"})})


def test_an_archive_of_too_many_members_is_a_bad_file(tmp_path: Path) -> None:
    shard = {f"{i}.txt": b"a text" for i in range(20)}
    assert read(tmp_path / "zip", {"t.zip": zip_of(shard)}, max_members=10).reasons == ["members"]
    assert read(tmp_path / "tar", {"t.tar": tar_of(shard)}, max_members=10).reasons == ["members"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png_of(60_000, 60_000), "pixels"),
        (b"GIF89a" + b"\xff\xff\xff\xff" + bytes(20), "pixels"),
        (b"<svg/>", "format"),
        (b"", "empty"),
        (png_of(1, 1) + bytes(2000), "too_long"),
    ],
)
def test_a_hostile_image_is_a_bad_row(tmp_path: Path, content: bytes, reason: str) -> None:
    files = {"a/1.png": png_of(2, 2), "a/2.png": content, "b/3.png": png_of(2, 2)}
    made = read(tmp_path / "folder", files, max_row_bytes=1500)
    assert (made.reasons, made.bad[0]["path"], made.column("label"), made.numbers) == (
        [reason], "a/2.png", ["a", "b"], [0, 2],
    )  # fmt: skip
    shard = read(tmp_path / "shard", {"t.tar": tar_of(files)}, max_row_bytes=1500)
    assert (shard.reasons, shard.column("label"), shard.numbers) == ([reason], ["a", "b"], [0, 2])


@pytest.mark.parametrize(("name", "head"), [("t.jsonl", b'{"a": 1}\n'), ("t.csv", b"a\n1\n"), ("t.txt", b"a text\n")])
def test_a_line_of_ten_gigabytes_is_not_read_to_its_end_where_it_fails_the_run(
    tmp_path: Path, name: str, head: bytes
) -> None:
    with (tmp_path / name).open("wb") as out:  # a hole, of which the disk holds nothing
        out.write(head)
        out.seek(10 * 2**30)
        out.write(b"\n" + head)
    files = Files({name: (tmp_path / name).stat().st_size}, lambda path: tmp_path / path)
    begin = time.process_time()
    with pytest.raises(errors.InvalidData, match=f"{name}, line [23]: a row is longer than 1048576 bytes"):
        read(tmp_path, files, on_bad_row="fail", text_unit="line", max_row_bytes=2**20, bytes_per_part=64 * 2**20)
    assert time.process_time() - begin < 2


HOSTILE = {
    "line": """
with open(path := root / "t.jsonl", "wb") as out:
    out.write(b'{"a": 1}\\n')
    out.seek(2**28)  # a line of 256 MiB, of which the disk holds nothing
    out.write(b'\\n{"a": 2}\\n')
""",
    "csv line": """
with open(path := root / "t.csv", "wb") as out:
    out.write(b'a\\n1\\n')
    out.seek(2**28)
    out.write(b'\\n2\\n')
""",
    "csv quote": """
with open(path := root / "t.csv", "wb") as out:
    out.write(b'a\\n1\\n"\\n')
    for _ in range(20):
        out.write((b"x" * 1023 + b"\\n") * 2**10)
""",
    "document": """
with open(path := root / "t.txt", "wb") as out:
    out.truncate(2**28)
""",
    "json": """
with open(path := root / "t.json", "wb") as out:
    out.write(b'[{"a": 1}, {"a": 2}, "')
    for _ in range(80):
        out.write(b'x' * 2**20)
""",
    "gzip": """
import gzip
with gzip.open(path := root / "t.jsonl.gz", "wb", compresslevel=1) as out:
    out.write(b'{"a": 1}\\n{"a": 2}\\n')
    for _ in range(80):
        out.write(bytes(2**20))
""",
    "zip": """
import zipfile
with zipfile.ZipFile(path := root / "t.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    archive.writestr("a.jsonl", b'{"a": 1}\\n{"a": 2}\\n')
    with archive.open("b.jsonl", "w") as out:
        for _ in range(80):
            out.write(bytes(2**20))
""",
    "tar header": """
import tarfile
info = tarfile.TarInfo("x")
info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**28
with open(path := root / "t.tar", "wb") as out:
    member = tarfile.TarInfo("a.jsonl")
    member.size = len(rows := b'{"a": 1}\\n{"a": 2}\\n')
    out.write(member.tobuf() + rows.ljust(512, b"\\0"))
    out.write(info.tobuf())
    out.seek(2**28)
    out.write(b"x")
""",
    "parquet repeats": """
import pyarrow as pa, pyarrow.parquet as pq
column = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * 2**20]))
pq.write_table(pa.table({"a": column}), path := root / "t.parquet", compression="zstd")
""",
}  # fmt: skip

PROLOGUE = """
import resource, sys
from collections.abc import Sequence
from pathlib import Path
import pyarrow as pa
from millrace_cleaning.read import Files, Part, Rejects, read_part
from millrace_cleaning.read_settings import ReadConfig
root = Path(sys.argv[1])
"""
EPILOGUE = """
pa.set_memory_pool(pa.system_memory_pool())
config = ReadConfig(on_bad_row="skip", on_bad_file="skip", max_row_bytes=2**20 + 2**10)
rejects = Rejects.of(config)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files = Files({path.name: path.stat().st_size}, lambda name: root / name)
rows = sum(batch.num_rows for batch in read_part(files, Part(path.name), config=config, rejects=rejects))
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
print(rows, sorted([*rejects.rows, *rejects.files]), grown)
"""


CELLS = {
    "t.csv": (b'a,b\n1,2\n"', b'",3\n4,5\n'),
    "t.jsonl": (b'{"a": 1}\n{"a": "', b'"}\n{"a": 2}\n'),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_a_gigabyte_is_a_bad_row_and_memory_stays_bounded(tmp_path: Path, name: str) -> None:
    code = f"""
with open(path := root / {name!r}, "wb") as out:  # a hole, of which the disk holds nothing
    out.write({CELLS[name][0]!r})
    out.seek(2**30)
    out.write({CELLS[name][1]!r})
"""
    by_default = EPILOGUE.replace(", max_row_bytes=2**20 + 2**10", "")
    found, *_, grown = measured(tmp_path, PROLOGUE + code + by_default).split()
    assert (int(found), int(grown) < 400) == (2, True), grown


def measured(root: Path, code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("name", "rows", "reasons", "limit_mib"),
    [
        ("line", 2, ["too_long"], 64), ("csv line", 2, ["too_long"], 64), ("csv quote", 20481, ["quote"], 64),
        ("document", 0, ["too_long"], 64), ("json", 2, ["too_long"], 96), ("gzip", 2, ["bomb"], 64),
        ("zip", 2, ["bomb"], 64), ("tar header", 2, ["truncated"], 64), ("parquet repeats", 5000, [], 640),
    ],
)  # fmt: skip
def test_memory_stays_bounded(tmp_path: Path, name: str, rows: int, reasons: list[str], limit_mib: int) -> None:
    printed = measured(tmp_path, PROLOGUE + HOSTILE[name] + EPILOGUE)
    found, *_, grown = printed.split()
    assert (found, f"{reasons}" in printed) == (str(rows), True), printed
    assert int(grown) <= limit_mib, printed
