"""The device: ranks on its own, with parameters that the cloud generates for it. Needs numpy, msgspec and onnxruntime.

- `device`: `Device`, what an application that ranks uses
- `personal_model`: `PersonalModel`, the same for any other model
- `resident`: what both have in common
- `config`: its options
- `checks`: what options are refused
- `items`: what an id is, and which index it has
- `loaded`: a verified bundle, loaded
- `model`: one that scores items
- `sample_model`: one of any other model
- `runtime`: the version in use and the theta for it
- `ranker`: from both, and the log, to a ranking
- `ranking`: items with their scores, best first
- `log`: what the device has seen
- `sample_log`: the same of samples
- `theta`: what passed every check, and what counts of it as it grows old
- `store`: the theta that it ranks with, checked and kept
- `upkeep`: when what is due gets done, and by whom
- `policy`: when to ask for a new theta
- `profiles`: what the model thinks of items, for drift
- `refresher`: asking, and what became of it
- `patience`: waits after failures
- `cloud`: the cloud as a device sees it
- `client`: the same over HTTP
- `address`: where it is
- `connection`: connections with deadlines
- `updates`: new versions of the model: fetched, verified, kept
- `updater`: when to look for them
- `state`: the folder that outlives the process
- `statefile`: one file of it
- `counts`: what went wrong, and was survived
- `status`: what a device tells of itself
- `errors`: refusals
"""

from duetgen.device.config import DeviceConfig
from duetgen.device.device import Device
from duetgen.device.errors import (
    BadAnswerError,
    CloudRefusedError,
    CloudUnreachableError,
    InvalidDeviceConfigError,
    InvalidItemsError,
    NotForgottenError,
    NothingToRollBackError,
    RefusedParametersError,
    StateInUseError,
)
from duetgen.device.model import DeviceModel, load_model
from duetgen.device.patience import PatienceConfig
from duetgen.device.personal_model import PersonalModel
from duetgen.device.policy import POLICIES, AfterSeconds, Always, DailyBudget, Drift, EveryEvents, Policy, Situation
from duetgen.device.ranking import Ranking
from duetgen.device.sample_model import SampleModel
from duetgen.device.status import Status, ThetaStatus
from duetgen.device.store import ParameterStore

__all__ = [
    "POLICIES",
    "AfterSeconds",
    "Always",
    "BadAnswerError",
    "CloudRefusedError",
    "CloudUnreachableError",
    "DailyBudget",
    "Device",
    "DeviceConfig",
    "DeviceModel",
    "Drift",
    "EveryEvents",
    "InvalidDeviceConfigError",
    "InvalidItemsError",
    "NotForgottenError",
    "NothingToRollBackError",
    "ParameterStore",
    "PatienceConfig",
    "PersonalModel",
    "Policy",
    "Ranking",
    "RefusedParametersError",
    "SampleModel",
    "Situation",
    "StateInUseError",
    "Status",
    "ThetaStatus",
    "load_model",
]
