"""Douban book, music and movie, in the three forms in which they are published."""

from __future__ import annotations

from typing import Final

from duetgen.data.sources.header import is_number
from duetgen.data.sources.log import Columns
from duetgen.data.sources.source import Head, Lines, Named

TERMS: Final = "for research; no licence is stated, so do not redistribute"


class Douban(Named):
    """`douban_book.tsv`, `douban_music.tsv` and `douban_movie.tsv` of DGRec, with times."""

    name = "douban"
    about = "douban_book.tsv, douban_music.tsv, douban_movie.tsv of DGRec"
    logs = ("douban_*.tsv",)
    separator = "\t"
    columns = Columns(user="UserId", item="ItemId", rating="Rating", timestamp="Timestamp")
    licence = TERMS
    citation = "W. Song et al., Session-based Social Recommendation via Dynamic Graph Attention Networks, WSDM 2019"


class DoubanReviews(Named):
    """`bookreviews_cleaned.txt` and its kind of DTCDR, with dates; the ids of items are called after their kind."""

    name = "douban-reviews"
    about = "bookreviews_cleaned.txt, musicreviews_cleaned.txt, moviereviews_cleaned.txt of DTCDR"
    logs = ("*reviews_cleaned.txt",)
    separator = "\t"
    columns = Columns(user="user_id", rating="rating", timestamp="time")
    licence = TERMS
    citation = "F. Zhu et al., DTCDR: A Framework for Dual-Target Cross-Domain Recommendation, CIKM 2019"

    def fits(self, head: Head) -> bool:
        """By the words of a review."""
        return super().fits(head) and {"labels", "comment"} <= set(head.names)


class DoubanRatings(Lines):
    """`ratings.dat` of GA-DTCDR: user, item and rating, tab-separated; no time, and its order is not known."""

    name = "douban-ratings"
    about = "ratings.dat of GA-DTCDR: user, item, rating, tab-separated"
    separator = "\t"
    columns = ("user", "item", "rating")
    licence = TERMS
    citation = (
        "F. Zhu et al., A Graphical and Attentional Framework for Dual-Target Cross-Domain Recommendation, IJCAI 2020"
    )

    def fits(self, head: Head) -> bool:
        """Three numbers."""
        values = head.first.split(self.separator)
        return head.form == "text" and len(values) == len(self.columns) and all(map(is_number, values))

    def tells(self, head: Head) -> bool:
        """Never: three numbers may be anything."""
        return False
