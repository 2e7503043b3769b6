"""Refusals of the device. What the cloud, the network or the disk does never stops ranking: it is counted, and raised
only where a caller waits. What a caller gets wrong is raised at once."""

from __future__ import annotations

from typing import Literal, TypeAlias

from duetgen.errors import DuetError
from duetgen.wire.errors import InvalidParametersError

Reason: TypeAlias = Literal[
    "wrong-model",
    "wrong-mac",
    "malformed",
    "not-finite",
    "out-of-bounds",
    "from-future",
    "expired",
    "older",
    "forgotten",
]
"""Why a theta was refused."""


class RefusedParametersError(InvalidParametersError):
    """A theta that this device must not use.

    Attributes:
        reason: which check it failed, see `Reason`.
    """

    def __init__(self, reason: Reason, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.reason: Reason = reason


class CloudUnreachableError(DuetError):
    """The cloud cannot be reached, or breaks off, or takes longer than the device waits."""

    code = "cloud-unreachable"
    exit_code = 3


class CloudRefusedError(DuetError):
    """The cloud answers with a refusal.

    Attributes:
        status: of the HTTP answer.
        cause: the code that the cloud gave, or an empty string.
        retry_after: seconds that the cloud asks to wait; None if it does not.
    """

    code = "cloud-refused"
    exit_code = 3

    def __init__(self, status: int, cause: str, message: str, hint: str, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.status, self.cause, self.retry_after = status, cause, retry_after


class BadAnswerError(DuetError):
    """The cloud's answer is cut, too large, or not what it should be."""

    code = "bad-answer"
    exit_code = 3


class StateInUseError(DuetError):
    """Another process runs a device on the same state folder."""

    code = "state-in-use"


class NothingToRollBackError(DuetError):
    """There is no earlier version to go back to."""

    code = "nothing-to-roll-back"


class InvalidDeviceConfigError(DuetError):
    """An option of a device is not of its kind, or cannot be what it says."""

    code = "invalid-device-config"


class InvalidItemsError(DuetError):
    """What a device is to observe, rank or score is no item, or no list of items."""

    code = "invalid-items"


class NotForgottenError(DuetError):
    """A device forgot what it has seen, but a file of it could not be removed."""

    code = "not-forgotten"
