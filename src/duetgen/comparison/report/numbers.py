"""Figures as people read them."""

from __future__ import annotations


def count(value: float) -> str:
    """A count of about three digits: `950`, `2.1k`, `260k`, `1.4M`; small ones as they are."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    """A time of two to three digits, in the unit that suits it."""
    if value >= 60_000:
        return f"{value / 60_000:.3g} min"
    if value >= 1_000:
        return f"{value / 1_000:.3g} s"
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"


def seconds(value: float) -> str:
    """A longer time."""
    return f"{value / 60:.0f} min" if value >= 120 else f"{value:.0f} s"


def p_value(value: float) -> str:
    """A p-value as tables have it."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float | None, high: float | None) -> str:
    """The bounds of a difference, empty without them. A bound has as many digits as tell it from nought, on which side
    of it an outcome depends.
    """
    if low is None or high is None:
        return ""
    digits = [next((d for d in range(4, 10) if float(f"{bound:.{d}f}")), 4) for bound in (low, high)]
    return f"{low:+.{digits[0]}f} to {high:+.{digits[1]}f}"


def signed(value: float, digits: int = 4) -> str:
    """With its sign, a true minus, and no minus before nought."""
    text = f"{value:+.{digits}f}"
    if not float(text):
        text = text.replace("-", "+")
    return text.replace("-", "−")
