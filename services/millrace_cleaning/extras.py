"""Libraries that only some stages need: whoever lacks one is told which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from millrace import errors


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Import in this block what an extra of millrace brings.

    Raises:
        StageFailed: It is not installed here.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("millrace"):
            raise
        raise errors.StageFailed(
            f"This stage needs {error.name or 'a library'}, which is not installed here.",
            remedy=f"pip install 'millrace[{extra}]'",
        ) from error
