"""Replaying a log on a fleet of devices against a cloud. Needs what a device needs, and no torch.

- `sessions`: what each device does, from a dataset folder
- `quality`: ranks and metrics, in numpy
- `fleet`: the devices, in order and in time
- `local_cloud`: a cloud in this process
- `report`: what came of it
- `errors`: refusals
"""

from duetgen.replay.errors import NotReplayableError
from duetgen.replay.fleet import LIVELY, Fleet, FleetConfig
from duetgen.replay.local_cloud import LocalCloud
from duetgen.replay.report import FleetReport, Percentiles
from duetgen.replay.sessions import Session, Sessions

__all__ = [
    "LIVELY",
    "Fleet",
    "FleetConfig",
    "FleetReport",
    "LocalCloud",
    "NotReplayableError",
    "Percentiles",
    "Session",
    "Sessions",
]
