"""Postgres and Redis behind a platform's back: what tests look at, and what they break."""

from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from support.operator import eventually


class Stores:
    """One connection to each; close it."""

    def __init__(self, *, database: str, redis_url: str) -> None:
        self._postgres = psycopg.connect(database, autocommit=True, row_factory=dict_row)
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True)

    def close(self) -> None:
        self._postgres.close()
        self.redis.close()

    def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        """Return what a query finds."""
        return self._postgres.execute(query, args).fetchall()

    def row(self, query: str, *args: Any) -> dict[str, Any] | None:
        """Return the first row that a query finds, None without one."""
        found = self.rows(query, *args)
        return found[0] if found else None

    def run(self, statement: str, *args: Any) -> None:
        """Execute a statement."""
        self._postgres.execute(statement, args)

    def tenant(self, tenant_id: int) -> dict[str, Any] | None:
        """Return a tenant's row."""
        return self.row("SELECT * FROM tenants WHERE id = %s", tenant_id)

    def board(self, board_id: int) -> dict[str, Any] | None:
        """Return a board's row."""
        return self.row("SELECT * FROM leaderboards WHERE id = %s", board_id)

    def keys(self, tenant_id: int) -> list[dict[str, Any]]:
        """Return the rows of a tenant's API keys, oldest first."""
        return self.rows(
            "SELECT k.*, p.name AS project FROM api_keys k JOIN projects p ON p.id = k.project_id"
            " WHERE p.tenant_id = %s ORDER BY k.created_at, k.id",
            tenant_id,
        )

    def recorded(self, board_id: int) -> int:
        """Return how many events of a board the ledger has."""
        found = self.row("SELECT count(*) AS number FROM score_events WHERE leaderboard_id = %s", board_id)
        assert found is not None
        return int(found["number"])

    def record(self) -> None:
        """Return when the worker has written all that was in the outbox to the ledger."""
        eventually(lambda: self.redis.xlen("outbox") == 0, "the outbox is empty")

    def meta(self, namespace: str) -> dict[str, str]:
        """Return the meta hash of a board, empty where there is none; `namespace` as its status says."""
        return dict(self.redis.hgetall(f"meta:{{{namespace}}}"))

    def remains(self, namespace: str) -> list[str]:
        """Return which of a board's keys Redis has."""
        names = (namespace, f"meta:{{{namespace}}}", f"order:{{{namespace}}}")
        return [name for name in names if self.redis.exists(name)]
