"""Rows and candidates of the text format in the indices of a dataset.

Shapes: R rows, L events of a window, T events of a trigger sequence, U devices, E events, N targets, C candidates.
"""

from __future__ import annotations

import numpy as np

from duetgen.data.filters import Indexed
from duetgen.data.sources.duet_text.rows import TextRows
from duetgen.data.store import FIRST_ITEM, PADDING, UNKNOWN, Int32, Rows, find_targets


def place_rows(rows: TextRows, indexed: Indexed) -> tuple[Rows, int]:
    """The training rows in the indices of the dataset, those that stand before the validation event of their device.

    Returns:
        The rows, and how many are left out: of users that were dropped, at or after the validation event, or such that
        their window is nowhere in the sequence.
    """
    item_index = _item_index(rows, indexed)
    device_of = {user: device for device, user in enumerate(indexed.users.to_list())}
    device_U = np.array([device_of.get(user, -1) for user in rows.users.to_list()], dtype=np.int32)
    device_R, window_RL = device_U[rows.user_R], item_index[rows.window_RL]
    width = window_RL.shape[1]
    user_E = np.repeat(np.arange(len(indexed.users)), np.diff(indexed.offsets))
    within_E = np.arange(len(user_E)) - indexed.offsets[user_E]
    training = within_E < indexed.bounds[user_E, 0]
    keys = [_keys(device_R, window_RL)]
    for chosen in (training, ~training):
        position = np.flatnonzero(chosen)
        have = np.minimum(within_E[chosen], width)
        at = (position - have)[:, None] + np.arange(width)
        real = np.arange(width) < have[:, None]
        window = np.where(real, indexed.events[np.where(real, at, 0)], PADDING)
        keys.append(_keys(user_E[chosen].astype(np.int32), window.astype(np.int32)))
    allowed = set(keys[1]) - set(keys[2])
    kept = np.array([key in allowed for key in keys[0]], dtype=bool)
    placed = Rows(
        device_R=device_R[kept],
        window_RL=window_RL[kept],
        trigger_RL=item_index[rows.trigger_RT[kept]],
        target_R=item_index[rows.target_R[kept]],
        label_R=rows.label_R[kept],
    )
    return placed, int((~kept).sum())


def _keys(device: Int32, window: Int32) -> list[bytes]:
    whole = np.ascontiguousarray(np.concatenate([device[:, None], window], axis=1), dtype=np.int32)
    return [row.tobytes() for row in whole]


def _item_index(rows: TextRows, indexed: Indexed) -> Int32:
    """Index of the dataset for each item code: int32 [codes], padding stays 0."""
    index_of = {item: i for i, item in enumerate(indexed.items.to_list(), FIRST_ITEM)}
    return np.array([PADDING, *(index_of.get(item, UNKNOWN) for item in rows.items.to_list())], dtype=np.int32)


def place_given(rows: TextRows, indexed: Indexed) -> Int32:
    """Candidates that came with each test target of the dataset: int32 [N, C], the positive first, 0-padded."""
    item_index = _item_index(rows, indexed)
    code_of = {user: code for code, user in enumerate(rows.users.to_list())}
    targets = find_targets(indexed.offsets, indexed.bounds, "test")
    first_N = indexed.offsets[targets.device_N] + indexed.bounds[targets.device_N, 1]
    users = indexed.users.to_list()
    found = [
        rows.given[code_of[users[device]]][number]
        for device, number in zip(targets.device_N.tolist(), (targets.position_N - first_N).tolist())
    ]
    out = np.zeros((len(found), max(map(len, found), default=1)), dtype=np.int32)
    for row, candidates in enumerate(found):
        out[row, : len(candidates)] = item_index[candidates]
    return out
