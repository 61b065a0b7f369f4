"""The types of the Python SDK as a user's program sees them."""

import os
import subprocess
import sys
from pathlib import Path

from support.docs import ROOT

PROGRAM = Path(__file__).with_name("user_program.py")


def test_a_users_program_is_checked_strictly(tmp_path):
    """An error that is not expected fails, and an expected one that does not come, as an unused ignore."""
    # With no settings but these, as in the user's own project.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(PROGRAM)]
    env = os.environ | {"MYPYPATH": str(ROOT / "sdk/python/src")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout == "Success: no issues found in 1 source file\n"
