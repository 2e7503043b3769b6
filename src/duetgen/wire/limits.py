"""The maximum of every external input, in one place: nothing is allocated for a value above its limit."""

from __future__ import annotations

from typing import Final

MAX_INPUT_BYTES: Final = 64 * 2**30
"""Largest log file that is read, in bytes on disk."""

MAX_DECOMPRESSED_BYTES: Final = 256 * 2**30
"""Largest content that is read out of a compressed log, in bytes."""

MAX_LINE_BYTES: Final = 4 * 2**20
"""Longest line of a text log, in bytes."""

MAX_ID_BYTES: Final = 512
"""Longest user or item id, in UTF-8 bytes."""

MAX_TITLE_BYTES: Final = 2048
"""Longest title of an item, in UTF-8 bytes; longer ones are cut."""

MAX_EVENTS: Final = 2**31 - 1
"""Most events in one dataset."""

MAX_ITEMS: Final = 2**31 - 3
"""Most items in one dataset: indices are int32, and 0 and 1 are taken."""

MIN_TIMESTAMP: Final = -(2**62)
MAX_TIMESTAMP: Final = 2**62
"""Range of timestamps in seconds; outside it, arithmetic on int64 could overflow."""

MAX_WINDOW: Final = 1024
"""Longest window L_d that a device model may have, in events."""

MAX_GENERATOR_HISTORY: Final = 4096
"""Longest history L_g that a generator may read, in events."""

MAX_STALENESS: Final = 1_000_000
"""Oldest theta that can be asked for in evaluation, in events."""
