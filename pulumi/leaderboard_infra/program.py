"""The program of every stack."""

import pulumi

from leaderboard_infra import config
from leaderboard_infra.cell import Cell
from leaderboard_infra.config import ConfigError
from leaderboard_infra.shared import Shared


def run() -> None:
    """Make what the stack's configuration asks for, and export what others need to know of it."""
    try:
        settings = config.load()
    except ConfigError as error:
        # Pulumi prints this one error as it is, without a traceback.
        raise pulumi.RunError(str(error)) from None
    made = Shared(settings) if settings.role == "global" else Cell(settings)
    for name, value in made.exports.items():
        pulumi.export(name, value)
