"""Identifiers: their own types, and how they are made."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
import time
from typing import Annotated, NewType

from pydantic import StringConstraints

Digest = NewType("Digest", str)
RunId = NewType("RunId", str)
AttemptId = NewType("AttemptId", str)
EventId = NewType("EventId", str)

DEFAULT_TENANT = "default"

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
"""Names of pipelines, stages, endpoints, tenants: they appear in keys, queues and URLs."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
DigestText = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUV", b"abcdefghjkmnpqrstvwxyz")
"""From the standard library's digits to Crockford's, which leave out i, l, o and u."""


def is_name(text: str) -> bool:
    return re.fullmatch(NAME_PATTERN, text) is not None


_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 Crockford base-32 digits: 48 bits of milliseconds, 80 random bits (a monotonic ULID).

    Ids made later sort later, within one process strictly, so a listing by id is a listing by time.
    """
    global _last
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    with _lock:
        if number >> 80 <= _last >> 80:
            number = _last + 1
        _last = number
    return _written(prefix, number)


def derived_run_id(at_s: float, *parts: str) -> RunId:
    """A run's id made of what it is for: the same parts and instant (seconds) give the same id, in order of instants."""
    hashed = hashlib.sha256("\0".join(parts).encode()).digest()[:10]
    return RunId(_written("run", (int(at_s * 1000) << 80) | int.from_bytes(hashed)))


def _written(prefix: str, number: int) -> str:
    # 128 bits are 26 digits of 5 bits with 2 to spare in front; base32 groups from the left, so 30 bits of padding follow.
    digits = base64.b32hexencode((number << 30).to_bytes(20))[:26].translate(_CROCKFORD)
    return f"{prefix}_{digits.decode()}"


def new_run_id() -> RunId:
    return RunId(new_id("run"))


def attempt_id(run_id: str, stage: str, phase: str, index: int, fence: int) -> AttemptId:
    """An attempt's id is derived, so that dispatching twice is naming twice, not making two."""
    return AttemptId(f"{run_id}.{stage}.{phase}.{index}.{fence}")
