"""Taobao: `UserBehavior.csv`, and the log of IJCAI-16 that is called Alipay in papers; both from Tianchi."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from duetgen.data.sources.header import Found, find_columns
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.raw import Raw, read_raw
from duetgen.data.sources.source import Head, Lines, Named

BEHAVIOURS: Final = ("pv", "buy", "cart", "fav")
ACTIONS: Final = {"0": "click", "1": "buy"}
TERMS: Final = "non-commercial research, after the terms of Tianchi are accepted; no redistribution"


class Taobao(Lines):
    """`UserBehavior.csv`: user, item, category, behaviour, time; all behaviours count unless some are chosen."""

    name = "taobao"
    about = "UserBehavior.csv of Tianchi; --keep-behaviours buy,cart,fav,pv chooses"
    logs = ("UserBehavior.csv",)
    separator = ","
    columns = ("user", "item", "", "behaviour", "timestamp")
    licence = TERMS
    citation = "H. Zhu et al., Learning Tree-based Deep Model for Recommender Systems, KDD 2018"

    def fits(self, head: Head) -> bool:
        """Five fields, the fourth of them a behaviour."""
        return super().fits(head) and head.first.split(",")[3] in BEHAVIOURS


class Alipay(Named):
    """`ijcai2016_taobao.csv`: user, seller, item, category, action, day; `--item-column sel_ID` ranks sellers."""

    name = "alipay"
    about = "ijcai2016_taobao.csv of Tianchi (IJCAI-16); --keep-behaviours click,buy chooses"
    logs = ("ijcai2016_taobao*",)
    separator = ","
    columns = Columns(user="use_ID", item="ite_ID", behaviour="act_ID", timestamp="time")
    licence = TERMS
    citation = "IJCAI-16 Brick-and-Mortar Store Recommendation Dataset, Alibaba Tianchi, dataset 53"
    takes_columns = True

    def fits(self, head: Head) -> bool:
        """The header of the publisher."""
        return super().fits(head) and {"sel_ID", "cat_ID"} <= set(head.names)

    def read(self, path: Path, columns: Columns, reading: Reading) -> Iterator[Raw]:
        """See `Reader`; what is chosen goes before what is usual, and actions have words."""
        given = {name: value for name, value in msgspec.structs.asdict(columns).items() if value}
        chosen = msgspec.structs.replace(self.columns, **given)

        def find(names: list[str]) -> Found:
            return find_columns(names, path, chosen)

        for raw in read_raw(path, find, separator=self.separator):
            yield replace(raw, frame=raw.frame.with_columns(pl.col("behaviour").replace(ACTIONS)))
