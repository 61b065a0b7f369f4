import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `wire_rig`; importlib mode leaves sys.path alone

from hypothesis import HealthCheck, settings

# The machine may be busy: how long an example takes says nothing here.
settings.register_profile("no-timing", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-timing")
