"""Refusals of the export."""

from __future__ import annotations

from duetgen.errors import DuetError


class NotExportableError(DuetError):
    """A model that cannot be published: it generates nothing, or is beyond the limits of a bundle."""

    code = "not-exportable"


class ParityFailedError(DuetError):
    """ONNX Runtime does not compute what torch computes; nothing is published."""

    code = "parity-failed"


class InvalidKeyError(DuetError):
    """A signing key that is missing, unreadable, or no Ed25519 key."""

    code = "invalid-key"
