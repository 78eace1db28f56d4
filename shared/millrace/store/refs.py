"""What all adapters agree on about refs: how a body is read, and when a write is settled without writing."""

from __future__ import annotations

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.artifacts import Ref


def decode(name: str, body: bytes) -> Ref:
    """Return the ref a body holds. Raises Corrupt: somebody else than Millrace wrote it."""
    try:
        return Ref.received_json(body)
    except ValidationError as error:
        raise errors.Corrupt(
            f"Ref {name} is not readable.", remedy="Restore it from a backup, or remove it.", ref=name
        ) from error


def settled(current: Ref | None, ref: Ref, *, expected: Ref | None) -> bool | None:
    """Say how a compare-and-set ends, given what the name holds now; None if it must be written.

    True when the body is this very write already (a repeat, or an answer that was lost). False when it is another than
    expected, or when the writer's fence is lower than the one there.
    """
    if current is not None and current.nonce == ref.nonce:
        return True
    if current != expected or (current is not None and ref.fence < current.fence):
        return False
    return None
