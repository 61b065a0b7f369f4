"""`leaderboard up --observe` as its user meets it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from leaderboard.local.process import command_line, opener, processes, wait_until
from support.servers import in_containers

pytestmark = [
    pytest.mark.observability,
    pytest.mark.skipif(in_containers(), reason="`leaderboard up` always runs the embedded servers"),
]
SECONDS = 60.0


def test_it_says_where_to_look_and_the_api_s_metrics_and_traces_are_there(
    all_programs: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    command = [sys.executable, "-m", "leaderboard.cli", "up", "--observe", "--data", str(tmp_path / "data")]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LEADERBOARD_", "OTEL_"))}
    with output.open("wb") as file:
        running = subprocess.Popen([*command, "--port=0"], stdout=file, stderr=file, env=env, process_group=0)
    try:
        assert wait_until(lambda: "Ctrl-C stops" in output.read_text() or running.poll() is not None, seconds=SECONDS)
        assert running.poll() is None, output.read_text()
        urls = dict(re.findall(r"^  (\w+) +(http://\S+)", output.read_text(), re.MULTILINE))
        with pytest.raises(urllib.error.HTTPError):
            opener.open(f"{urls['API']}/v1/leaderboards", timeout=10)

        def there() -> bool:
            metric = "http_server_request_duration_seconds_count%7Bhttp_response_status_code%3D%22401%22%7D"
            with opener.open(f"{urls['Prometheus']}/api/v1/query?query={metric}", timeout=10) as answer:
                counted = json.load(answer)["data"]["result"]
            with opener.open(f"{urls['Tempo']}/api/search?tags=service.name%3Dleaderboard-api", timeout=10) as answer:
                traced = json.load(answer).get("traces")
            return bool(counted and traced)

        assert wait_until(there, seconds=SECONDS, pause=0.2)
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(SECONDS) == 0
    assert [pid for pid in processes() if str(tmp_path / "data") in command_line(pid)] == []
