"""A device that ranks: keeps what it sees, ranks with its own parameters, and asks for new ones in the background.

Ranking touches no network, no disk and no lock that a request holds. Whatever happens to the cloud, the network, the
disk or a new version, a device ranks with the last good theta, or with theta = 0.

Shapes: C candidates, V item indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from duetgen.device.checks import check_met
from duetgen.device.config import DeviceConfig, DeviceOptions
from duetgen.device.items import UNKNOWN, item_id
from duetgen.device.loaded import Float32, LoadedModel
from duetgen.device.log import EventLog
from duetgen.device.met import Bool
from duetgen.device.model import DeviceModel, Int64
from duetgen.device.ranker import Ranker
from duetgen.device.ranking import Ranking
from duetgen.device.resident import Resident
from duetgen.device.runtime import Runtime
from duetgen.wire.messages import MetPolicy


class Device(Resident[EventLog]):
    """One device. Thread-safe; a context manager.

    Args:
        bundle: folder of the bundle that it starts with, or a loaded model that devices share.
        config: its options.
        options: fields of `DeviceConfig` that take the place of those of `config`.

    Attributes:
        config: the options that hold.
        device_id: its id.

    Raises:
        InvalidDeviceConfigError: an option cannot work.
        InvalidBundleError: the given bundle is damaged, not to be trusted, or does not compute what it should.
        StateInUseError: another process runs a device on this state folder.
        OutputUnwritableError: the state folder cannot be made.
    """

    _kind = DeviceModel

    def __init__(
        self,
        bundle: Path | str | DeviceModel,
        config: DeviceConfig | None = None,
        **options: Unpack[DeviceOptions],
    ) -> None:
        super().__init__(bundle, config, options)
        self._ranker = Ranker(self._log, self._counts, self.config.clock)
        self._start()

    def _make_log(self, model: LoadedModel) -> EventLog:
        return EventLog(self._state)

    @property
    def model(self) -> DeviceModel:
        """The version in use."""
        return self._runtime.ranking

    def observe(self, *items: str | int) -> None:
        """Note what has just happened on the device, oldest first: original item ids; unknown ones count too.

        Raises:
            InvalidItemsError: one of them is no id; then none is noted.
        """
        ids = [item_id(item) for item in items]
        index_N = self.model.indices(ids)
        self._counts.unknown(events=int(np.count_nonzero(index_N == UNKNOWN)))
        self._log.append(ids)
        self._upkeep.touch()

    def rank(self, candidates: Iterable[str | int], *, met: MetPolicy | None = None) -> Ranking:
        """Candidates with their scores, best first; equal scores keep their order.

        Those that the version does not know come last, as evaluation ranks them, with the lowest number of float32.

        Args:
            candidates: original item ids.
            met: `hide` leaves out those that the device has met, `show` does not; None: as `DeviceConfig.met` has it.

        Returns:
            A sequence of (id, score); `list(…)` makes a list of it.

        Raises:
            InvalidItemsError: they are no list, or one of them is no id.
            InvalidDeviceConfigError: `met` is neither.
        """
        runtime = self._runtime
        return self._ranker.rank(runtime, candidates, self._hides(runtime, met))

    def recommend(self, k: int, *, met: MetPolicy | None = None) -> Ranking:
        """The k best items of the catalogue with their scores; of equal scores the lowest item index comes first.

        Args:
            k: how many, at most.
            met: `hide` leaves out those that the device has met, `show` does not; None: as `DeviceConfig.met` has it.

        Raises:
            InvalidItemsError: `k` is no whole number.
            InvalidDeviceConfigError: `met` is neither.
        """
        runtime = self._runtime
        return self._ranker.recommend(runtime, k, self._hides(runtime, met))

    def met(self) -> Bool:
        """Which items of the version in use the device has met, as far as its log remembers: bool [V]."""
        return self._ranker.met.of(self._runtime.ranking)

    @property
    def met_policy(self) -> MetPolicy:
        """Whether rankings hide or show items that the device has met, where a call does not say."""
        return self.config.met or self.model.manifest.met

    def _hides(self, runtime: Runtime, met: MetPolicy | None) -> bool:
        if met is not None:
            check_met(met)
        return (met or self.config.met or runtime.ranking.manifest.met) == "hide"

    def score(self, candidates_C: Sequence[int] | Int64 | None = None, *, personal: bool = True) -> Float32:
        """Scores of item indices of the version in use, unsorted: float32 [C]. For measurements; see `rank`.

        Args:
            candidates_C: item indices, 0 to V - 1; None for all, [V]. Padding, index 0, scores -inf.
            personal: False scores with theta = 0.

        Raises:
            InvalidItemsError: an index is out of range, or they are no whole numbers.
        """
        return self._ranker.score(self._runtime, candidates_C, personal)

    def _forgotten(self) -> None:
        self._ranker.forget()
