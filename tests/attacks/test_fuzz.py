"""A small part of what `fuzz.py` tries."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.cloud.test_live import Start

from .fuzz import in_process, over_sockets


def test_no_message_makes_the_application_fail(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asyncio.run(in_process(version, 1000, random.Random(1)))
    assert {200, 400, 404, 405, 415, 431} <= found.keys()


def test_no_bytes_make_the_service_fail(live: Start, version: Path) -> None:
    service = live(version, "--open", "--rate", "0", "--body-seconds", "1")
    found = over_sockets(service.url, service.ready["models"][0], 300, random.Random(1))
    assert {200, 400, 404, 405} <= found.keys()
    with service.client() as client:
        assert client.get("/readyz").status_code == 200


@pytest.mark.slow
def test_many_messages(live: Start, version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(in_process(version, 20_000, random.Random(2)))
    service = live(version, "--open", "--rate", "0")
    over_sockets(service.url, service.ready["models"][0], 5_000, random.Random(2))
