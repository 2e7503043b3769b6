"""RecBole's atomic files: tables whose headers have types."""

from __future__ import annotations

from typing import ClassVar

from duetgen.data.sources.header import TYPED_NAME, separator_of, split_line
from duetgen.data.sources.source import Head
from duetgen.data.sources.table import Table


class RecBole(Table):
    """`NAME.inter`; titles from `NAME.item`."""

    name = "recbole"
    about = "NAME.inter, the atomic files of RecBole"
    logs: ClassVar[tuple[str, ...]] = ("*.inter",)
    licence = "that of the data set which was converted"
    citation = (
        "W. X. Zhao et al., RecBole: Towards a Unified, Comprehensive and Efficient Framework for Recommendation "
        "Algorithms, CIKM 2021; and the data set which was converted"
    )

    def fits(self, head: Head) -> bool:
        """Every name in the header has a type, and two are those of a user and an item."""
        typed = head.form == "text" and all(
            TYPED_NAME.fullmatch(name.strip()) for name in split_line(head.first, separator_of(head.first))
        )
        return typed and super().fits(head)
