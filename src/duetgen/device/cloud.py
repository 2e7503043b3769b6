"""The cloud, as a device sees it."""

from __future__ import annotations

from typing import BinaryIO, Protocol

from duetgen.wire.messages import ModelsAnswer, ParametersAnswer, ParametersRequest


class Cloud(Protocol):
    """What a device asks: `client.HttpCloud`, or anything in its place."""

    def parameters(self, request: ParametersRequest, limit: int) -> ParametersAnswer:
        """Theta, in an answer of at most `limit` bytes."""

    def models(self, device: str) -> ModelsAnswer:
        """What is in service, and what a device shall run."""

    def file(self, model_id: str, name: str, limit: int, into: BinaryIO) -> None:
        """Write a file of a version, at most `limit` bytes of it."""

    def close(self) -> None:
        """No more will be asked."""
