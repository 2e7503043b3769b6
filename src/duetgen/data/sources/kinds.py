"""Every source, in one table; the order is that in which `auto` tries them, the special before the general."""

from __future__ import annotations

from typing import Final

from duetgen.data.sources.amazon import Ratings2014, Ratings2018, Ratings2023, Reviews, Reviews2023
from duetgen.data.sources.douban import Douban, DoubanRatings, DoubanReviews
from duetgen.data.sources.duet_text.format import DuetText
from duetgen.data.sources.lastfm import LastFm
from duetgen.data.sources.movielens import MovieLens1M, MovieLens100K, MovieLensCsv
from duetgen.data.sources.recbole import RecBole
from duetgen.data.sources.sequences import Sequences
from duetgen.data.sources.source import Source
from duetgen.data.sources.steam import Steam
from duetgen.data.sources.synthetic import Synthetic
from duetgen.data.sources.table import Table
from duetgen.data.sources.taobao import Alipay, Taobao
from duetgen.data.sources.yelp import Yelp

KINDS: Final[dict[str, Source]] = {
    source.name: source
    for source in (
        DuetText(),
        MovieLensCsv(),
        MovieLens1M(),
        MovieLens100K(),
        Reviews(),
        Reviews2023(),
        Ratings2023(),
        Ratings2014(),
        Ratings2018(),
        Douban(),
        DoubanReviews(),
        DoubanRatings(),
        Taobao(),
        Alipay(),
        LastFm(),
        Yelp(),
        Steam(),
        RecBole(),
        Sequences(),
        Table(),
        Synthetic(),
    )
}
"""The sources, by name."""
