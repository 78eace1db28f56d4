"""Rows of uploads: what users stored before any run named it, which keeps it from being collected."""

from __future__ import annotations

from millrace.ledger.database import Database, Transaction

_DAY_S = 86400.0


def note_upload(tx: Transaction, tenant: str, digest: str, *, now: float) -> None:
    """Keep an uploaded artifact; uploading it again keeps it anew."""
    tx.run(
        "INSERT INTO uploads (tenant, digest, uploaded_at) VALUES (?,?,?) ON CONFLICT (tenant, digest)"
        " DO UPDATE SET uploaded_at = excluded.uploaded_at",
        (tenant, digest, now),
    )


def is_kept(database: Database, tenant: str, digest: str, *, now: float, days: float, grace_s: float) -> bool:
    """Whether an artifact stays for a grace at least, because it was uploaded lately (days 0: ever) or a run made it."""
    since = now - days * _DAY_S + grace_s if days else 0.0
    return bool(
        database.read(
            "SELECT 1 FROM uploads WHERE tenant = ? AND digest = ? AND uploaded_at >= ?"
            " UNION ALL SELECT 1 FROM artifact_uses WHERE digest = ? AND tenant = ? LIMIT 1",
            (tenant, digest, since, digest, tenant),
        )
    )
