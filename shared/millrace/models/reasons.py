"""The one line of a toolkit's exception that says what is wrong."""

from __future__ import annotations


def reason_of(error: BaseException) -> str:
    """The first line that is not about the toolkit's own source; the exception's type if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0]
