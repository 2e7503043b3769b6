"""What a worker counts, and what all workers counted together, in the form that Prometheus reads.

Counting is a list index and an addition, because it happens several times in a request that takes a tenth of a
millisecond. Each worker puts its totals into a file of the folder that the workers share, twice a second; whichever
worker is asked for `/metrics` adds up the files. Files of workers that ended stay: totals never fall.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from duetgen.cloud.peers import Peers

SECONDS: Final = (*(scale * step for scale in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1) for step in (1, 2, 5)), 1.0, 2.0, 5.0)
"""Bounds of times, from ten microseconds to five seconds."""
AGES: Final = (60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400, 30 * 86400)
"""Bounds of the age of parameters in use, in seconds."""
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Bounds of the number of devices generated in one call."""
STAGES: Final = ("read", "decode", "generate", "encode", "total")


class Histogram(msgspec.Struct):
    """Counts of values by upper bounds; the last count is of those beyond."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Count all that another counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts)]
        self.total += other.total


def histogram(bounds: tuple[float, ...]) -> Histogram:
    """An empty histogram."""
    return Histogram(tuple(map(float, bounds)), [0] * (len(bounds) + 1))


class Totals(msgspec.Struct):
    """Everything that one worker counted since it started.

    Attributes:
        requests: by `endpoint status`.
        errors: by code.
        devices: thetas sent, by `model_id dtype`.
        stages: seconds by stage of a request for one theta.
        rows: devices generated in one call.
        age: of the theta that a device had in use when it asked, as it said, in seconds.
        sent: bytes of answers with theta.
        weights: bytes of weights in them.
        bias: bytes of item biases in them.
        waiting: requests that wait for the generator now.
        started: when the worker started, seconds since 1970.
        looked: when it last saw all of the registry, by the machine's monotonic clock; 0: it does not run any more.
    """

    requests: dict[str, int] = msgspec.field(default_factory=Counter)
    errors: dict[str, int] = msgspec.field(default_factory=Counter)
    devices: dict[str, int] = msgspec.field(default_factory=Counter)
    stages: dict[str, Histogram] = msgspec.field(
        default_factory=lambda: {stage: histogram(SECONDS) for stage in STAGES}
    )
    rows: Histogram = msgspec.field(default_factory=lambda: histogram(ROWS))
    age: Histogram = msgspec.field(default_factory=lambda: histogram(AGES))
    sent: int = 0
    weights: int = 0
    bias: int = 0
    waiting: int = 0
    started: float = msgspec.field(default_factory=time.time)
    looked: float = 0.0


class Recorder(Collector):
    """Counts for one worker; collects for all.

    Args:
        peers: the other workers of the service.
        models: tells which versions are in service, which is the latest, and the codes of bundles that are refused.
    """

    def __init__(self, peers: Peers, models: Callable[[], tuple[list[str], str | None, list[str]]]) -> None:
        self.totals = Totals()
        self._peers, self._models = peers, models
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def timed(self, seconds: float, rows: int) -> None:
        """Count a call of the generator."""
        self.totals.stages["generate"].observe(seconds)
        self.totals.rows.observe(rows)

    def write(self) -> None:
        """Put the totals where the other workers find them."""
        self._peers.write("totals", msgspec.msgpack.encode(self.totals))

    def _all(self) -> list[Totals]:
        found = [self.totals]
        for content, alive in self._peers.others("totals"):
            with contextlib.suppress(msgspec.DecodeError):
                totals = msgspec.msgpack.decode(content, type=Totals)
                if not alive:
                    totals.looked, totals.waiting = 0.0, 0
                found.append(totals)
        return found

    def exposition(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: names are known from `collect`."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of all workers, added up."""
        everyone = self._all()
        requests = added(t.requests for t in everyone)
        family = CounterMetricFamily("duet_requests", "Requests answered", labels=["endpoint", "status"])
        for key, count in sorted(requests.items()):
            family.add_metric(key.split(" "), count)
        yield family
        errors = added(t.errors for t in everyone)
        family = CounterMetricFamily("duet_errors", "Refusals by code, see docs/errors", labels=["code"])
        for code, count in sorted(errors.items()):
            family.add_metric([code], count)
        yield family
        devices = added(t.devices for t in everyone)
        family = CounterMetricFamily("duet_parameters", "Parameter sets sent", labels=["model_id", "dtype"])
        for key, count in sorted(devices.items()):
            family.add_metric(key.split(" "), count)
        yield family
        yield CounterMetricFamily("duet_parameters_bytes", "Bytes sent with them", value=sum(t.sent for t in everyone))
        family = CounterMetricFamily("duet_parameters_part_bytes", "Bytes of each part of theta", labels=["part"])
        for part in ("weights", "bias"):
            family.add_metric([part], sum(getattr(t, part) for t in everyone))
        yield family
        stages = HistogramMetricFamily(
            "duet_stage_seconds", "Time by stage of a request; generate: by call", labels=["stage"]
        )
        for stage in STAGES:
            add(stages, [stage], [t.stages[stage] for t in everyone])
        yield stages
        for name, text, parts in (
            ("duet_generated_rows", "Devices generated in one call", [t.rows for t in everyone]),
            (
                "duet_parameters_age_seconds",
                "Age of the parameters that devices have in use",
                [t.age for t in everyone],
            ),
        ):
            plain = HistogramMetricFamily(name, text, labels=[])
            add(plain, [], parts)
            yield plain
        served, latest, refused = self._models()
        models = GaugeMetricFamily("duet_model", "Versions in service; 1 is the latest", labels=["model_id"])
        for model_id in served:
            models.add_metric([model_id], float(model_id == latest))
        yield models
        bundles = GaugeMetricFamily("duet_bundles_refused", "Bundles that are not taken, by code", labels=["code"])
        for code, count in sorted(Counter(refused).items()):
            bundles.add_metric([code], count)
        yield bundles
        looked = min((t.looked for t in everyone if t.looked), default=0.0)
        age = time.monotonic() - looked if looked else 0.0
        yield GaugeMetricFamily(
            "duet_registry_age_seconds", "Time since all of the registry was seen, by the slowest worker", age
        )
        yield GaugeMetricFamily("duet_waiting", "Requests waiting", value=sum(t.waiting for t in everyone))
        yield GaugeMetricFamily("duet_started_seconds", "When the service started", min(t.started for t in everyone))


def added(parts: Iterable[dict[str, int]]) -> Counter[str]:
    """Some counts, added up."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total


def add(family: HistogramMetricFamily, labels: list[str], parts: list[Histogram]) -> None:
    """Add some histograms, as one, to a metric."""
    whole = histogram(parts[0].bounds)
    for part in parts:
        whole.add(part)
    buckets, running = [], 0
    for bound, count in zip((*whole.bounds, float("inf")), whole.counts):
        running += count
        buckets.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(running)))
    family.add_metric(labels, buckets, whole.total)
