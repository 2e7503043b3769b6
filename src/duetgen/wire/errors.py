"""Refusals that cloud and device share."""

from __future__ import annotations

from duetgen.errors import DuetError


class InvalidBundleError(DuetError):
    """A bundle that is damaged, incomplete, of another format, not signed by a trusted key, or beyond the limits."""

    code = "invalid-bundle"


class InvalidParametersError(DuetError):
    """Parameters that a device must not use: of another model, tampered with, expired, old, or out of bounds."""

    code = "invalid-parameters"


class InvalidSampleError(DuetError):
    """A sample, a history or an input of a model that is not as the manifest of the version types it."""

    code = "invalid-sample"
