"""A service of the next version, as it were: its schema has grown, and its messages have fields that nobody knows today.

python -m chaos.next_version conductor        (with tests/ on the path, and the MILLRACE_* variables of the factory)
"""

from __future__ import annotations

import sys
from typing import Any

from millrace.contracts.base import Message
from millrace.ledger import migrating, migrations
from millrace.ledger.migrations import CODE, MIGRATIONS, Migration

NEXT = Migration(
    oldest_code=CODE,
    statements=("ALTER TABLE tasks ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'", "CREATE TABLE colours (name TEXT)"),
    indexes=("CREATE INDEX tasks_by_colour ON tasks (colour)",),
)


def grow() -> None:
    """Make this process one of the next version."""
    grown = (*MIGRATIONS, NEXT)
    migrations.MIGRATIONS = grown
    assert migrating.migrate.__kwdefaults__ is not None
    migrating.migrate.__kwdefaults__["migrations"] = grown
    dump = Message.model_dump

    def with_more(self: Message, **options: Any) -> dict[str, Any]:
        return {**dump(self, **options), "colour": {"name": "grey"}}

    Message.model_dump = with_more  # type: ignore[method-assign, assignment]  # what the next version's classes will do


def main() -> int:
    from millrace.runtime.service import main as service

    grow()
    return service(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
