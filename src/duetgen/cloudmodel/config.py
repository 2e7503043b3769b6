"""What tells a cloud model's shape."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

Member = Literal["sequence", "ease", "item-knn", "onnx"]
Kind = Literal["none", "auto", "sequence", "ease", "item-knn", "blend", "onnx"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class CloudConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A cloud model; it reads as many events as the generator.

    Attributes:
        kind: `sequence`, a SASRec of a width of its own and a GRU4Rec beside it; `ease` or `item-knn`, a table of each
            item's nearest ones; `blend`, the first and one of the others; `onnx`, a graph of the user's own; `none`;
            `auto`: `blend` for the methods `duet` and `cloud`.
        table: which of the two tables `blend` takes; `auto`: EASE where the catalogue is small enough to solve quickly.
        items: K, most items of an opinion.
        width: of the sequence model's SASRec.
        layers: of that.
        heads: of that.
        recurrent: width of its GRU4Rec; 0 for none, `auto` for half of `width`.
        neighbours: nearest items kept of each item; of a very large catalogue fewer, see `table.ENTRIES`.
        graph: path of the graph of the kind `onnx`.
        ids: path of a file with the id of each of its columns; empty: these are the item indices of the dataset.
        graph_sha256: of both files, filled in.
    """

    kind: Kind = "auto"
    table: Literal["auto", "ease", "item-knn"] = "auto"
    items: int = 100
    width: int = 128
    layers: int = 1
    heads: int = 2
    recurrent: int | Literal["auto"] = "auto"
    neighbours: int = 200
    graph: str = ""
    ids: str = ""
    graph_sha256: str = ""

    @property
    def members(self) -> tuple[Member, ...]:
        """The models by name; none where nothing has decided it."""
        if self.kind in ("auto", "none"):
            return ()
        table: Member = "ease" if self.table == "ease" else "item-knn"
        return ("sequence", table) if self.kind == "blend" else (self.kind,)  # type: ignore[return-value]

    @property
    def recurrent_width(self) -> int:
        """Of the GRU4Rec; 0 where nothing has decided it, as in runs that knew none."""
        return 0 if self.recurrent == "auto" else self.recurrent

    @property
    def state_width(self) -> int:
        """D of the sequence model's state: all of its backbones side by side."""
        return self.width + self.recurrent_width
