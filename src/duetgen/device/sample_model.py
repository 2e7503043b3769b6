"""The device model of any modality: inputs in, output out, with a theta.

Shapes: P weights in theta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UnsetType

from duetgen.device.loaded import Float32, LoadedModel
from duetgen.device.model import TOLERANCE
from duetgen.wire.bundle import Bundle
from duetgen.wire.errors import InvalidBundleError, InvalidSampleError
from duetgen.wire.samples import check_inputs


class SampleModel(LoadedModel):
    """A bundle of a model that ranks no items, verified and loaded. Thread-safe; many devices may share one.

    Args:
        bundle: an opened bundle, see `model.load_model`.

    Raises:
        InvalidBundleError: its graph cannot be loaded, has other inputs, or does not reproduce the canary.
    """

    runs_on = "PersonalModel"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        assert not isinstance(self.manifest.model, UnsetType)
        self.spec = self.manifest.model
        names = {entry.name for entry in self.session.get_inputs()}
        wanted = {"theta", *(spec.name for spec in self.spec.inputs)}
        if names != wanted or [entry.name for entry in self.session.get_outputs()] != [self.spec.output.name]:
            raise InvalidBundleError(
                f"device.onnx takes {', '.join(sorted(names))}, not {', '.join(sorted(wanted))}",
                "export the model again",
            )
        self._prove()

    def _prove(self) -> None:
        canary = self.bundle.model_canary()
        for theta_P, wanted in (
            (np.array(canary.theta, dtype=np.float32), canary.output),
            (self.zeros_P, canary.fallback),
        ):
            try:
                expected = wanted.values()
                found = self.run(theta_P, {name: array.values() for name, array in canary.inputs.items()})
            except Exception as cause:  # a graph that loads may still fail when it runs
                raise InvalidBundleError(f"device.onnx does not run: {cause}", "export the model again") from cause
            if found.shape != expected.shape or not np.allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE):
                raise InvalidBundleError(
                    "device.onnx does not reproduce the output of canary.json",
                    "export the model again, or update onnxruntime on this device",
                )

    def run(self, theta_P: Float32, inputs: dict[str, npt.NDArray[Any]]) -> Float32:
        """The output for one device: a fresh array.

        Args:
            theta_P: float32 [P]; `zeros_P` for the global model.
            inputs: by name, as the manifest types them.

        Raises:
            InvalidSampleError: an input is missing, is another, or holds what the graph cannot run with.
        """
        check_inputs(self.spec.inputs, inputs)
        try:
            output: Float32 = self.session.run([self.spec.output.name], {"theta": theta_P[None], **inputs})[0]
        except Exception as cause:  # ONNX Runtime's own, as for an index that a table does not have
            raise InvalidSampleError(
                f"the model does not run with these inputs: {cause}", "see its manifest"
            ) from cause
        return output

    @property
    def kind(self) -> object:
        """What it reads and gives: an application goes on as it was."""
        return self.spec

    def asked(self, kept: Sequence[Any]) -> list[int] | bytes:
        """The samples kept, as a request holds them; without ids that another version had, and this one has not."""
        history = self.spec.history.join(kept)
        return history if isinstance(history, bytes) else [one for one in history if one < self.vocabulary]

    def forget(self) -> None:
        """Nothing is kept of earlier calls."""
