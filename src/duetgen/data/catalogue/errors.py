"""Refusals about public data sets; each has a page in `docs/errors/`."""

from __future__ import annotations

from duetgen.errors import DuetError


class DataUnknownError(DuetError):
    """No data set has the name given, and no dataset folder is there."""

    code = "data-unknown"


class DataAbsentError(DuetError):
    """A data set that is known is not on this machine."""

    code = "data-absent"


class LicenceNotAcceptedError(DuetError):
    """A data set is not downloaded, for nobody has accepted its licence."""

    code = "licence-not-accepted"


class DownloadFailedError(DuetError):
    """A file could not be downloaded."""

    code = "download-failed"


class DownloadCorruptError(DuetError):
    """A downloaded file has not the size or the checksum that its publisher gives."""

    code = "download-corrupt"
