"""duetgen: one model for every device.

The cloud generates each device's own weights from its recent behaviour (DUET, WWW 2023, arXiv 2209.05227); no device
ever trains. Importing this package is cheap: each part imports what it needs, when it is used.
"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetgen.core import personalise

__all__ = ["__version__", "personalise"]


def __getattr__(name: str) -> Any:
    """Parts that need torch, imported when they are asked for."""
    if name != "personalise":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from duetgen.core import personalise

    return personalise
