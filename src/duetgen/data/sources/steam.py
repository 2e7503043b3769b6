"""Steam: reviews of games, one Python dictionary a line."""

from __future__ import annotations

from duetgen.data.sources.log import Columns
from duetgen.data.sources.source import Named


class Steam(Named):
    """`steam_reviews.json`: users by name, times are days; titles from `steam_games.json`."""

    name = "steam"
    about = "steam_reviews.json, one Python dictionary a line"
    logs = ("steam_reviews.json", "steam_new.json")
    form = "python"
    columns = Columns(user="username", item="product_id", timestamp="date")
    licence = "for research; no licence is stated, so do not redistribute"
    citation = "W.-C. Kang and J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018"

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        return ("steam_games.json",)
