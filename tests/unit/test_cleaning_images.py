"""Steps over images: what is removed, what is cut out of the bytes, and which pictures look alike."""

from __future__ import annotations

import io
import zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, PngImagePlugin

from cleaning_runs import clean
from millrace_cleaning.convert import BYTES_TYPE
from millrace_cleaning.near_images import lookalikes, lookalikes_among
from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.images import checking, hashing, normalizing
from millrace_cleaning.steps.images.metadata import strip
from millrace_cleaning.steps.images.settings import CheckImages, HashImages, NormalizeImages

SECRET = b"at home, 52.5163 north"


def picture(width: int = 96, height: int = 64, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A smooth picture with some structure, unlike that of another seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def exif(*, turn: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = turn
    found[0x010E] = SECRET.decode()
    found.get_ifd(0x8825)[29] = SECRET.decode()  # of GPS, the date
    return found


def with_secrets(format_: str, *, turn: int = 1) -> bytes:
    """An image whose bytes say where it was taken, in every way that its format has."""
    image = picture()
    if format_ == "JPEG":
        data = encoded(image, "JPEG", exif=exif(turn=turn), comment=SECRET, xmp=SECRET)
        return data + encoded(image, "JPEG", exif=exif())  # as telephones append a film or a second picture
    if format_ == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("place", SECRET.decode())
        texts.add_itxt("XML:com.adobe.xmp", SECRET.decode())
        return encoded(image, "PNG", exif=exif(turn=turn), pnginfo=texts) + SECRET
    if format_ == "GIF":
        return encoded(image, "GIF", comment=SECRET)
    return encoded(image, format_, exif=exif(turn=turn), **({"xmp": SECRET} if format_ == "WEBP" else {}))


def column(*contents: bytes | None, paths: list[str] | None = None) -> pa.RecordBatch:
    rows = [
        None if data is None else {"bytes": data, "path": paths[i] if paths else None}
        for i, data in enumerate(contents)
    ]
    return pa.record_batch({"image": pa.array(rows, BYTES_TYPE)})


def judged(batch: pa.RecordBatch, **config: Any) -> list[tuple[int, str, str, float, float | None]]:
    outcome = checking.apply(batch, CheckImages(column="image", **config), Scratch())
    assert outcome.batch.equals(batch)
    return [(f["row"], f["action"], f["rule"], f["value"], f["limit"]) for f in outcome.findings.table().to_pylist()]


def normal(data: bytes, **config: Any) -> tuple[bytes, list[str]]:
    outcome = normalizing.apply(column(data), NormalizeImages(column="image", **config), Scratch())
    return outcome.batch.column("image")[0].as_py()["bytes"], [f["rule"] for f in outcome.findings.table().to_pylist()]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_a_sound_image_and_a_null_have_no_finding() -> None:
    assert judged(column(encoded(picture(), "PNG"), None, encoded(picture(mode="L"), "JPEG"))) == []


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_truncated_image_is_undecodable(format_: str) -> None:
    data = encoded(picture(), format_)
    found = judged(column(data[: len(data) // 2], data))
    assert [(row, action, rule) for row, action, rule, *_ in found] == [(0, "removed", "undecodable")]


def test_text_nothing_and_an_unlisted_format_are_no_images() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"  # Pillow would start Ghostscript for it
    assert [f[2] for f in judged(column(b"hello", b"", script))] == ["undecodable"] * 3
    assert [f[2] for f in judged(column(encoded(picture(), "BMP")), formats=["png"])] == ["format"]


def test_each_limit_is_said_with_what_was_measured() -> None:
    wide = column(encoded(picture(200, 20), "PNG"))
    assert judged(wide, min_side=32, action="flag") == [(0, "flagged", "min_side", 20, 32)]
    assert judged(wide, max_side=128) == [(0, "removed", "max_side", 200, 128)]
    assert judged(wide, max_aspect=4) == [(0, "removed", "max_aspect", 10, 4)]
    assert judged(wide, max_pixels=3999) == [(0, "removed", "pixels", 4000, 3999)]


def test_modes_and_animations_are_judged() -> None:
    frames = [picture(seed=i) for i in range(3)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert judged(column(moving)) == [(0, "removed", "max_frames", 3, 1)]
    rows = column(encoded(picture(mode="CMYK"), "JPEG"), encoded(picture().convert("P"), "PNG"))
    assert [f[2] for f in judged(rows, modes=["RGB", "L"])] == ["mode"] * 2


def test_a_wrong_extension_is_flagged() -> None:
    rows = column(encoded(picture(), "PNG"), encoded(picture(), "PNG"), paths=["a/b.jpg", "a/b.PNG"])
    assert [f[:3] for f in judged(rows)] == [(0, "flagged", "extension")]


def test_a_decompression_bomb_is_told_by_its_header() -> None:
    data = bytearray(encoded(Image.new("1", (60_000, 30)), "PNG"))
    data[20:24] = (60_000).to_bytes(4)  # 3.6 billion pixels
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    assert [f[2] for f in judged(column(bytes(data)))] == ["pixels"]
    assert normal(bytes(data))[1] == ["pixels"]
    honest = encoded(Image.new("1", (9000, 9000)), "PNG")
    assert [f[2:] for f in judged(column(honest))] == [("pixels", 81e6, 64e6)]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_metadata_goes_and_pixels_stay_as_they_were_encoded(format_: str) -> None:
    data = with_secrets(format_)
    assert SECRET in data
    bare, rules = normal(data)
    assert SECRET not in bare
    assert b"Exif" not in bare
    assert rules == ["metadata"]
    assert opened(bare).tobytes() == opened(data).tobytes()
    assert normal(bare) == (bare, [])


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_stripping_leaves_a_bare_file_untouched(format_: str) -> None:
    data = encoded(picture(), format_)
    assert strip(data, format_.lower(), keep_icc=False) == data


def test_a_progressive_jpeg_with_restarts_is_stripped() -> None:
    data = encoded(picture(400, 300), "JPEG", progressive=True, restart_marker_blocks=2, comment=SECRET)
    bare, _ = normal(data)
    assert SECRET not in bare
    assert opened(bare).tobytes() == opened(data).tobytes()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(2, 9))
def test_a_turned_image_is_set_upright_and_says_nothing_more(format_: str, turn: int) -> None:
    bare, rules = normal(with_secrets(format_, turn=turn), quality=95)
    assert SECRET not in bare
    assert ("orientation" if format_ != "TIFF" else "format") in rules  # the decoder of TIFF turns by itself
    image = opened(bare)
    assert image.size == ((64, 96) if turn >= 5 else (96, 64))
    assert not image.getexif()


def test_a_colour_profile_stays_if_asked() -> None:
    data = encoded(picture(), "JPEG", icc_profile=b"profile" * 9, comment=SECRET)
    assert "icc_profile" not in opened(normal(data)[0]).info
    assert opened(normal(data, keep_icc=True)[0]).info["icc_profile"] == b"profile" * 9


def test_gif_bmp_and_tiff_become_png() -> None:
    for format_ in ("GIF", "BMP", "TIFF"):
        data = with_secrets(format_) if format_ != "BMP" else encoded(picture(), "BMP")
        bare, rules = normal(data)
        assert bare.startswith(b"\x89PNG")
        assert SECRET not in bare
        assert rules == ["format"]


def test_mode_size_and_format_are_as_asked() -> None:
    image = opened(normal(encoded(picture(300, 200, mode="CMYK"), "JPEG"), mode="RGB", max_side=60, format="webp")[0])
    assert (image.mode, image.size, image.format) == ("RGB", (60, 40), "WEBP")
    assert opened(normal(encoded(picture(), "PNG"), mode="L")[0]).mode == "L"


def test_what_is_transparent_shows_the_background() -> None:
    clear = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG")
    assert opened(normal(clear, mode="RGB", background="#0000ff")[0]).getpixel((3, 3)) == (0, 0, 255)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((8, 8), 32_768, dtype=np.uint16))
    value = opened(normal(encoded(grey, "PNG"), mode="L")[0]).getpixel((0, 0))
    assert value in (127, 128)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_damaged_bytes_never_raise_and_never_keep_what_they_hid(format_: str) -> None:
    data = with_secrets(format_) if format_ != "BMP" else encoded(picture(), "BMP")
    rng = np.random.default_rng(7)
    damaged = []
    for _ in range(25):
        copy = np.frombuffer(data, dtype=np.uint8).copy()
        copy[rng.integers(0, len(copy), rng.integers(1, 9))] = rng.integers(0, 256)
        damaged.append(copy[: rng.integers(1, len(copy) + 1)].tobytes())
    batch = column(*damaged)
    judged(batch)
    outcome = normalizing.apply(batch, NormalizeImages(column="image"), Scratch())
    gone = outcome.findings.removed(len(damaged))
    kept = [row["bytes"] for row, is_gone in zip(outcome.batch["image"].to_pylist(), gone, strict=True) if not is_gone]
    assert not any(SECRET in content for content in kept)
    hashing.apply(batch, HashImages(column="image"), Scratch())


def hashes_of(*images: bytes | None, algorithm: str = "phash") -> list[int | None]:
    config = HashImages.model_validate({"step": "hash_images", "column": "image", "algorithm": algorithm})
    batch = hashing.apply(column(*images), config, Scratch()).batch
    found: list[int | None] = batch.column(f"image_{algorithm}").to_pylist()
    return found


def distance(left: int | None, right: int | None) -> int:
    assert left is not None
    assert right is not None
    return ((left ^ right) & (2**64 - 1)).bit_count()


@pytest.mark.parametrize("algorithm", ["phash", "dhash"])
def test_edited_copies_hash_alike_and_other_pictures_do_not(algorithm: str) -> None:
    image = picture(480, 320, seed=5)
    copies = [
        encoded(image, "PNG"),
        encoded(image, "JPEG", quality=40),
        encoded(image.resize((200, 133)), "JPEG"),
        encoded(image.filter(ImageFilter.GaussianBlur(2)), "PNG"),
        encoded(image.point(lambda value: value * 0.9), "PNG"),
    ]
    first, *others = hashes_of(*copies, algorithm=algorithm)
    assert all(distance(first, other) <= 6 for other in others)
    strangers = hashes_of(*(encoded(picture(480, 320, seed=i), "PNG") for i in range(6, 16)), algorithm=algorithm)
    assert min(distance(first, other) for other in strangers) > 12


def test_what_does_not_decode_has_no_hash() -> None:
    flat = encoded(Image.new("RGB", (40, 40), "red"), "PNG")
    assert [found is None for found in hashes_of(b"no image", None, flat)] == [True, True, False]


def naive_clusters(hashes: list[int], max_distance: int) -> list[int]:
    names = list(range(len(hashes)))
    for i, j in combinations(range(len(hashes)), 2):
        if (hashes[i] ^ hashes[j]).bit_count() <= max_distance:
            low, high = sorted((names[i], names[j]))
            names = [low if name == high else name for name in names]
    return names


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=9)), max_size=25),
    st.integers(0, 16),
)
@settings(deadline=None, max_examples=150)
def test_clusters_are_those_of_all_pairs(bases: list[int], edits: list[tuple[int, set[int]]], limit: int) -> None:
    hashes = bases + [bases[base % len(bases)] ^ sum(1 << bit for bit in bits) for base, bits in edits]
    found = lookalikes(np.array(hashes, dtype=np.uint64), max_distance=limit)
    assert found.first.tolist() == naive_clusters(hashes, limit)
    for i, (one, nearest) in enumerate(zip(hashes, found.distance.tolist(), strict=True)):
        distances = [(one ^ other).bit_count() for j, other in enumerate(hashes) if j != i]
        assert nearest == min((d for d in distances if d <= limit), default=64)


def test_a_hundred_thousand_hashes_have_the_clusters_that_were_planted() -> None:
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
    bits = np.uint64(1) << rng.integers(0, 64, (4, 20_000), dtype=np.uint64)
    copies = [base ^ bits[0], base ^ bits[1] ^ bits[2], base ^ bits[3]]
    found = lookalikes(np.concatenate([base, *copies, base]), max_distance=6).first
    assert (found.reshape(5, -1) == np.arange(20_000)).all()


def test_no_hash_has_no_cluster() -> None:
    assert lookalikes(np.empty(0, dtype=np.uint64), max_distance=6).first.tolist() == []


def test_rows_without_a_hash_and_rows_that_are_gone_stay_alone() -> None:
    hashes = pa.chunked_array([pa.array([0b111, None], pa.uint64()), pa.array([0b111, None, 0b110], pa.uint64())])
    found = lookalikes_among(hashes, alive=np.array([False, True, True, True, True]), max_distance=2)
    assert found.first.tolist() == [0, 1, 2, 3, 2]
    assert found.distance.tolist() == [64, 64, 1, 64, 1]


def test_lookalikes_go_across_files_however_many_tasks_there_are(tmp_path: Path) -> None:
    contents = [encoded(picture(seed=i), "PNG") for i in range(30)]
    contents += [encoded(picture(seed=i), "JPEG", quality=60) for i in range(10)]
    table = pa.table({"image": pa.array([{"bytes": data, "path": None} for data in contents], BYTES_TYPE),
                      "y": [str(i % 2) for i in range(40)]})  # fmt: skip
    files = {"a.parquet": table.slice(0, 25), "b.parquet": table.slice(25)}
    asked: dict[str, Any] = {"target": "y", "near_dedup": {"column": "image"}}
    at_once = clean(tmp_path / "once", files, **asked)
    in_parts = clean(tmp_path / "parts", files, bytes_per_task=1, **asked)
    assert at_once.summary["removed"] == {"near_duplicate": 10}
    assert at_once.ref == in_parts.ref


def test_a_recipe_strips_a_data_set_of_where_its_pictures_were_taken(tmp_path: Path) -> None:
    contents = [with_secrets("JPEG") if i == 7 else encoded(picture(seed=i + 1), "JPEG") for i in range(20)]
    table = pa.table({"image": pa.array([{"bytes": data, "path": None} for data in [*contents, b"broken"]], BYTES_TYPE),
                      "y": [str(i % 2) for i in range(21)]})  # fmt: skip
    made = clean(
        tmp_path, {"a.parquet": table}, target="y", near_dedup=None,
        steps=[{"step": "normalize_images"}, {"step": "check_images"}, {"step": "hash_images"}],
    )  # fmt: skip
    assert made.summary["removed"] == {"normalize_images.undecodable": 1}
    assert not any(SECRET in row["bytes"] for row in made.rows("image"))
    assert made.column("image_phash").role == "ignore"
