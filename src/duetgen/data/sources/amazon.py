"""Amazon product data (2014), Review Data (2018) and Reviews (2023): ratings alone, and reviews, full or 5-core."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Final

import polars as pl

from duetgen.data.errors import SourceAmbiguousError
from duetgen.data.sources.dates import parse_date
from duetgen.data.sources.header import is_number
from duetgen.data.sources.lines import blocks, fields, stray_quotes
from duetgen.data.sources.log import Columns
from duetgen.data.sources.packing import bare
from duetgen.data.sources.source import Head, Lines, Named, Reader

ASIN: Final = re.compile(r"(B0[0-9A-Z]{8}|[0-9]{9}[0-9X])\Z")
MOST: Final = 0.9
MOST_STARS: Final = 10
TERMS: Final = "for research; no licence is stated, so do not redistribute"
OF_2014: Final = (
    "R. He and J. McAuley, Ups and Downs: Modeling the Visual Evolution of Fashion Trends with One-Class "
    "Collaborative Filtering, WWW 2016; J. McAuley et al., Image-based Recommendations on Styles and Substitutes, "
    "SIGIR 2015"
)
OF_2018: Final = (
    "J. Ni, J. Li and J. McAuley, Justifying Recommendations using Distantly-Labeled Reviews and Fine-Grained "
    "Aspects, EMNLP 2019"
)
OF_2023: Final = "Y. Hou et al., Bridging Language and Items for Retrieval and Recommendation, arXiv:2403.03952, 2024"


class Amazon(Reader):
    """What all of them have in common: titles of the products from `meta_CATEGORY` beside the log."""

    licence = TERMS

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        category = re.sub(r"^(reviews|ratings)_|_5$", "", bare(log).rsplit(".", 1)[0])
        return (f"meta_{category}.json", f"meta_{category}.jsonl")


class Ratings(Amazon, Lines):
    """Ratings without a header: two ids, stars and a time; the product ids (ASINs) tell which id is whose."""

    separator = ","
    item_first: ClassVar[bool]

    def fits(self, head: Head) -> bool:
        """It is such a log, and product ids are not where this layout has users; `which` tells the layouts apart."""
        return head.form == "text" and is_rating_line(head.first) and not swapped(head.lines, self.item_first)

    def tells(self, head: Head) -> bool:
        """Never alone: see `which`."""
        return False


class Ratings2014(Ratings):
    """User first."""

    name = "amazon-2014-csv"
    about = "ratings_CATEGORY.csv of 2014: user, item, rating, time"
    logs = ("ratings_*.csv",)
    citation = OF_2014
    item_first = False


class Ratings2018(Ratings):
    """Item first."""

    name = "amazon-2018-csv"
    about = "CATEGORY.csv of 2018: item, user, rating, time"
    columns = ("item", "user", "rating", "timestamp")
    citation = OF_2018
    item_first = True


class Ratings2023(Amazon, Named):
    """Ratings with a header; times are in milliseconds."""

    name = "amazon-2023-csv"
    about = "CATEGORY.csv of 2023, 0-core or 5-core"
    separator = ","
    columns = Columns(user="user_id", item="parent_asin", rating="rating", timestamp="timestamp")
    citation = OF_2023


class Reviews(Amazon, Named):
    """Reviews of 2014 and 2018, one JSON object a line."""

    name = "amazon-reviews"
    about = "reviews_CATEGORY.json (2014) and CATEGORY.json (2018), full or 5-core"
    logs = ("reviews_*.json",)
    form = "json"
    columns = Columns(user="reviewerID", item="asin", rating="overall", timestamp="unixReviewTime")
    citation = f"{OF_2014}; of 2018: {OF_2018}"

    def fits(self, head: Head) -> bool:
        """By the ids; other fields may lack in a review."""
        return head.form == self.form and {"reviewerID", "asin"} <= set(head.names)


class Reviews2023(Amazon, Named):
    """Reviews of 2023; their `title` is that of the review."""

    name = "amazon-2023-reviews"
    about = "CATEGORY.jsonl of 2023"
    form = "json"
    columns = Columns(user="user_id", item="parent_asin", rating="rating", timestamp="timestamp")
    citation = OF_2023


def is_rating_line(line: str) -> bool:
    """Whether a line is two ids, a rating of some stars, and a time."""
    values = line.split(",")
    if len(values) != 4 or not is_number(values[2]) or not is_number(values[3]):
        return False
    dated = any(parse_date(value) is not None and not value.isdigit() for value in values[:2])
    return 0 <= float(values[2]) <= MOST_STARS and not dated


def _asin_share(lines: list[str], column: int) -> float:
    values = [parts[column] for line in lines if len(parts := line.split(",")) == 4]
    return sum(bool(ASIN.match(value)) for value in values) / max(len(values), 1)


def swapped(lines: list[str], item_first: bool) -> bool:
    """Whether product ids are clearly where this layout has users."""
    first, second = _asin_share(lines, 0), _asin_share(lines, 1)
    users, items = (second, first) if item_first else (first, second)
    return users >= MOST and items <= 1 - MOST


def which(path: Path, lines: list[str]) -> str:
    """Which of the two layouts without a header, by the column of product ids.

    Raises:
        SourceAmbiguousError: they are in neither column alone: a guess would swap people and items.
    """
    if swapped(lines, item_first=False):
        return Ratings2018.name
    if swapped(lines, item_first=True):
        return Ratings2014.name
    for block in blocks(path, quoted=True):
        broken = fields(block, ",", 4, quoted=True).filter(
            pl.any_horizontal(pl.exclude("line").str.contains("\n", literal=True))
        )
        if len(broken):
            raise stray_quotes(path, broken["line"][0])
    raise SourceAmbiguousError(
        f"{path} has no header, and nothing tells which of its first two columns is the user",
        "say it: --no-header --user-column 1 --item-column 2 --time-column 4, or the other way round; of Amazon's "
        "ratings name amazon-2014-csv (user first) or amazon-2018-csv (item first)",
    )
