"""Which version a device shall run: `rollout.json` or `latest` of a registry folder."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from duetgen.cloud.errors import InvalidRolloutError
from duetgen.files import read_regular
from duetgen.wire.bundle import Sha256

ROLLOUT: Final = "rollout.json"
LATEST: Final = "latest"
MAX_ROLLOUT_BYTES: Final = 65_536


class CanaryShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version for a share of the devices."""

    model_id: Sha256
    share: Annotated[float, Meta(ge=0, le=1)]


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`rollout.json`.

    Attributes:
        latest: the version for all; None: the newest.
        canary: another version for some of them.
    """

    latest: Sha256 | None = None
    canary: CanaryShare | None = None

    def version(self, device: str | None, newest: str) -> str:
        """The version that a device shall run; always the same for a device, as long as the rollout is."""
        canary = self.canary
        if canary is not None and device is not None and position(canary.model_id, device) < canary.share:
            return canary.model_id
        return self.latest or newest


def position(model_id: str, device: str) -> float:
    """Where a device stands between 0 and 1 in the order in which it gets a version; other for every version."""
    digest = hashlib.sha256(f"duetgen/canary/1 {model_id} {device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def read_rollout(folder: Path) -> Rollout | None:
    """What a registry folder says; None: nothing.

    Raises:
        InvalidRolloutError: it says something that makes no sense.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return msgspec.json.decode(read_regular(folder / ROLLOUT, MAX_ROLLOUT_BYTES), type=Rollout)
        with contextlib.suppress(FileNotFoundError):
            text = read_regular(folder / LATEST, MAX_ROLLOUT_BYTES).decode().strip()
            return Rollout(latest=msgspec.convert(text, Sha256))
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as cause:
        raise InvalidRolloutError(
            f"{folder} has a {ROLLOUT} or {LATEST} that cannot be used: {cause}",
            'write {"latest": MODEL_ID, "canary": {"model_id": MODEL_ID, "share": 0.05}}',
        ) from cause
    return None
