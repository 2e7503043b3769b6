"""Amazon reviews: one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import polars as pl

from duetgen.data.errors import BadJsonLineError
from duetgen.data.log import Log
from duetgen.data.sources.columns import typed
from duetgen.data.sources.delimited import finish
from duetgen.data.sources.detect import why_not
from duetgen.data.sources.text import blocks, sample
from duetgen.wire import limits

Seconds = Annotated[int, msgspec.Meta(ge=limits.MIN_TIMESTAMP, le=limits.MAX_TIMESTAMP)]


class Review(msgspec.Struct):
    """The fields of a review that are read; the others are skipped."""

    reviewerID: str
    asin: str
    overall: float
    unixReviewTime: Seconds


def read_reviews(path: Path) -> Log:
    """Read `reviews_*_5.json` or its 2018 successor.

    Raises:
        WrongSourceError: the first line is no JSON object.
        BadJsonLineError: a line is no review.
        DuetError: any refusal of reading and typing, naming the line.
    """
    if not sample(path)[0].lstrip().startswith("{"):
        raise why_not(path, "amazon-reviews")
    decoder = msgspec.json.Decoder(Review)
    frames: list[pl.DataFrame] = []
    for block in blocks(path):
        reviews: list[Review] = []
        numbers: list[int] = []
        for number, line in enumerate(block.lines, block.line):
            if not line.strip():
                continue
            try:
                reviews.append(decoder.decode(line))
            except (msgspec.DecodeError, RecursionError) as cause:
                raise BadJsonLineError(
                    f"{path} line {number}: {cause}",
                    "each line must be a JSON object with reviewerID, asin, overall and unixReviewTime",
                ) from cause
            numbers.append(number)
        frame = pl.DataFrame(
            {
                "user": [review.reviewerID for review in reviews],
                "item": [review.asin for review in reviews],
                "rating": [review.overall for review in reviews],
                "timestamp": [review.unixReviewTime for review in reviews],
                "line": numbers,
            },
            schema={
                "user": pl.String,
                "item": pl.String,
                "rating": pl.Float64,
                "timestamp": pl.Int64,
                "line": pl.Int64,
            },
        )
        frames.append(typed(frame, path))
    return finish("amazon-reviews", path, frames)
