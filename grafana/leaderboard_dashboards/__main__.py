"""Write every dashboard's JSON into grafana/dashboards."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from leaderboard_dashboards.pages import ALL

FOLDER = Path(__file__).parents[1] / "dashboards"


def rendered() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {
        f"{name}.json": json.dumps(make(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, make in ALL.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in rendered().items():
        (FOLDER / file).write_text(text)
