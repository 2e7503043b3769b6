"""A bundle's generator in this process, asked as over the network: by the same messages, with the same checks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import BinaryIO, Final

from duetgen.errors import MissingExtraError
from duetgen.wire.authentication import answer_key, answer_mac
from duetgen.wire.bundle import open_bundle
from duetgen.wire.messages import ModelsAnswer, ParametersAnswer, ParametersRequest

LASTING_MS: Final = 10**9
"""How long a theta is good."""


class LocalCloud:
    """Any number of devices may share one, one after the other.

    Args:
        bundle: its folder.

    Raises:
        InvalidBundleError, CanaryError: it is damaged, or does not compute here what was exported.
        MissingExtraError: what a cloud needs is not here.
    """

    def __init__(self, bundle: Path) -> None:
        try:
            from duetgen.cloud.engine import Engine
        except ImportError as cause:
            raise MissingExtraError(f"a cloud needs {cause.name}", "pip install 'duetgen[cloud]'") from cause
        self._engine = Engine(open_bundle(bundle))
        self._key, self._sequence = answer_key(""), 0

    def parameters(self, request: ParametersRequest, limit: int) -> ParametersAnswer:
        """Theta of a history.

        Raises:
            InvalidHistoryError: the version does not read such a history.
        """
        thetas = self._engine.thetas([self._engine.history(request.history)])
        encoded = thetas.encode(0, request.dtype, request.parts)
        self._sequence += 1
        now = int(time.time() * 1000)
        answer = (request.model_id, self._sequence, now, now + LASTING_MS, request.dtype, *encoded)
        mac = answer_mac(self._key, request.device, ParametersAnswer(*answer, b""))
        return ParametersAnswer(*answer, mac)

    def models(self, device: str) -> ModelsAnswer:
        """Nobody looks for another version here."""
        raise NotImplementedError

    def file(self, model_id: str, name: str, limit: int, into: BinaryIO) -> None:
        """Nor fetches one."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to close."""
