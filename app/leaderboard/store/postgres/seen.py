"""What is seen of a connection pool. Only where telemetry is on."""

from leaderboard.store.postgres.pool import Pool
from leaderboard.telemetry.metrics import Attributes, Number
from leaderboard.telemetry.otel import Telemetry


def observe_pool(telemetry: Telemetry, pool: Pool) -> None:
    """Export the pool's connections and its queue, under OpenTelemetry's names."""
    name: Attributes = {"db.client.connection.pool.name": "postgres"}

    def count() -> list[tuple[Attributes, Number]]:
        stats = pool.get_stats()
        idle = stats.get("pool_available", 0)
        used = stats.get("pool_size", 0) - idle
        return [
            ({**name, "db.client.connection.state": "idle"}, idle),
            ({**name, "db.client.connection.state": "used"}, used),
        ]

    telemetry.gauge("db.client.connection.count", count, unit="{connection}", description="Connections by state")
    telemetry.gauge(
        "db.client.connection.max",
        lambda: [(name, pool.max_size)],
        unit="{connection}",
        description="Connections that the pool may make",
    )
    telemetry.gauge(
        "db.client.connection.pending_requests",
        lambda: [(name, pool.get_stats().get("requests_waiting", 0))],
        unit="{request}",
        description="Callers that wait for a connection",
    )
