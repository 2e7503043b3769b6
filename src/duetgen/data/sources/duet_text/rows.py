"""Rows of the text format, as codes; `duet_text` says what they are.

Shapes: R rows, L events of a window, T events of a trigger sequence.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from duetgen.data.sequences import codes
from duetgen.data.sources.duet_text.chains import Edge
from duetgen.data.store import PADDING, Int64


@dataclass(frozen=True)
class TextRows:
    """Rows of the train file, and the candidates of the test file, in codes of `users` and `items`.

    Item code 0 is padding; `items` holds the ids of the codes from 1 on.

    Attributes:
        users: text, by code.
        items: text, by code - 1.
        user_R: user of each training row.
        target_R: item of each training row.
        trigger_RT: what the generator reads, 0-padded on the right.
        window_RL: what the device has seen, 0-padded on the right.
        label_R: 1: chosen, 0: drawn.
        given: per user code, the candidates of its test cases in order, the positive first.
    """

    users: pl.Series
    items: pl.Series
    user_R: Int64
    target_R: Int64
    trigger_RT: Int64
    window_RL: Int64
    label_R: npt.NDArray[np.int8]
    given: dict[int, list[list[int]]]

    def take(self, some: slice) -> TextRows:
        """Some of the rows."""
        return replace(
            self,
            user_R=self.user_R[some],
            target_R=self.target_R[some],
            trigger_RT=self.trigger_RT[some],
            window_RL=self.window_RL[some],
            label_R=self.label_R[some],
        )

    def edges(self) -> dict[int, list[Edge]]:
        """The positive rows of each user, in the order of the file."""
        chosen, width = self.label_R == 1, self.window_RL.shape[1]
        edges: dict[int, list[Edge]] = defaultdict(list)
        for user, item, window in zip(
            self.user_R[chosen].tolist(), self.target_R[chosen].tolist(), self.window_RL[chosen].tolist()
        ):
            edges[user].append(Edge(tuple(item for item in window if item), item, width))
        return edges


def encode(rows: pl.DataFrame) -> TextRows:
    """Ids as codes; item codes from 1 by first appearance (targets first), 0 is padding."""
    user_R, users = codes(rows["user"])
    flat = pl.concat([rows["item"], *(rows[name].explode().rename("item") for name in ("window", "trigger"))])
    code, distinct = codes(flat)
    # Padding moves to 0, and the codes that came before it move up by one.
    shift = np.arange(1, len(distinct) + 1, dtype=np.int64)
    padding = np.flatnonzero((distinct == "0").to_numpy())
    if len(padding):
        shift[padding[0] :] -= 1
        shift[padding[0]] = PADDING
    code = shift[code]
    count, width = len(rows), len(rows["window"][0])
    return TextRows(
        users=users,
        items=distinct.filter(distinct != "0"),
        user_R=user_R,
        target_R=code[:count],
        trigger_RT=code[count + count * width :].reshape(count, -1),
        window_RL=code[count : count + count * width].reshape(count, width),
        label_R=rows["label"].to_numpy(),
        given={},
    )
