"""Metrics of one process: plain numbers on the hot path, made into the SDK's data where they are exported.

Recording with the SDK's instruments takes 10 to 20 us a request: attributes are copied, checked and hashed each time,
under a lock. Here a series is found by a tuple, and recording is a search among fourteen bounds and two additions.
Series are only ever read by another thread, which may see one that is half a request behind: the next export has it.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData

Number = int | float
Attributes = Mapping[str, str | int]

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. Fine around the 10 ms that the platform promises."""
MAX_SERIES = 2_000
"""Series of one metric (the SDK's own limit); what comes after goes into one that says otel.metric.overflow."""
_OVERFLOW = {"otel.metric.overflow": "true"}
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Duration:
    """One series of a histogram, in seconds."""

    __slots__ = ("attributes", "counts", "exemplars", "since", "total")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.since = time.time_ns()
        self.exemplars: dict[int, Exemplar] = {}
        """The last sampled request in each bucket since the last export."""

    def record(self, seconds: float, exemplar: Exemplar | None = None) -> None:
        """Count one operation, with what names its span where it has one."""
        bucket = bisect_left(BOUNDS, seconds)
        self.counts[bucket] += 1
        self.total += seconds
        if exemplar is not None:
            self.exemplars[bucket] = exemplar

    def point(self, now: int) -> HistogramDataPoint:
        """Return the series as it stands at `now`; its exemplars are told once."""
        counts, total = list(self.counts), self.total
        exemplars, self.exemplars = self.exemplars, {}
        return HistogramDataPoint(
            attributes=dict(self.attributes),
            start_time_unix_nano=self.since,
            time_unix_nano=now,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=BOUNDS,
            min=None,  # type: ignore[arg-type]  # left out: nobody asks, and keeping them would cost every request
            max=None,  # type: ignore[arg-type]
            exemplars=list(exemplars.values()),
        )

    @staticmethod
    def data(points: list[HistogramDataPoint]) -> HistogramData:
        """Return the points of a metric's series as its data."""
        return HistogramData(points, _CUMULATIVE)


class Count:
    """One series of a counter."""

    __slots__ = ("attributes", "since", "value")

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self.since = time.time_ns()
        self.value: Number = 0

    def point(self, now: int) -> NumberDataPoint:
        """Return the series as it stands at `now`."""
        return NumberDataPoint(dict(self.attributes), self.since, now, self.value)

    @staticmethod
    def data(points: list[NumberDataPoint]) -> Sum:
        """Return the points of a metric's series as its data."""
        return Sum(points, _CUMULATIVE, is_monotonic=True)


Series = TypeVar("Series", Duration, Count)


class Family(Generic[Series]):
    """A metric: its name, unit and description, and its series by the values of its `labels`."""

    def __init__(
        self,
        make: type[Series],
        name: str,
        *,
        unit: str,
        description: str,
        labels: tuple[str, ...],
        most: int = MAX_SERIES,
    ) -> None:
        self._make: Callable[[Attributes], Series] = make
        self._about = (name, description, unit)
        self._labels = labels
        self._most = most
        self._series: dict[tuple[str | int, ...], Series] = {}
        self._overflow: Series | None = None

    def of(self, *values: str | int) -> Series:
        """Return the series of these values; a label that is empty is left out."""
        found = self._series.get(values)
        if found is not None:
            return found
        if len(self._series) >= self._most:
            if self._overflow is None:
                self._overflow = self._make(_OVERFLOW)
            return self._overflow
        made = self._make({label: value for label, value in zip(self._labels, values, strict=True) if value != ""})
        self._series[values] = made
        return made

    def drop(self, *values: str | int) -> None:
        """Forget a series."""
        self._series.pop(values, None)

    def read(self, now: int) -> Metric | None:
        """Return the metric as it stands at `now` (Unix nanoseconds), None where it has no series yet."""
        series = list(self._series.values())
        if self._overflow is not None:
            series.append(self._overflow)
        if not series:
            return None
        return Metric(*self._about, series[0].data([one.point(now) for one in series]))


class Observed:
    """A number that is looked at when it is exported: `read` gives (attributes, value) pairs, from any thread.

    `sums` says that it only ever grows: then it is a counter, since the process's start.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Iterable[tuple[Attributes, Number]]],
        *,
        unit: str,
        description: str,
        sums: bool = False,
    ) -> None:
        self.name = name
        self._read = read
        self._unit = unit
        self._description = description
        self._sums = sums
        self._since = time.time_ns()

    def read(self, now: int) -> Metric | None:
        """Return the metric as it stands at `now`, None where there is nothing to tell."""
        points = [NumberDataPoint(dict(attributes), self._since, now, value) for attributes, value in self._read()]
        if not points:
            return None
        data = Sum(points, _CUMULATIVE, is_monotonic=True) if self._sums else Gauge(points)
        return Metric(self.name, self._description, self._unit, data)


class Metrics:
    """All metrics of a process."""

    def __init__(self) -> None:
        self._families: list[Family[Duration] | Family[Count] | Observed] = []
        self._sources: list[Callable[[int], Iterable[Metric]]] = []

    def durations(self, name: str, description: str, *labels: str, most: int = MAX_SERIES) -> Family[Duration]:
        """Make a histogram of seconds, of `most` series."""
        family = Family(Duration, name, unit="s", description=description, labels=labels, most=most)
        self._families.append(family)
        return family

    def counts(self, name: str, description: str, *labels: str, unit: str, most: int = MAX_SERIES) -> Family[Count]:
        """Make a counter, of `most` series."""
        family = Family(Count, name, unit=unit, description=description, labels=labels, most=most)
        self._families.append(family)
        return family

    def observe(self, *observed: Observed) -> None:
        """Add numbers that are read when they are exported."""
        self._families.extend(observed)

    def add(self, read: Callable[[int], Iterable[Metric]]) -> None:
        """Add metrics that others keep: `read` gives them as they stand at a time (Unix nanoseconds)."""
        self._sources.append(read)

    def read(self) -> list[Metric]:
        """Return every metric that has something to tell."""
        now = time.time_ns()
        own = [metric for family in list(self._families) if (metric := family.read(now)) is not None]
        return [*own, *(metric for read in self._sources for metric in read(now))]
