"""A verified bundle, loaded: what a device needs of it, whatever it computes.

Shapes: P weights in theta.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from duetgen.wire.bundle import Bundle
from duetgen.wire.errors import InvalidBundleError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Float32 = npt.NDArray[np.float32]


class LoadedModel(ABC):
    """A bundle, verified and loaded. Thread-safe; many devices may share one.

    Args:
        bundle: an opened bundle, see `model.load_model`.

    Attributes:
        runs_on: the class that an application runs it with.

    Raises:
        InvalidBundleError: its graph cannot be loaded.
    """

    runs_on: ClassVar[str]

    def __init__(self, bundle: Bundle) -> None:
        import onnxruntime

        manifest = bundle.manifest
        self.bundle, self.manifest, self.model_id = bundle, manifest, manifest.model_id
        self.history, self.vocabulary, self.size = manifest.history, manifest.vocabulary, manifest.size
        self.codec, self.bounds_P = bundle.codec(), bundle.bounds()
        self.bias_codec = bundle.bias_codec()
        self.zeros_P: Float32 = np.zeros(self.size, dtype=np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = bundle.read("device.onnx")
        try:
            self.session: InferenceSession = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as cause:  # onnxruntime raises a dozen unrelated types
            raise InvalidBundleError(f"device.onnx cannot be loaded: {cause}", "export the model again") from cause

    @abstractmethod
    def asked(self, kept: Sequence[Any]) -> list[int] | bytes:
        """What the device's log keeps, as a request for theta holds it."""

    @property
    @abstractmethod
    def kind(self) -> object:
        """Equal for versions that may follow one another on a device."""

    @abstractmethod
    def forget(self) -> None:
        """Let go of the arrays of earlier calls, which hold a device's data and theta; of calls under way too."""
