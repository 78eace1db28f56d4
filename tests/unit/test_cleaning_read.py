"""Every kind of input gives the rows that are in it: by itself, packed, in archives, and cut into parts."""

from __future__ import annotations

import gzip
import io
import json
import wave
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from millrace import errors
from millrace_cleaning.read.files import data_files, format_of
from millrace_cleaning.read.pixels import image_size
from reading_runs import lay, parquet_of, png_of, read, tar_of, zip_of

ROWS = [{"a": str(i), "b": f"t{i}"} for i in range(7)]
CSV = b"a,b\n" + b"".join(f"{r['a']},{r['b']}\n".encode() for r in ROWS)
JSONL = b"".join(json.dumps(r).encode() + b"\n" for r in ROWS)
TABLES = {
    "csv": CSV,
    "tsv": CSV.replace(b",", b"\t"),
    "jsonl": JSONL,
    "json": json.dumps(ROWS, indent=1).encode(),
    "parquet": parquet_of(pa.Table.from_pylist(ROWS)),
}


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def wav() -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(200))
    return sink.getvalue()


@pytest.mark.parametrize("suffix", TABLES)
def test_a_table_is_read_in_each_format(tmp_path: Path, suffix: str) -> None:
    assert read(tmp_path, {f"t.{suffix}": TABLES[suffix]}).rows == ROWS


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize(("end", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_packed_table_is_read(tmp_path: Path, suffix: str, end: str, pack: Any) -> None:
    content = TABLES[suffix]
    half = len(content) // 2
    assert read(tmp_path, {f"t.{suffix}{end}": pack(content[:half]) + pack(content[half:])}).rows == ROWS


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.zip", zip_of),
        ("t.tar", tar_of),
        ("t.tgz", lambda m: tar_of(m, mode="w:gz")),
        ("t.tar.zst", lambda m: zstd(tar_of(m))),
    ],
)
@pytest.mark.parametrize("suffix", TABLES)
def test_a_table_is_read_in_each_archive(tmp_path: Path, name: str, pack: Any, suffix: str) -> None:
    made = read(tmp_path, {name: pack({f"in/one.{suffix}": TABLES[suffix], f"in/two.{suffix}": TABLES[suffix]})})
    assert (made.rows, made.numbers) == (ROWS * 2, list(range(14)))


@pytest.mark.parametrize(
    "document",
    [{"data": ROWS}, {"data": ROWS, "version": 2}, ROWS],
    ids=["wrapped", "wrapped and more", "array"],
)
def test_a_json_document_is_an_array_or_has_one(tmp_path: Path, document: Any) -> None:
    assert read(tmp_path, {"t.json": json.dumps(document).encode()}).rows == ROWS


def test_one_json_object_is_one_row(tmp_path: Path) -> None:
    assert read(tmp_path, {"t.json": b' {"a": 1, "b": [1, 2]} '}).rows == [{"a": 1, "b": [1, 2]}]


def test_a_json_document_is_read_beyond_its_first_window(tmp_path: Path) -> None:
    rows = [{"n": i, "t": "ä" * 40_000} for i in range(80)]
    assert read(tmp_path, {"t.json": json.dumps(rows, ensure_ascii=False).encode()}).rows == rows


@pytest.mark.parametrize(
    ("unit", "texts"),
    [("file", ["a\nb\n\n \nc"]), ("paragraph", ["a\nb", "c"]), ("line", ["a", "b", "c"])],
)
def test_text_is_a_row_for_each_unit(tmp_path: Path, unit: str, texts: list[str]) -> None:
    assert read(tmp_path, {"t.txt": b"a\nb\n\n \nc\n"}, text_unit=unit).column("text") == texts


def test_texts_in_folders_have_labels(tmp_path: Path) -> None:
    made = read(tmp_path, {"pos/1.txt": b"good", "neg/1.txt": b"bad", "neg/2.txt": b" \n"})
    assert made.rows == [{"text": "bad", "label": "neg"}, {"text": "good", "label": "pos"}]


def test_images_in_folders_have_labels_and_keep_their_bytes(tmp_path: Path) -> None:
    made = read(tmp_path, {"cat/1.png": png_of(2, 3), "dog/1.PNG": png_of(4, 5), "README.md": b"About."})
    assert made.column("label") == ["cat", "dog"]
    assert made.rows[1]["image"] == {"bytes": png_of(4, 5), "path": "dog/1.PNG"}


def test_sounds_of_one_folder_have_no_label(tmp_path: Path) -> None:
    made = read(tmp_path, {"a/1.wav": wav(), "a/2.wav": wav()})
    assert made.rows[0] == {"audio": {"bytes": wav(), "path": "a/1.wav"}}


def test_many_small_files_are_few_parts(tmp_path: Path) -> None:
    source = lay(tmp_path, {f"{i % 2}/{i:03d}.png": png_of(i + 1, 1) for i in range(100)})
    whole, cut = read(tmp_path, source), read(tmp_path, source, bytes_per_part=1000)
    assert (len(whole.parts), len(cut.parts)) == (1, 4)
    assert whole.rows == cut.rows


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_members_under_one_stem_are_one_row(tmp_path: Path, pack: Any) -> None:
    shard = {
        "0001.png": png_of(2, 2), "0001.cls": b"3\n", "0001.json": b'{"by": "me"}',
        "0002.png": png_of(3, 3), "0002.cls": b"5", "0002.txt": b"a caption",
    }  # fmt: skip
    made = read(tmp_path, {"shard-0.zip" if pack is zip_of else "shard-0.tar": pack(shard)})
    assert [(r["label"], r["by"], r["text"]) for r in made.rows] == [("3", "me", None), ("5", None, "a caption")]
    assert made.rows[0]["image"]["bytes"] == png_of(2, 2)


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_two_texts_whose_names_begin_alike_are_two_rows(tmp_path: Path, pack: Any) -> None:
    made = read(tmp_path, {"t.zip" if pack is zip_of else "t.tar": pack({"v1.0.txt": b"old", "v1.1.txt": b"new"})})
    assert made.column("text") == ["old", "new"]


def test_an_archive_of_folders_of_images_has_labels(tmp_path: Path) -> None:
    made = read(tmp_path, {"t.zip": zip_of({"x/cat/1.png": png_of(1, 1), "x/dog/1.png": png_of(1, 1)})})
    assert made.column("label") == ["cat", "dog"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_size_of_an_image_is_in_its_header(kind: str) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (37, 21)).save(sink, kind)
    assert image_size(sink.getvalue()) == (37, 21)


@pytest.mark.parametrize("cut", [0, 3, 9, 11, 20, 25])
def test_a_header_that_breaks_off_is_no_image(cut: int) -> None:
    assert image_size(png_of(5, 5)[:20][:cut]) is None


def test_tables_are_read_before_media_and_text() -> None:
    paths = ["t.csv", "t.jsonl.gz", "a/1.png", "notes.md", "_log/t.csv", "_SUCCESS", ".x/t.csv", "x.bin"]
    assert data_files(paths) == (["t.csv", "t.jsonl.gz"], ["a/1.png", "notes.md", "x.bin"])
    assert data_files(paths, formats=["image"])[0] == ["a/1.png"]
    with pytest.raises(errors.InvalidData, match="no data file of the formats audio"):
        data_files(paths, formats=["audio"])


def test_a_name_with_a_low_line_is_data_if_it_ends_as_data_does(tmp_path: Path) -> None:
    texts = {"_a.txt": b"one", "b/_c.txt": b"two", "_SUCCESS": b"", ".d.txt": b"-", "__MACOSX/e.txt": b"-"}
    assert data_files(list(texts))[0] == ["_a.txt", "b/_c.txt"]
    assert [row["text"] for row in read(tmp_path, {"t.zip": zip_of(texts)}).rows] == ["one", "two"]


@pytest.mark.parametrize("path", ["t.parquet.gz", "a.png.zst", "a.zip.gz", "t.gz", "README"])
def test_what_is_packed_twice_or_unknown_is_not_read(path: str) -> None:
    assert format_of(path) is None


@pytest.mark.parametrize(
    ("encoding", "asked"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-8"), ("utf-16", "auto"), ("utf-32", "utf-8"),
     ("latin-1", "latin-1"), ("cp1252", "auto"), ("utf-8", "auto"), ("utf-16-le", "utf-16-le")],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "txt"])
def test_an_encoding_is_marked_asked_for_or_found(tmp_path: Path, encoding: str, asked: str, suffix: str) -> None:
    words = "Müller größer façade déjà été Straße für über " * 20
    texts = {"csv": f"text\n{words}\n", "jsonl": json.dumps({"text": words}, ensure_ascii=False), "txt": words}
    texts["json"] = f"[{texts['jsonl']}]"
    made = read(tmp_path, {f"t.{suffix}": texts[suffix].encode(encoding)}, encoding=asked)
    assert [text.strip() for text in made.column("text")] == [words.strip()]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_bytes_of_another_encoding_are_replaced_and_counted(tmp_path: Path, suffix: str) -> None:
    row = b'{"text": "gr\xfcn"}\n' if suffix == "jsonl" else b"gr\xfcn\n"
    good = b'{"text": "gut"}\n' if suffix == "jsonl" else b"gut\n"
    content = (b"text\n" if suffix == "csv" else b"") + good + row + good
    made = read(tmp_path, {f"t.{suffix}": content}, on_bad_encoding="replace", text_unit="line")
    assert made.column("text") == ["gut", "gr\ufffdn", "gut"]
    assert made.counts[0]["replaced"] == 1


def test_nested_json_does_not_depend_on_other_rows(tmp_path: Path) -> None:
    lines = b'{"a": {"y": 1, "x": 2}}\n{"a": {"z": 1.0}}\n{"b": 1}\n'
    assert read(tmp_path, {"t.jsonl": lines}).column("a") == ['{"x":2,"y":1}', '{"z":1.0}', None]


def test_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_cleaning.read.rows.BYTES_PER_BATCH", 1000)
    monkeypatch.setattr("millrace_cleaning.read.groups.BYTES_PER_BATCH", 1000)
    texts = ["x" * 400] * 20
    for name, content in {
        "t.jsonl": b"".join(json.dumps({"t": t}).encode() + b"\n" for t in texts),
        "t.parquet": parquet_of(pa.table({"t": texts})),
    }.items():
        source = lay(tmp_path / name.replace(".", "_"), {name: content})
        assert max(_batch_sizes(source)) <= 3
        assert read(tmp_path, source).column("t") == texts


def _batch_sizes(source: Any) -> list[int]:
    from millrace_cleaning.read import Part, Rejects, read_part
    from millrace_cleaning.read_settings import ReadConfig

    (path,) = source.sizes
    return [b.num_rows for b in read_part(source, Part(path), config=ReadConfig(), rejects=Rejects())]


CELLS = st.text(alphabet='ab,"\n\r ;é', max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=30), step=st.integers(20, 60))
def test_csv_cut_anywhere_gives_the_same_rows(tmp_path_factory: pytest.TempPathFactory, rows: Any, step: int) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    content = "x,y\n" + "".join(f"{quoted(a)},{quoted(b)}\n" for a, b in rows)
    made = read(tmp_path_factory.mktemp("csv"), {"t.csv": content.encode()}, bytes_per_part=step)
    assert [(r["x"], r["y"]) for r in made.rows] == rows
    assert made.numbers == list(range(len(rows)))


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab \né", max_size=8), max_size=20), step=st.integers(5, 60))
@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_text_cut_anywhere_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, unit: str, texts: list[str], step: int
) -> None:
    source = lay(tmp_path_factory.mktemp("txt"), {"t.txt": "\n".join(texts).encode()})
    root = tmp_path_factory.getbasetemp()
    assert read(root, source, text_unit=unit, bytes_per_part=step).rows == read(root, source, text_unit=unit).rows


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("step", [10, 20, 30])
def test_a_large_file_is_cut_into_parts_and_rows_keep_their_numbers(tmp_path: Path, suffix: str, step: int) -> None:
    tables = {**TABLES, "parquet": parquet_of(pa.Table.from_pylist(ROWS), row_group_size=2)}
    made = read(tmp_path, {f"t.{suffix}": tables[suffix]}, bytes_per_part=step)
    assert len(made.parts) > 1
    assert (made.rows, made.numbers) == (ROWS, list(range(7)))


def test_a_quote_that_leaves_doubt_keeps_a_file_whole(tmp_path: Path) -> None:
    content = b"a,b\n" + b'5" tube,x\n' * 50 + b'"1\n2",y\n'
    made = read(tmp_path, {"t.csv": content}, bytes_per_part=40)
    assert (len(made.parts), len(made.rows), made.rows[0]["a"], made.rows[50]["a"]) == (1, 51, '5" tube', "1\n2")
