"""What a user may say about reading: which files, their encoding, limits, and what becomes of what cannot be read.

Beside the package that reads, and not in it, because this imports pydantic alone.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from millrace.contracts.stages import StageConfig

BadInputPolicy = Literal["fail", "skip", "quarantine"]
Format = Literal["csv", "jsonl", "json", "parquet", "archive", "image", "audio", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)


class ReadConfig(StageConfig):
    """How a source's files are read: a part of the clean stage's `with`."""

    on_bad_row: BadInputPolicy = Field(
        default="fail",
        description="A row that cannot be read (ragged, not JSON, badly encoded, too long): fail the run; skip and count "
        "it; or quarantine: skip it, and keep its bytes with the reason in the `quarantine` artifact.",
    )
    on_bad_file: BadInputPolicy = Field(
        default="fail",
        description="The same for a file (truncated, another format than its name says, a bomb). Rows that came before the "
        "fault are kept.",
    )
    formats: tuple[Format, ...] = Field(
        default=(),
        description="Which kinds of file to read; others are left out. Default: tables and archives if there are any, "
        "else images, else audio, else text.",
    )
    null_values: tuple[str, ...] = Field(
        default=("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?"),
        description="What means null in CSV, and in text where another type was expected.",
    )
    delimiter: str = Field(default="", max_length=1, description="Of CSV; empty: found in the header line.")
    encoding: str = Field(
        default="utf-8",
        description="Of CSV, JSON and text; a byte order mark wins over it. auto: UTF-8, or what the file's first megabyte "
        "looks like.",
    )
    on_bad_encoding: Literal["reject", "replace"] = Field(
        default="reject",
        description="Bytes that are not of the encoding: the row is a bad row, or they become U+FFFD and the row is counted.",
    )
    text_unit: Literal["file", "paragraph", "line"] = Field(
        default="file", description="What is one row of a text file; a paragraph ends at a blank line."
    )
    max_row_bytes: int = Field(
        default=64 * 2**20, ge=1, le=2**30, description="A row of more bytes is a bad row, and is never held in memory."
    )
    max_columns: int = Field(default=10_000, ge=1, description="A file of more columns is a bad file.")
    max_archive_ratio: float = Field(
        default=200.0,
        gt=1,
        description="A compressed file that gives more than so many bytes for each of its own is taken for a bomb (after "
        "64 MiB of output; text gives 3 to 20).",
    )
    max_archive_bytes: int = Field(
        default=256 * 2**30, ge=1, description="What one compressed file or archive may give in all, in bytes."
    )
    max_members: int = Field(default=1_000_000, ge=1, description="An archive of more members is a bad file.")
    max_pixels: int = Field(
        default=100_000_000,
        ge=1,
        description="An image whose header says more pixels is a bad row; its pixels are never decoded.",
    )

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode("utf-8" if value == "auto" else value)
        except LookupError:
            raise ValueError(f"no encoding {value!r}; such as utf-8, latin-1, cp1252, utf-16, auto") from None
        return value
