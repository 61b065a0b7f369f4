"""How `leaderboard up` takes the signals that stop it."""

import subprocess
import sys

_LOST = """
import os, signal, time
from leaderboard.local.up import _signals_interrupt

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

with _signals_interrupt():
    try:
        Last()
        print("lost", flush=True)
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        print("taken", flush=True)
"""


def test_a_ctrl_c_that_is_lost_in_a_finalizer_is_raised_again() -> None:
    # In a process of its own: the signals and the timer are the process's.
    done = subprocess.run([sys.executable, "-c", _LOST], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "lost\ntaken\n"
    assert "Exception ignored in" in done.stderr
