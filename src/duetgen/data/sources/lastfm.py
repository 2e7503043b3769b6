"""Last.fm of HetRec 2011: who listened to which artist how often; no time, and the order is not known."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from duetgen.data.sources.log import Columns
from duetgen.data.sources.source import Named
from duetgen.data.sources.titles import read_layout


class LastFm(Named):
    """`user_artists.dat`: the count of plays is the rating; titles are the names in `artists.dat`."""

    name = "lastfm"
    about = "user_artists.dat of HetRec 2011; the count of plays is the rating"
    logs = ("user_artists.dat",)
    separator = "\t"
    columns = Columns(user="userID", item="artistID", rating="weight")
    licence = "non-commercial research; credit Last.fm (www.last.fm) and HetRec 2011"
    citation = (
        "I. Cantador, P. Brusilovsky and T. Kuflik, 2nd Workshop on Information Heterogeneity and Fusion in "
        "Recommender Systems (HetRec 2011), RecSys 2011"
    )

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        return ("artists.dat", "items.csv")

    def read_titles(self, path: Path, item: str | None) -> pl.DataFrame:
        """See `Reader`; names hold quotes that pair with nothing."""
        if path.name.startswith("items"):
            return super().read_titles(path, "item")
        return read_layout(path, "\t", ("utf-8", "latin-1"), header=True)
