"""The running API against its own document: schemathesis with all checks, valid and invalid data, links and states."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from api_helpers import assert_no_faults

from leaderboard.api.resources.docs import document

HERE = Path(__file__).parent
ENV = {"LEADERBOARD_LOG_LEVEL": "warning"}
ENDLESS = ("streamTop", "streamStandings")
"""What never ends its answer; test_stream.py and test_standings_stream.py look at that."""
OPERATIONS = sum(
    method in {"get", "post", "patch", "delete"} and operation["operationId"] not in ENDLESS
    for item in document()["paths"].values()
    for method, operation in item.items()
)


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(served, new_tenant, tmp_path):
    # The boards the document's examples speak of, so that they are sent to boards that are there. `laps` is made by its
    # own example.
    boards = [{"key": "global", "publicRead": True}, {"key": "best", "scoreUpdate": "Best", "tiePolicy": "Shared"}]
    tenant = new_tenant(slug="acme", boards=boards)
    # From a file: of the document's own address the tool would not test /openapi.json.
    (tmp_path / "openapi.json").write_text(json.dumps(document()))
    (tmp_path / "schemathesis.toml").write_text(
        f'hooks = "{HERE / "schemathesis_hooks.py"}"\n'
        "continue-on-failure = true\n"
        "cache = { enabled = false }\n"
        "[output]\nsanitization = { enabled = false }\n"
        f'[headers]\nAuthorization = "Bearer {tenant.key}"\n'
        '[generation]\ndeterministic = true\ndatabase = "none"\n'
    )
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", served.url, "--no-color"]
    excluded = [word for operation in ENDLESS for word in ("--exclude-operation-id", operation)]
    done = subprocess.run(
        [*command, *excluded, "--checks", "all", "--mode", "all", "--max-examples", "60"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=540,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert re.search(rf"Tested: +{OPERATIONS}\b", printed), printed
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in printed, printed
    generated = re.search(r"(\d+) generated", printed)
    assert generated is not None, printed
    assert int(generated[1]) > 1_000, printed
    assert_no_faults(served)
