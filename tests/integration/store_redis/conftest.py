import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # for `redis_rig`

import redis_rig

# The machine may be busy: how long an example takes says nothing here.
settings.register_profile("no-timing", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no-timing")


@pytest.fixture
async def rig(redis_url):
    async with redis_rig.rig_on(redis_url) as rig:
        yield rig


@pytest.fixture
async def proxy(redis_url):
    async with redis_rig.proxied(redis_url) as proxy:
        yield proxy
