"""Lineage: which stage read and wrote which artifact, walked back to data, code and spec, or forward to endpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from millrace import errors
from millrace.contracts.provenance import LineageNode, LineageView, Maker
from millrace.ledger.database import Database, Transaction

MAX_NODES = 1000
MAX_READERS = 100
"""Stages told of that read one artifact."""

_SHORTEST_PREFIX = 6


class ArtifactUse(NamedTuple):
    """A stage of a run read or wrote an artifact."""

    digest: str
    run_id: str
    stage: str
    port: str
    is_output: int
    tenant: str


def put_uses(tx: Transaction, uses: Iterable[ArtifactUse]) -> None:
    tx.many(
        "INSERT INTO artifact_uses (digest, run_id, stage, port, is_output, tenant) VALUES (?,?,?,?,?,?)"
        " ON CONFLICT (digest, run_id, stage, port, is_output) DO NOTHING",
        sorted(uses),
    )


def lineage(database: Database, tenant: str, asked: str, *, forward: bool) -> LineageView:
    """The trees of what was asked about: a digest or the start of one, a run, or an endpoint.

    Raises:
        NotFound: Nothing is known by that name.
        InvalidInput: The start of a digest fits several artifacts.
    """
    walk = _Walk(database, tenant)
    follow = walk.forward if forward else walk.back
    roots = tuple(follow(digest) for digest in _asked(database, tenant, asked))
    direction: Literal["back", "forward"] = "forward" if forward else "back"
    return LineageView(asked=asked, direction=direction, roots=roots)


def _asked(database: Database, tenant: str, asked: str) -> Sequence[str]:
    if asked.startswith("run_"):
        rows = database.read(
            "SELECT DISTINCT u.digest, s.position FROM artifact_uses u JOIN stages s ON s.run_id = u.run_id AND s.name = u.stage"
            " WHERE u.run_id = ? AND u.tenant = ? AND u.is_output = 1 ORDER BY s.position DESC",
            (asked, tenant),
        )
        found = list(dict.fromkeys(str(digest) for digest, _ in rows))[:MAX_READERS]
        if not found:
            raise errors.NotFound(
                f"There is no run {asked!r}, or none of its stages has made anything.", remedy="See `millrace runs`."
            )
    elif re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_PREFIX},64}}", asked):
        rows = database.read(
            "SELECT DISTINCT digest FROM artifact_uses WHERE tenant = ? AND digest >= ? AND digest < ? LIMIT 2",
            (tenant, asked, asked + "g"),
        )
        found = [str(digest) for (digest,) in rows]
        if len(found) > 1:
            raise errors.InvalidInput(f"Several artifacts begin with {asked!r}.", remedy="Give more of the digest.")
    else:
        rows = database.read("SELECT model FROM endpoints WHERE tenant = ? AND name = ?", (tenant, asked))
        found = [json.loads(model)["digest"] for (model,) in rows if model]
    if not found:
        raise errors.NotFound(
            f"Nothing is known of {asked!r}: no stage has read or made it.",
            remedy="Give a digest, a run's id, or an endpoint that has a release.",
        )
    return found


class _Walk:
    """One walk; what it has come by already is not told twice."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database, self._tenant = database, tenant
        self._seen: set[str] = set()

    def back(self, digest: str, port: str = "") -> LineageNode:
        maker = self._maker(digest)
        inputs = self._ports(maker.run_id, maker.stage, is_output=0) if maker else []
        return self._node(digest, port, maker, inputs, self.back)

    def forward(self, digest: str, port: str = "") -> LineageNode:
        readers = self._database.read(
            "SELECT DISTINCT run_id, stage FROM artifact_uses WHERE digest = ? AND tenant = ? AND is_output = 0"
            " ORDER BY run_id, stage LIMIT ?",
            (digest, self._tenant, MAX_READERS),
        )
        made = [pair for run_id, stage in readers for pair in self._ports(str(run_id), str(stage), is_output=1)]
        return self._node(digest, port, self._maker(digest), list(dict.fromkeys(made)), self.forward)

    def _node(
        self, digest: str, port: str, maker: Maker | None, next_: Sequence[tuple[str, str]],
        follow: Callable[[str, str], LineageNode],
    ) -> LineageNode:  # fmt: skip
        is_repeated = digest in self._seen or len(self._seen) >= MAX_NODES
        self._seen.add(digest)
        children = () if is_repeated else tuple(follow(inner, name) for inner, name in next_ if inner != digest)
        return LineageNode(
            digest=digest, port=port, maker=maker, serves=self._serves(digest), children=children,
            is_repeated=is_repeated and bool(next_),
        )  # fmt: skip

    def _ports(self, run_id: str, stage: str, *, is_output: int) -> list[tuple[str, str]]:
        rows = self._database.read(
            "SELECT digest, port FROM artifact_uses WHERE run_id = ? AND stage = ? AND is_output = ? ORDER BY port, digest",
            (run_id, stage, is_output),
        )
        return [(str(digest), str(port)) for digest, port in rows]

    def _maker(self, digest: str) -> Maker | None:
        """The first stage that made an artifact: later ones took it from the cache, or made it again."""
        rows = self._database.read(
            "SELECT u.run_id, u.stage, u.port, r.graph FROM artifact_uses u JOIN runs r ON r.run_id = u.run_id"
            " WHERE u.digest = ? AND u.tenant = ? AND u.is_output = 1 ORDER BY u.run_id LIMIT 1",
            (digest, self._tenant),
        )
        if not rows:
            return None
        run_id, stage, port, graph = rows[0]
        facts = json.loads(graph)
        kind = next((s["kind"] for s in facts["stages"] if s["name"] == stage), "")
        return Maker(
            run_id=run_id, pipeline=facts["pipeline"], stage=stage, kind=kind, port=port,
            spec_digest=facts["spec_digest"], seed=facts.get("seed", 0), code_digest=self._code(run_id, stage),
        )  # fmt: skip

    def _code(self, run_id: str, stage: str) -> str:
        rows = self._database.read(
            "SELECT data FROM events WHERE subject = ? AND type IN ('attempt.succeeded.v1', 'attempt.started.v1')"
            " AND data LIKE ? ORDER BY seq DESC LIMIT 1",
            (run_id, f'%"stage": "{stage}"%'),
        )
        return str(json.loads(rows[0][0]).get("code_digest", "")) if rows else ""

    def _serves(self, digest: str) -> tuple[str, ...]:
        rows = self._database.read(
            "SELECT r.endpoint, r.release_number, e.release_number FROM releases r LEFT JOIN endpoints e"
            " ON e.tenant = r.tenant AND e.name = r.endpoint WHERE r.tenant = ? AND r.model LIKE ?"
            " ORDER BY r.endpoint, r.release_number",
            (self._tenant, f"%{digest}%"),
        )
        return tuple(f"{name} {number}{' (serving)' if number == now else ''}" for name, number, now in rows)
