"""``python -m leaderboard_operator``: one replica of the operator, until SIGTERM."""

import logging
import sys

import uvloop

from leaderboard import config as configuration
from leaderboard.config import ConfigError
from leaderboard.telemetry import logs, otel
from leaderboard_operator import config as own
from leaderboard_operator.client import NoCredentials
from leaderboard_operator.metrics import REGISTRY
from leaderboard_operator.otlp import reader
from leaderboard_operator.runtime import Operator


def main() -> int:
    """Run; the exit code is 0 after a signal, 1 after losing the lead, 2 for a wrong configuration."""
    try:
        base, config = configuration.load(), own.load()
        logs.set_up(base.log_level)
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line an event, each with Kopf's whole settings
        telemetry = None
        if base.telemetry:
            # Every reconciliation is traced: they come in batches, and are few beside the requests of an API.
            telemetry = otel.set_up("leaderboard-operator", instance=otel.instance_id(), ratio=1.0)
            telemetry.metrics.add(reader(REGISTRY))
        return uvloop.run(Operator(base, config, telemetry=telemetry).run())
    except (ConfigError, NoCredentials) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - there may be no log yet
        return 2


if __name__ == "__main__":
    sys.exit(main())
