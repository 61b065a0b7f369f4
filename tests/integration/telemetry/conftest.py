"""A collector of the test's own."""

from collections.abc import Iterator

import pytest

from support.collector import Collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()
