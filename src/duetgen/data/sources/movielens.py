"""MovieLens: 100K (`u.data`), 1M and 10M (`ratings.dat`), 20M, 25M, 32M, latest-small and latest (`ratings.csv`)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from duetgen.data.sources.log import Columns
from duetgen.data.sources.source import Head, Lines, Named, Reader
from duetgen.data.sources.titles import read_layout


class MovieLens(Reader):
    """What all of them have in common."""

    licence = "research use; no commercial use and no redistribution without permission of GroupLens"
    citation = (
        "F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015, "
        "doi:10.1145/2827872"
    )


class MovieLens100K(MovieLens, Lines):
    """`u.data`, and titles from `u.item`, which is Latin-1."""

    name = "movielens-100k"
    about = "u.data, tab-separated"
    logs = ("u.data",)
    separator = "\t"

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        return ("u.item",)

    def read_titles(self, path: Path, item: str | None) -> pl.DataFrame:
        """See `Reader`."""
        return read_layout(path, "|", ("latin-1",))


class MovieLens1M(MovieLens, Lines):
    """`ratings.dat`, and titles from `movies.dat`, which is Latin-1 in 1M and UTF-8 in 10M."""

    name = "movielens-1m"
    about = "ratings.dat of 1M and 10M, ::-separated"
    logs = ("ratings.dat",)
    separator = "::"

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        return ("movies.dat",)

    def read_titles(self, path: Path, item: str | None) -> pl.DataFrame:
        """See `Reader`."""
        return read_layout(path, "::", ("utf-8", "latin-1"))


class MovieLensCsv(MovieLens, Named):
    """`ratings.csv`, and titles from `movies.csv`."""

    name = "movielens-csv"
    about = "ratings.csv of 20M, 25M, 32M, latest-small and latest"
    logs = ("ratings.csv",)
    separator = ","
    columns = Columns(user="userId", item="movieId", rating="rating", timestamp="timestamp")

    def fits(self, head: Head) -> bool:
        """The header, exactly."""
        return head.first == "userId,movieId,rating,timestamp"

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        return ("movies.csv",)
