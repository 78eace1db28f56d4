"""Errors of recipes with private columns: what nobody foresaw is told by its kind, as its text may hold what a row does."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from millrace import errors


@contextmanager
def hiding(*, if_private: bool) -> Iterator[None]:
    """Replace errors that are not Millrace's own, with their text and their traceback.

    Raises:
        StageFailed: Something else was raised in the block; the message has its kind and where it was.
    """
    try:
        yield
    except (errors.MillraceError, MemoryError, OSError):
        raise  # they tell of files and of room, not of rows
    except Exception as error:
        if not if_private:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((f for f in reversed(frames) if "millrace" in f.filename), frames[-1])
        where = f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}"
        raised = type(error).__name__
    else:
        return
    raise errors.StageFailed(
        f"Cleaning raised {raised} ({where}). Its text is not shown, as the recipe has a private column.",
        remedy="Report it with these words; run it without the step `pii` on data that may be shown to see more.",
    ) from None
