"""Refusals of cloud models."""

from __future__ import annotations

from duetgen.errors import DuetError


class InvalidGraphError(DuetError):
    """An ONNX graph, or the file of its ids, that cannot be a cloud model."""

    code = "invalid-cloud-graph"
