"""The device: ranks on its own, with parameters that the cloud generates for it. Needs numpy, msgspec and onnxruntime.

`device`      `Device`, what an application uses
`model`       a verified bundle, loaded, that scores
`log`         what the device has seen
`store`       the theta that it ranks with, checked and kept
`policy`      when to ask for a new one
`profiles`    what the model thinks of items, for drift
`refresher`   asking, and what became of it
`patience`    waits after failures
`client`      the cloud over HTTP
`connection`  connections with deadlines
`updates`     new versions of the model: fetched, verified, kept
`updater`     when to look for them
`state`       the folder that outlives the process
`status`      what a device tells of itself
`errors`      refusals
"""

from duetgen.device.device import Device
from duetgen.device.errors import (
    BadAnswerError,
    CloudRefusedError,
    CloudUnreachableError,
    NothingToRollBackError,
    RefusedParametersError,
    StateInUseError,
)
from duetgen.device.model import DeviceModel, load_model
from duetgen.device.patience import PatienceConfig
from duetgen.device.policy import AfterSeconds, Always, DailyBudget, Drift, EveryEvents, Policy, Situation
from duetgen.device.status import Status, ThetaStatus
from duetgen.device.store import ParameterStore

__all__ = [
    "AfterSeconds",
    "Always",
    "BadAnswerError",
    "CloudRefusedError",
    "CloudUnreachableError",
    "DailyBudget",
    "Device",
    "DeviceModel",
    "Drift",
    "EveryEvents",
    "NothingToRollBackError",
    "ParameterStore",
    "PatienceConfig",
    "Policy",
    "RefusedParametersError",
    "Situation",
    "StateInUseError",
    "Status",
    "ThetaStatus",
    "load_model",
]
