"""Reading a source's files as raw record batches, whatever they are, with bounded memory; what cannot be read is reported."""

from millrace_cleaning.read.files import Files, data_files, format_of, has_fixed_columns
from millrace_cleaning.read.parts import Part, files_of_rows, parts_of, read_part
from millrace_cleaning.read.rejects import QUARANTINE, BadFile, Rejects

__all__ = [
    "QUARANTINE",
    "BadFile",
    "Files",
    "Part",
    "Rejects",
    "data_files",
    "files_of_rows",
    "format_of",
    "has_fixed_columns",
    "parts_of",
    "read_part",
]
