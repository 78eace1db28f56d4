"""What a user is told when stage code raises: one error with one line of cause, and the user's own file and line."""

from __future__ import annotations

import errno
import sysconfig
import traceback
from pathlib import Path

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.faults import path_of, said

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OWN = str(Path(__file__).parents[1])
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def to_error(raised: BaseException, *, stage: str) -> errors.MillraceError:
    """Translate whatever stage code raised. The traceback belongs in the attempt's log, not here."""
    if isinstance(raised, errors.MillraceError):
        return raised
    cause = _one_line(raised)
    if is_out_of_memory(raised):
        return errors.ResourceExhausted(
            f"Stage {stage!r} ran out of memory: {cause}",
            remedy="Give it a smaller batch or model, or a worker with more memory.",
        )
    if isinstance(raised, OSError) and raised.errno in _DISK_FULL:
        return errors.ResourceExhausted(
            f"Stage {stage!r} found the disk full: {cause}", remedy="Free space under MILLRACE_HOME and run it again."
        )
    return errors.StageFailed(
        f"Stage {stage!r} raised {cause}{_where(raised)}.",
        remedy=f"The traceback is in the log of this stage; see `millrace logs RUN --stage {stage}`.",
    )


def to_spec_error(invalid: ValidationError, *, path: str) -> errors.InvalidSpec:
    """The first thing wrong with a configuration, with the path of its field."""
    first = invalid.errors(include_url=False)[0]
    location = ".".join(str(part) for part in path_of(first))
    return errors.InvalidSpec(said(first), field=f"{path}.{location}" if location else path)


def is_out_of_memory(raised: BaseException) -> bool:
    """MemoryError, or what torch raises in its place; torch itself is not imported to know."""
    if isinstance(raised, MemoryError) or type(raised).__name__ == "OutOfMemoryError":
        return True
    return isinstance(raised, RuntimeError) and "can't allocate memory" in str(raised)


def _where(raised: BaseException) -> str:
    """` (file.py:12, in name)` of the innermost frame that is neither a library's nor the runtime's own."""
    frames = traceback.extract_tb(raised.__traceback__)
    users = [f for f in frames if not f.filename.startswith((*_LIBRARIES, _OWN, "<"))]
    for frame in reversed(users or list(frames)):
        return f" ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"
    return ""


def _one_line(raised: BaseException) -> str:
    lines = str(raised).strip().splitlines()
    return f"{type(raised).__name__}: {_short(lines[0])}" if lines else type(raised).__name__


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
