"""Replaying a log on a fleet of devices against a live cloud. Needs what a device needs, and no torch.

- `sessions`: what each device does, from a dataset folder
- `quality`: ranks and metrics, in numpy
- `fleet`: the devices, in order and in time
- `report`: what came of it
- `errors`: refusals
"""

from duetgen.replay.errors import NotReplayableError
from duetgen.replay.fleet import LIVELY, Fleet, FleetConfig
from duetgen.replay.report import FleetReport, Percentiles
from duetgen.replay.sessions import Session, Sessions

__all__ = [
    "LIVELY",
    "Fleet",
    "FleetConfig",
    "FleetReport",
    "NotReplayableError",
    "Percentiles",
    "Session",
    "Sessions",
]
