"""``python -m leaderboard_operator``: one replica of the operator, until SIGTERM."""

import logging
import sys

import uvloop

from leaderboard import config as configuration
from leaderboard.config import ConfigError
from leaderboard.telemetry import logs
from leaderboard_operator import config as own
from leaderboard_operator.client import NoCredentials
from leaderboard_operator.runtime import Operator


def main() -> int:
    """Run; the exit code is 0 after a signal, 1 after losing the lead, 2 for a wrong configuration."""
    try:
        base, config = configuration.load(), own.load()
        logs.set_up(base.log_level)
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line an event, each with Kopf's whole settings
        return uvloop.run(Operator(base, config).run())
    except (ConfigError, NoCredentials) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - there may be no log yet
        return 2


if __name__ == "__main__":
    sys.exit(main())
