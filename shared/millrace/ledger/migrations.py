"""The ledger's tables, as numbered migrations. A migration, once released, never changes: the next one does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. It expands, so that the code before it goes on beside it, or contracts.

    Expanding are new tables, new columns with defaults that mean what their absence meant, and indexes. What the code
    before still reads or writes goes a release later, by a migration whose `oldest_code` says so.

    Attributes:
        oldest_code: The lowest schema version whose code may use the database from now on.
        statements: Executed in one transaction. They are quick however large the tables are.
        indexes: `CREATE INDEX` of tables that may be large, executed one by one after that. On PostgreSQL nobody waits for them.
        postgres: Statements like the first, for PostgreSQL alone.
    """

    oldest_code: int
    statements: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    postgres: tuple[str, ...] = ()


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        oldest_code=1,
        statements=(
            """CREATE TABLE runs (
                run_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, pipeline TEXT NOT NULL, status TEXT NOT NULL,
                priority INTEGER NOT NULL, labels TEXT NOT NULL, params TEXT NOT NULL, graph TEXT NOT NULL, trace TEXT NOT NULL,
                idempotency_key TEXT NOT NULL, content_digest TEXT NOT NULL, seq INTEGER NOT NULL,
                submitted_at DOUBLE PRECISION NOT NULL, started_at DOUBLE PRECISION, finished_at DOUBLE PRECISION,
                stage TEXT NOT NULL, error TEXT)""",
            "CREATE UNIQUE INDEX runs_by_key ON runs (tenant, idempotency_key) WHERE idempotency_key <> ''",
            "CREATE INDEX runs_by_tenant ON runs (tenant, run_id)",
            """CREATE TABLE stages (
                run_id TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL, status TEXT NOT NULL,
                phase TEXT NOT NULL, round INTEGER NOT NULL, num_tasks INTEGER NOT NULL, num_done INTEGER NOT NULL,
                attempts INTEGER NOT NULL, plan TEXT, outputs TEXT, error TEXT,
                started_at DOUBLE PRECISION, finished_at DOUBLE PRECISION, PRIMARY KEY (run_id, name))""",
            """CREATE TABLE tasks (
                run_id TEXT NOT NULL, stage TEXT NOT NULL, round INTEGER NOT NULL, phase TEXT NOT NULL, idx INTEGER NOT NULL,
                tenant TEXT NOT NULL, status TEXT NOT NULL, fence INTEGER NOT NULL, failures INTEGER NOT NULL,
                nonce TEXT NOT NULL, worker TEXT NOT NULL, service TEXT NOT NULL, resource_class TEXT NOT NULL,
                priority INTEGER NOT NULL, ready_at DOUBLE PRECISION NOT NULL, dispatched_at DOUBLE PRECISION, result TEXT,
                PRIMARY KEY (run_id, stage, round, phase, idx))""",
            """CREATE INDEX tasks_pending ON tasks (service, resource_class, priority DESC, run_id, stage, round, phase, idx)
                WHERE status = 'pending'""",
            "CREATE INDEX tasks_later ON tasks (ready_at) WHERE status = 'pending'",
            """CREATE INDEX tasks_open ON tasks (service, resource_class, status) WHERE status IN ('dispatched', 'running')""",
            """CREATE TABLE events (
                event_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, subject TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL,
                source TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, data TEXT NOT NULL, refused TEXT NOT NULL)""",
            "CREATE UNIQUE INDEX events_in_order ON events (subject, seq)",
            """CREATE TABLE inbox (
                event_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, event TEXT NOT NULL, received_at DOUBLE PRECISION NOT NULL)""",
            "CREATE INDEX inbox_by_run ON inbox (run_id)",
            """CREATE TABLE outbox (
                id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL, owner TEXT NOT NULL,
                created_at DOUBLE PRECISION NOT NULL)""",
            """CREATE TABLE timers (
                timer_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, due_at DOUBLE PRECISION NOT NULL, event TEXT NOT NULL)""",
            "CREATE INDEX timers_due ON timers (due_at)",
            """CREATE TABLE workers (
                worker_id TEXT PRIMARY KEY, host TEXT NOT NULL, services TEXT NOT NULL, classes TEXT NOT NULL,
                seen_at DOUBLE PRECISION NOT NULL)""",
            """CREATE TABLE endpoints (
                tenant TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, release_number INTEGER NOT NULL,
                model TEXT, run_id TEXT NOT NULL, status TEXT NOT NULL, error TEXT, updated_at DOUBLE PRECISION NOT NULL,
                PRIMARY KEY (tenant, name))""",
            """CREATE TABLE endpoint_servers (
                tenant TEXT NOT NULL, name TEXT NOT NULL, server TEXT NOT NULL, url TEXT NOT NULL, generation INTEGER NOT NULL,
                status TEXT NOT NULL, seen_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (tenant, name, server))""",
            """CREATE TABLE releases (
                tenant TEXT NOT NULL, endpoint TEXT NOT NULL, release_number INTEGER NOT NULL, model TEXT NOT NULL,
                run_id TEXT NOT NULL, metrics TEXT NOT NULL, released_at DOUBLE PRECISION NOT NULL,
                PRIMARY KEY (tenant, endpoint, release_number))""",
        ),
    ),
    Migration(
        oldest_code=2,  # Millrace 0.1 refuses messages with fields that it does not know, and this one's have some
        statements=(
            # runs that pause, repeat, wait for each other, or come from a trigger
            "ALTER TABLE runs ADD COLUMN spec TEXT NOT NULL DEFAULT '{}'",
            "ALTER TABLE runs ADD COLUMN cache TEXT NOT NULL DEFAULT 'use'",
            "ALTER TABLE runs ADD COLUMN origin TEXT",
            "ALTER TABLE runs ADD COLUMN max_runs INTEGER",
            # tasks: what they lost, what they wait for, lanes of pending ones, and who holds places and limits
            "ALTER TABLE tasks ADD COLUMN losses INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE tasks ADD COLUMN outages INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE tasks ADD COLUMN limit_key TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE tasks ADD COLUMN limit_max INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE tasks ADD COLUMN cache_key TEXT NOT NULL DEFAULT ''",
            "DROP INDEX tasks_pending",
            "DROP INDEX tasks_later",
            "DROP INDEX tasks_open",
            "CREATE TABLE limits (tenant TEXT NOT NULL, key TEXT NOT NULL, max INTEGER NOT NULL, PRIMARY KEY (tenant, key))",
            """CREATE TABLE dead_letters (
                id TEXT PRIMARY KEY, tenant TEXT NOT NULL, run_id TEXT NOT NULL, stage TEXT NOT NULL, reason TEXT NOT NULL,
                evidence TEXT NOT NULL, died_at DOUBLE PRECISION NOT NULL)""",
            "ALTER TABLE workers ADD COLUMN code TEXT NOT NULL DEFAULT '{}'",
            # what was computed, what is being computed, and who waits for it
            """CREATE TABLE cache_bases (
                base TEXT PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, phase TEXT NOT NULL, fields TEXT NOT NULL,
                created_at DOUBLE PRECISION NOT NULL)""",
            """CREATE TABLE cache (
                cache_key TEXT PRIMARY KEY, base TEXT NOT NULL, tenant TEXT NOT NULL, answer TEXT NOT NULL, run_id TEXT NOT NULL,
                created_at DOUBLE PRECISION NOT NULL, used_at DOUBLE PRECISION NOT NULL)""",
            "CREATE INDEX cache_by_base ON cache (base)",
            "CREATE INDEX cache_by_use ON cache (used_at)",
            """CREATE TABLE cache_uses (
                run_id TEXT NOT NULL, stage TEXT NOT NULL, phase TEXT NOT NULL, round INTEGER NOT NULL, tenant TEXT NOT NULL,
                pipeline TEXT NOT NULL, base TEXT NOT NULL, reason TEXT NOT NULL, num_hits INTEGER NOT NULL,
                num_shared INTEGER NOT NULL, num_misses INTEGER NOT NULL, from_run TEXT NOT NULL,
                PRIMARY KEY (run_id, stage, phase, round))""",
            "CREATE INDEX cache_uses_by_stage ON cache_uses (tenant, pipeline, stage, phase, run_id)",
            """CREATE TABLE computations (
                cache_key TEXT PRIMARY KEY, run_id TEXT NOT NULL, stage TEXT NOT NULL, round INTEGER NOT NULL,
                phase TEXT NOT NULL, idx INTEGER NOT NULL, joined_at DOUBLE PRECISION NOT NULL)""",
            "CREATE INDEX computations_by_run ON computations (run_id)",
            "ALTER TABLE stages ADD COLUMN num_cached INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE stages ADD COLUMN num_redone INTEGER NOT NULL DEFAULT 0",
            # which artifact a stage read and wrote
            """CREATE TABLE artifact_uses (
                digest TEXT NOT NULL, run_id TEXT NOT NULL, stage TEXT NOT NULL, port TEXT NOT NULL, is_output INTEGER NOT NULL,
                tenant TEXT NOT NULL, PRIMARY KEY (digest, run_id, stage, port, is_output))""",
            "CREATE INDEX artifact_uses_by_run ON artifact_uses (run_id)",
            # pipelines that are kept, and what starts them
            """CREATE TABLE pipelines (
                tenant TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, spec TEXT NOT NULL, params TEXT NOT NULL,
                applied_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (tenant, name))""",
            """CREATE TABLE triggers (
                trigger_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, pipeline TEXT NOT NULL, spec TEXT NOT NULL,
                state TEXT NOT NULL, is_paused INTEGER NOT NULL, next_at DOUBLE PRECISION, error TEXT NOT NULL)""",
            "CREATE INDEX triggers_due ON triggers (next_at)",
            # garbage collection: what users uploaded, which ended runs are trimmed (0: whole, 1: begun, 2: done), a row a tenant
            """CREATE TABLE uploads (
                tenant TEXT NOT NULL, digest TEXT NOT NULL, uploaded_at DOUBLE PRECISION NOT NULL,
                PRIMARY KEY (tenant, digest))""",
            "ALTER TABLE runs ADD COLUMN trimmed INTEGER NOT NULL DEFAULT 0",
            """CREATE TABLE collections (
                tenant TEXT PRIMARY KEY, id TEXT NOT NULL, owner TEXT NOT NULL, leased_until DOUBLE PRECISION NOT NULL,
                phase TEXT NOT NULL, cursor_key TEXT NOT NULL, state TEXT NOT NULL,
                started_at DOUBLE PRECISION NOT NULL, finished_at DOUBLE PRECISION)""",
        ),
        indexes=(
            "CREATE INDEX runs_open ON runs (tenant, pipeline, status, run_id) WHERE status IN ('queued', 'running', 'paused')",
            "CREATE INDEX runs_by_status ON runs (tenant, status, run_id)",
            "CREATE INDEX runs_by_pipeline ON runs (tenant, pipeline, run_id)",
            """CREATE INDEX tasks_lanes ON tasks (service, resource_class, tenant, limit_key, priority DESC, run_id, stage, round,
                phase, idx) WHERE status = 'pending'""",
            "CREATE INDEX tasks_later ON tasks (ready_at) WHERE status = 'pending' AND ready_at > 0",
            """CREATE INDEX tasks_open ON tasks (service, resource_class, tenant, run_id)
                WHERE status IN ('dispatched', 'running')""",
            "CREATE INDEX tasks_limited ON tasks (tenant, status, limit_key) WHERE limit_key <> ''",
            """CREATE INDEX tasks_undecided ON tasks (service, resource_class, priority DESC, run_id, stage, round, phase, idx)
                WHERE status = 'undecided'""",
            "CREATE INDEX tasks_subscribed ON tasks (cache_key, priority DESC) WHERE status = 'subscribed'",
            "CREATE INDEX runs_to_trim ON runs (tenant, finished_at) WHERE trimmed < 2 AND finished_at IS NOT NULL",
        ),
        postgres=(
            # each step of a task leaves a dead row where dispatch looks first; the default waits for a fifth of the table
            "ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0)",
            "ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0)",
            "ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0)",
        ),
    ),
)

CODE = len(MIGRATIONS)
"""The schema version that this code was written for."""
