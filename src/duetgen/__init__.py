"""duetgen: one model for every device.

The cloud generates each device's own weights from its recent behaviour (DUET, WWW 2023, arXiv 2209.05227); no device
ever trains. Importing this package is cheap: each part imports what it needs, when it is used.
"""

__version__ = "0.1.0"

import os
from typing import TYPE_CHECKING

from duetgen.late import late

if TYPE_CHECKING:
    from duetgen.core import personalise

# ONNX Runtime of 1.29 and later would send its maker what it runs, under an id that it keeps in the home folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["__version__", "personalise"]


__getattr__ = late(__name__, {"personalise": "core"})
