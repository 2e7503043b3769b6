"""Pieces of a dataset's events as rows of one array.

Shapes: E events, N rows, L length of a row.
"""

from __future__ import annotations

import numpy as np

from duetgen.data.store import PADDING, Int32, Int64


def gather(events_E: Int32, start_N: Int64, end_N: Int64, length: int) -> Int64:
    """The last `length` events of events[start:end] of each row, oldest first, right-padded with 0: int64 [N, L]."""
    if not length or not len(end_N):
        return np.zeros((len(end_N), length), dtype=np.int64)
    index_NL = np.maximum(end_N - length, start_N)[:, None] + np.arange(length)
    beyond_NL = index_NL >= end_N[:, None]
    np.minimum(index_NL, len(events_E) - 1, out=index_NL)
    rows_NL = events_E[index_NL].astype(np.int64)
    rows_NL[beyond_NL] = PADDING
    return rows_NL
