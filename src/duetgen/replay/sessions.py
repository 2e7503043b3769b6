"""What each device does: the events before its first target, then its targets in order, from a dataset folder.

Shapes: U devices with targets, C candidates with the target first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from duetgen.data.candidates import Drawn
from duetgen.data.store import PADDING, Dataset, Int32, Targets
from duetgen.data.view import as_of
from duetgen.replay.errors import NotReplayableError
from duetgen.wire.bundle import Manifest

Protocol = Literal["full", "candidates", "given"]
HINT: Final = "replay the dataset folder that the bundle's run was trained on"


@dataclass(frozen=True)
class Session:
    """One device of the log.

    Attributes:
        device: its index in the dataset.
        first: of its events, the absolute index.
        targets: absolute indices of its targets in the events, consecutive.
        rows: where its candidates lie among those of all targets of the part.
    """

    device: int
    first: int
    targets: range
    rows: range

    @property
    def name(self) -> str:
        """The id by which the cloud knows it."""
        return f"device-{self.device}"


class Sessions:
    """The sessions of a dataset's test part.

    Args:
        dataset: the dataset folder.
        manifest: of the bundle that the devices run.
        protocol: what targets are ranked among, as in evaluation.
        devices: a seeded choice of so many, the same as `duet evaluate` takes; None for all.
        seed: of that choice.

    Raises:
        NotReplayableError: bundle and dataset do not belong together, or there is nothing to replay.
    """

    def __init__(
        self,
        dataset: Dataset,
        manifest: Manifest,
        protocol: Protocol = "full",
        devices: int | None = None,
        seed: int = 0,
    ) -> None:
        seen = as_of(dataset, manifest.provenance.get("dataset_sha256", dataset.manifest.content_sha256))
        if seen is None:
            raise NotReplayableError(f"{dataset.root} is not the dataset that the bundle was trained on", HINT)
        dataset = seen
        if manifest.vocabulary != dataset.vocabulary:
            raise NotReplayableError(
                f"the bundle knows {manifest.vocabulary} item indices, {dataset.root} has {dataset.vocabulary}",
                HINT,
            )
        targets = dataset.targets("test")
        device_U = np.unique(targets.device_N)
        if not len(device_U) or (devices is not None and devices < 1):
            raise NotReplayableError(f"{dataset.manifest.name} has no target to replay", "give a longer log")
        if devices is not None and devices < len(device_U):
            device_U = np.sort(np.random.default_rng([seed, 0]).choice(device_U, devices, replace=False))
        self.dataset, self.protocol = dataset, protocol
        self.others = self._candidates(dataset, protocol)
        self.all = [self._session(targets, int(device)) for device in device_U]

    @staticmethod
    def _candidates(dataset: Dataset, protocol: Protocol) -> Int32 | Drawn | None:
        if protocol == "full":
            return None
        if protocol == "candidates":
            return dataset.candidates("test")
        if not dataset.has_given:
            raise NotReplayableError(
                f"{dataset.manifest.name} has no candidates for the protocol `{protocol}`", "use --protocol full"
            )
        return dataset.given()[:, 1:]

    @staticmethod
    def _session(targets: Targets, device: int) -> Session:
        begin, end = (int(np.searchsorted(targets.device_N, device, side=side)) for side in ("left", "right"))
        first, position = int(targets.start_N[begin]), int(targets.position_N[begin])
        return Session(device, first, range(position, position + end - begin), range(begin, end))

    def items(self, begin: int, end: int) -> list[int]:
        """Item indices of events."""
        found: list[int] = self.dataset.events[begin:end].tolist()
        return found

    def candidates(self, row: int, target: int) -> npt.NDArray[np.int64] | None:
        """The target and what it is ranked among; None for the catalogue: [C]."""
        if self.others is None:
            return None
        others = self.others[row]
        return np.concatenate([[target], others[others != PADDING]]).astype(np.int64)

    def seconds(self, event: int) -> float | None:
        """When an event was; None where the log has no time."""
        timestamps = self.dataset.timestamps
        return None if timestamps is None else float(timestamps[event])
