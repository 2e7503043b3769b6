"""How numbers are told."""

from __future__ import annotations

import pytest

from duetgen.words import counted, counted_all


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 devices"), (1, "1 device"), (2, "2 devices"), (12345, "12,345 devices")]
)
def test_one_thing_is_no_several(number: int, told: str) -> None:
    assert counted(number, "device") == told


def test_several_things_stand_in_their_order() -> None:
    assert counted_all({"device": 1, "known item": 3, "event": 1000}) == "1 device, 3 known items, 1,000 events"
