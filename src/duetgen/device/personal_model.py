"""A device that runs any model: keeps what it sees, runs with its own parameters, and asks for new ones meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from duetgen.device.checks import refuse
from duetgen.device.config import DeviceConfig, DeviceOptions
from duetgen.device.loaded import Float32, LoadedModel
from duetgen.device.policy import DailyBudget, Drift
from duetgen.device.resident import Resident
from duetgen.device.sample_log import SampleLog
from duetgen.device.sample_model import SampleModel
from duetgen.wire.errors import InvalidSampleError
from duetgen.wire.samples import NUMBERS, WHOLE


class PersonalModel(Resident[SampleLog]):
    """One device with a bundle of any model. Thread-safe; a context manager.

    Running touches no network, no disk and no lock that a request holds, and uses the last good theta, or theta = 0.

    Args:
        bundle: folder of the bundle that it starts with, or a loaded model that devices share.
        config: its options.
        options: fields of `DeviceConfig` that take the place of those of `config`, as `cloud=…` and `token=…`.

    Raises:
        InvalidDeviceConfigError: an option cannot work.
        InvalidBundleError: the given bundle is damaged, not to be trusted, does not compute what it should, or ranks
            items.
        StateInUseError: another process runs a device on this state folder.
        OutputUnwritableError: the state folder cannot be made.
    """

    _kind = SampleModel

    def __init__(
        self,
        bundle: Path | str | SampleModel,
        config: DeviceConfig | None = None,
        **options: Unpack[DeviceOptions],
    ) -> None:
        super().__init__(bundle, config, options)
        self._start()

    def _make_log(self, model: LoadedModel) -> SampleLog:
        assert isinstance(model, SampleModel)
        policy = self.config.policy
        if isinstance(policy.policy if isinstance(policy, DailyBudget) else policy, Drift):
            refuse("policy", "is Drift, which compares items", "give EveryEvents, AfterSeconds or Always")
        if self.config.parts == "bias":
            refuse("parts", "'bias' is of items, and this model ranks none", "give weights, or leave it out")
        if self.config.met is not None:
            refuse("met", "is of items, and this model ranks none", "leave it out")
        return SampleLog(self._state, model.spec.history, model.history)

    @property
    def model(self) -> SampleModel:
        """The version in use."""
        model = self._runtime.model
        assert isinstance(model, SampleModel)
        return model

    def observe(self, *samples: npt.ArrayLike) -> None:
        """Note what has just happened on the device, oldest first: samples as the manifest types them, of pictures the
        bytes of their files.

        Raises:
            InvalidSampleError: one of them is not; then none is noted.
        """
        model = self.model
        packed = [model.spec.history.pack(sample, model.vocabulary) for sample in samples]
        self._log.append(packed)
        self._upkeep.touch()

    def run(self, inputs: Mapping[str, npt.ArrayLike], *, personal: bool = True) -> Float32:
        """The model's output for inputs, by name, as the manifest types them: a fresh array.

        Args:
            inputs: numbers of another type are converted where nothing is lost but digits of a fraction.
            personal: False runs with theta = 0.

        Raises:
            InvalidSampleError: an input is missing, is another, or holds what the model cannot run with.
        """
        runtime = self._runtime
        model = runtime.model
        assert isinstance(model, SampleModel)
        arrays = convert(model, inputs)
        theta = runtime.store.usable(int(self.config.clock() * 1000)) if personal else None
        if theta is None:
            return model.run(model.zeros_P, arrays)
        output = model.run(theta.at(model, self._log.count).values_P, arrays)
        finite = np.isfinite(output)
        if finite.all():
            return output
        # Inputs that are not finite themselves are nothing to blame theta for.
        fallback = model.run(model.zeros_P, arrays)
        if not (np.isfinite(fallback) & ~finite).any():
            return output
        self._counts.refuse("non-finite-scores")
        runtime.store.drop(theta)
        return fallback

    def _forgotten(self) -> None:
        """Nothing else is kept."""


def convert(model: SampleModel, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[np.generic]]:
    """Inputs in the types of the manifest.

    Raises:
        InvalidSampleError: they are not given by name, or one cannot be of its type.
    """
    if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
        raise InvalidSampleError(f"the inputs are {type(inputs).__name__}", "give them by name, as in run({'x': …})")
    types = {spec.name: spec.dtype for spec in model.spec.inputs}
    found = {}
    for name, value in inputs.items():
        try:
            array, dtype = np.asarray(value), types.get(name)
        except (ValueError, TypeError, RuntimeError, OverflowError) as cause:
            raise InvalidSampleError(
                f"the input {name} is no array: {cause}", "give numbers, as numpy has them"
            ) from cause
        if dtype is not None and array.dtype.kind not in (NUMBERS if dtype == "float32" else WHOLE):
            raise InvalidSampleError(f"the input {name} is {array.dtype}", f"this version takes {dtype}")
        found[name] = array if dtype is None else cast(name, array, np.dtype(dtype))
    return found


def cast(name: str, array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Numbers in another type of their kind, with nothing lost but digits of a fraction.

    Raises:
        InvalidSampleError: a number is beyond the type.
    """
    with np.errstate(over="ignore"):
        found = array.astype(dtype, order="C")
    lost = np.isfinite(found) != np.isfinite(array) if dtype.kind == "f" else found != array
    if lost.any():
        raise InvalidSampleError(f"the input {name} holds numbers beyond {dtype}", "give smaller ones")
    return found
