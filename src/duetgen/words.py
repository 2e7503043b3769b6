"""How numbers are told to people."""

from __future__ import annotations

from collections.abc import Mapping


def counted(number: int, noun: str) -> str:
    """A number of things: `1 device`, `2,000 devices`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counted_all(numbers: Mapping[str, int]) -> str:
    """Numbers of several things by their nouns: `1 device, 3 items`."""
    return ", ".join(counted(number, noun) for noun, number in numbers.items())
