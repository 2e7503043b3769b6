"""duetgen: one model for every device.

The cloud generates each device's own weights from its recent behaviour (DUET, WWW 2023, arXiv 2209.05227); no device
ever trains. Importing this package is cheap: each part imports what it needs, when it is used.
"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING

from duetgen.late import late

if TYPE_CHECKING:
    from duetgen.core import personalise

__all__ = ["__version__", "personalise"]


__getattr__ = late(__name__, {"personalise": "core"})
