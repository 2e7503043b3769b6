"""Yelp Open Dataset: reviews, one JSON object a line, alone or in the archives in which they are published."""

from __future__ import annotations

from duetgen.data.sources.log import Columns
from duetgen.data.sources.source import Named


class Yelp(Named):
    """`yelp_academic_dataset_review.json`; titles are the names of the businesses."""

    name = "yelp"
    about = "yelp_academic_dataset_review.json, or the archive that holds it"
    logs = ("yelp_academic_dataset_review.json", "yelp_dataset", "yelp_dataset.tar")
    form = "json"
    columns = Columns(user="user_id", item="business_id", rating="stars", timestamp="date")
    licence = "academic use only, by the Yelp Dataset User Agreement; no redistribution"
    citation = "Yelp Open Dataset, https://business.yelp.com/data/resources/open-dataset/"

    def titles_beside(self, log: str) -> tuple[str, ...]:
        """See `Reader`."""
        return ("yelp_academic_dataset_business.json",)
