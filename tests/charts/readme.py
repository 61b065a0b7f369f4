"""Write the table of values in the chart's README from values.schema.json and values.yaml: `make chart-docs`."""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for `support`, which pytest's conftest adds

from support.chart import default, leaves
from support.kubernetes import CHART

PAGE = CHART / "README.md"
BEGIN = "<!-- values: made by `make chart-docs` -->\n"
END = "<!-- end of values -->\n"


def table() -> str:
    """Return the table: every value with its default and what it is."""
    rows = ["| value | default | what |", "| --- | --- | --- |"]
    for path, node in leaves():
        preset = default(path)
        if preset is None:
            preset = node["default"]
        shown = "" if preset == "" else f"`{preset if isinstance(preset, str) else json.dumps(preset)}`"
        rows.append(f"| `{path}` | {shown} | {node['description']} |")
    return "\n".join(rows) + "\n"


def renewed(page: str) -> str:
    """Return the page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
