"""Services to attack: those of the cloud's own tests."""

from __future__ import annotations

from tests.cloud.conftest import client, live, version

__all__ = ["client", "live", "version"]
