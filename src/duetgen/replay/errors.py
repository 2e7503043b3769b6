"""Refusals of replays."""

from __future__ import annotations

from duetgen.errors import DuetError


class NotReplayableError(DuetError):
    """A log that these devices cannot replay: of other items, without targets, or without what was asked for."""

    code = "not-replayable"
