"""A fleet: many devices that share one loaded model and live their part of a log against a cloud.

Before each target a device ranks; after it, it observes the target and asks for theta if its policy says so. Its next
ranking waits for the answer that it asked for, so that the quality is the policy's and not this machine's: with the
policy `Always` it is what `duet evaluate` measures with fresh theta.

Shapes: C entries that are ranked, V item indices.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from duetgen.device import Always, Device, DeviceConfig, PatienceConfig
from duetgen.device.cloud import Cloud
from duetgen.device.model import DeviceModel
from duetgen.replay.quality import device_averages, rank_of
from duetgen.replay.report import FleetReport, Percentiles
from duetgen.replay.sessions import Session, Sessions
from duetgen.wire.limits import MAX_LOG_EVENTS

Progress = Callable[[str, int, int], None]
Connect = Callable[[Session], "tuple[Cloud, str]"]
"""Gives each device its cloud and its token."""


LIVELY: Final = DeviceConfig(
    policy=Always(),
    patience=PatienceConfig(first=0.2, longest=5.0, failures=10, cooldown=5.0, longest_cooldown=30.0),
)
"""Devices that ask after every event, and soon again after a failure: a replay is over in minutes."""


class FleetConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a fleet lives.

    Attributes:
        device: options of each device; cloud, token and id are its own.
        workers: devices that rank or ask at the same time.
        speed_up: log seconds that pass in one second; None for as fast as it goes.
        spacing: seconds between events where the log has no time.
    """

    device: DeviceConfig = LIVELY
    workers: int = 4
    speed_up: float | None = None
    spacing: float = 60.0


@dataclass
class _Life:
    """A device in the middle of its session."""

    session: Session
    device: Device
    cloud: Cloud
    now: float = 0.0
    done: int = 0


@dataclass
class _Tally:
    """What workers write down; each has its own."""

    rank: list[float] = field(default_factory=list)
    rank_global: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    repeat: list[bool] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    age: list[int] = field(default_factory=list)
    scoring: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    bias: list[int] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Fleet:
    """Replays sessions.

    Args:
        model: that all devices share.
        sessions: what they do.
        connect: gives each device its cloud and its token.
        config: see `FleetConfig`.
    """

    def __init__(self, model: DeviceModel, sessions: Sessions, connect: Connect, config: FleetConfig) -> None:
        self.model, self.sessions, self.connect, self.config = model, sessions, connect, config
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, _Life | None]] = []
        self._ranked = 0
        self._total = sum(len(session.targets) for session in sessions.all)
        self._failed: BaseException | None = None
        self._origin = min((self._time(session, 0) for session in sessions.all), default=0.0)

    def run(self, progress: Progress | None = None) -> FleetReport:
        """Replay everything."""
        begun = time.monotonic()
        self._begun = begun
        for number, session in enumerate(self.sessions.all):
            self._waiting.append((self._due(session, 0), number, None))
        heapq.heapify(self._waiting)
        tallies = [_Tally() for _ in range(max(1, self.config.workers))]
        threads = [threading.Thread(target=self._work, args=(tally,), daemon=True) for tally in tallies]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                if progress is not None:
                    progress("replaying", self._ranked, self._total)
        if self._failed is not None:
            raise self._failed
        return self._report(tallies, time.monotonic() - begun)

    def _time(self, session: Session, done: int) -> float:
        """When the next target of a session is, in seconds of the log."""
        event = session.targets[min(done, len(session.targets) - 1)]
        found = self.sessions.seconds(event)
        return self.config.spacing * done if found is None else found

    def _due(self, session: Session, done: int) -> float:
        """When it is replayed, in seconds from the start."""
        speed_up = self.config.speed_up
        return 0.0 if speed_up is None else (self._time(session, done) - self._origin) / speed_up

    def _work(self, tally: _Tally) -> None:
        try:
            while self._failed is None:
                with self._lock:
                    if not self._waiting:
                        return
                    due, number, life = heapq.heappop(self._waiting)
                if self.config.speed_up is not None:
                    wait = self._begun + due - time.monotonic()
                    if wait > 0:
                        time.sleep(min(wait, 1e9))  # thirty years; beyond three hundred, it fails
                    tally.late.append(max(0.0, -wait))
                life = life or self._begin(self.sessions.all[number])
                self._step(life, tally)
                if life.done == len(life.session.targets):
                    self._end(life, tally)
                else:
                    with self._lock:
                        heapq.heappush(self._waiting, (self._due(life.session, life.done), number, life))
        except BaseException as cause:
            self._failed = cause

    def _begin(self, session: Session) -> _Life:
        cloud, token = self.connect(session)
        life: _Life
        device = Device(
            self.model,
            self.config.device,
            cloud=cloud,
            token=token,
            device_id=session.name,
            background=False,
            event_clock=lambda: life.now,
            seed=session.device,
        )
        life = _Life(session, device, cloud)
        first = session.targets[0]
        life.now = self.sessions.seconds(first - 1) or 0.0
        # The device's log holds no more.
        begin = max(session.first, first - MAX_LOG_EVENTS)
        self._observe(device, self.sessions.items(begin, first))
        device.keep_up()
        return life

    def _step(self, life: _Life, tally: _Tally) -> None:
        device, session = life.device, life.session
        event, row = session.targets[life.done], session.rows[life.done]
        (target,) = self.sessions.items(event, event + 1)
        if device.failing:
            device.keep_up()
        candidates_C = self.sessions.candidates(row, target)
        theta_age = device.theta_age
        begun = time.perf_counter()
        scores_C = device.score(candidates_C)
        tally.scoring.append(time.perf_counter() - begun)
        global_C = device.score(candidates_C, personal=False)
        met_V = device.met()
        hidden_V = met_V if device.met_policy == "hide" else None
        rank, count = rank_of(target, scores_C, candidates_C, hidden_V)
        tally.rank.append(rank)
        tally.rank_global.append(rank_of(target, global_C, candidates_C, hidden_V)[0])
        tally.count.append(count)
        tally.repeat.append(bool(met_V[target]))
        tally.device.append(session.device)
        if theta_age is not None:
            tally.age.append(theta_age)
        life.done += 1
        life.now = self._time(session, life.done - 1)
        self._ranked += 1
        if life.done < len(session.targets):
            self._observe(device, [target])
            device.keep_up()

    def _observe(self, device: Device, items: list[int]) -> None:
        device.observe(*(self.model.ids[item] for item in items))

    def _end(self, life: _Life, tally: _Tally) -> None:
        status = life.device.status()
        for name in ("requests", "answered", "bytes_sent", "bytes_received"):
            tally.totals[name] += getattr(status, name)
        if status.theta is not None:
            tally.weights.append(status.theta.weights_bytes)
            tally.bias.append(status.theta.bias_bytes)
        tally.failures.update(status.failures)
        tally.refused.update(status.refused)
        tally.latencies.extend(getattr(life.cloud, "latencies", ()))
        life.device.close()

    def _report(self, tallies: list[_Tally], seconds: float) -> FleetReport:
        def joined(name: str) -> list[float]:
            return [value for tally in tallies for value in getattr(tally, name)]

        totals: Counter[str] = sum((tally.totals for tally in tallies), Counter())
        count_N = np.array(joined("count"), dtype=np.int64)
        device_N = np.array(joined("device"), dtype=np.int64)
        repeat_N = np.array(joined("repeat"), dtype=bool)
        ranks = [np.array(joined(name)) for name in ("rank", "rank_global")]
        quality, quality_global = (device_averages(rank_N, count_N, device_N) for rank_N in ranks)
        met = self.config.device.met or self.model.manifest.met
        quality_new = quality_global_new = None
        if met == "show" and repeat_N.any() and not repeat_N.all():
            quality_new, quality_global_new = (
                device_averages(rank_N[~repeat_N], count_N[~repeat_N], device_N[~repeat_N]) for rank_N in ranks
            )
        ages, config = joined("age"), self.config
        devices = len(self.sessions.all)
        return FleetReport(
            dataset=self.sessions.dataset.manifest.name,
            model_id=self.model.model_id,
            protocol=self.sessions.protocol,
            policy=repr(config.device.policy),
            encoding=config.device.encoding,
            devices=devices,
            targets=len(count_N),
            quality=quality,
            quality_global=quality_global,
            met=met,
            repeat_targets=int(repeat_N.sum()),
            quality_new=quality_new,
            quality_global_new=quality_global_new,
            with_theta=len(ages) / len(count_N),
            mean_age_events=mean(ages),
            requests=totals["requests"],
            answered=totals["answered"],
            requests_per_device=totals["requests"] / devices,
            failures=dict(sum((tally.failures for tally in tallies), Counter())),
            refused=dict(sum((tally.refused for tally in tallies), Counter())),
            bytes_sent=totals["bytes_sent"],
            bytes_received=totals["bytes_received"],
            bytes_weights=mean(joined("weights")) or 0.0,
            bytes_bias=mean(joined("bias")) or 0.0,
            request=Percentiles.of(joined("latencies")),
            ranking=Percentiles.of(joined("scoring")),
            late=Percentiles.of(joined("late")),
            seconds=seconds,
            speed_up=config.speed_up,
        )


def mean(values: list[float]) -> float | None:
    """The mean; None of none."""
    return math.fsum(values) / len(values) if values else None
