"""Histories that wait together: how many, and how much of them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from duetgen.cloud import gathering
from duetgen.cloud.errors import OverloadedError
from duetgen.cloud.gathering import Gathering


class Counting:
    """An engine that remembers how many it was given at once."""

    rows = 2

    def __init__(self) -> None:
        self.calls: list[int] = []

    def thetas(self, histories: list[Any]) -> Any:
        self.calls.append(len(histories))
        return "thetas"


def test_histories_that_wait_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_WAITING_BYTES", 130)
    engine, history = Counting(), np.zeros(5, dtype=np.int64)

    async def ask() -> None:
        waiting = Gathering(engine, lambda seconds, devices: None)  # type: ignore[arg-type]
        # 40 bytes each: three fit, a fourth does not, before those are generated.
        first = [waiting.theta(history) for _ in range(3)]
        with pytest.raises(OverloadedError):
            waiting.theta(history)
        assert [place[1] for place in await asyncio.gather(*first)] == [0, 1, 0]
        later = [waiting.theta(history) for _ in range(3)]
        await asyncio.gather(*later)
        assert len(waiting) == 0

    asyncio.run(ask())
    assert engine.calls == [2, 1, 2, 1]
