"""Public data sets, where `DUETGEN_DATA` names the folder that holds them: published counts, and order."""

from pathlib import Path

import polars as pl
import pytest

from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources import read
from duetgen.data.store import Dataset

PUBLISHED = [
    ("ml-100k/raw/u.data", "movielens-100k", 100_000, 943, 1_682, 1_664),
    ("ml-latest-small/raw/ratings.csv", "movielens-csv", 100_836, 610, 9_724, 9_737),
    ("ml-1m-users-1-2999/raw/ratings.dat.gz", "movielens-1m", 487_650, 2_999, 3_615, None),
    ("amazon-magazine-subscriptions/raw/Magazine_Subscriptions.csv.gz", "amazon-2018-csv", 89_689, 72_098, 2_428, 0),
    ("amazon-fashion-5core/raw/AMAZON_FASHION_5.json.gz", "amazon-reviews", 3_176, 406, 31, 0),
    (
        "amazon-musical-instruments-5core/raw/reviews_Musical_Instruments_5.json.gz",
        "amazon-reviews",
        10_261,
        1_429,
        900,
        0,
    ),
    ("amazon-beauty-5core/interactions.csv.gz", "table", 198_502, 22_363, 12_101, 0),
    ("duet-text-ml-100k-30u30i", "duet-text", 87_237, 744, 806, 0),
    ("lastfm-hetrec/raw/user_artists.dat.gz", "lastfm", 92_834, 1_892, 17_632, 0),
    ("lastfm-hetrec", "table", 92_834, 1_892, 17_632, None),
    ("ml-100k/raw", "movielens-100k", 100_000, 943, 1_682, None),
    ("amazon-fashion-5core/raw", "amazon-reviews", 3_176, 406, 31, 0),
]


@pytest.mark.parametrize(("path", "kind", "events", "users", "items", "titles"), PUBLISHED, ids=lambda v: str(v))
def test_published_counts(
    real_data: Path, path: str, kind: str, events: int, users: int, items: int, titles: int | None
) -> None:
    log = read(real_data / path)
    assert log.kind == kind
    assert (len(log.events), log.events["user"].n_unique(), log.events["item"].n_unique()) == (events, users, items)
    if titles == 0:
        assert log.titles is None


def test_douban_by_its_name(real_data: Path) -> None:
    log = read(real_data / "douban-book/raw/ratings.dat.gz", "douban-ratings")
    assert (len(log.events), log.events["user"].n_unique(), log.events["item"].n_unique()) == (96_041, 2_110, 6_777)


def test_titles_of_movielens_100k_are_latin1(real_data: Path) -> None:
    titles = read(real_data / "ml-100k/raw/u.data").titles
    assert titles is not None
    assert len(titles) == 1_682
    assert titles["title"].n_unique() == 1_664
    assert any("é" in title for title in titles["title"])


def test_raw_and_normalised_files_hold_the_same_events(real_data: Path) -> None:
    for raw, plain in (
        ("ml-100k/raw/u.data", "ml-100k/interactions.csv.gz"),
        ("ml-latest-small/raw/ratings.csv", "ml-latest-small/interactions.csv.gz"),
        (
            "amazon-musical-instruments-5core/raw/reviews_Musical_Instruments_5.json.gz",
            "amazon-musical-instruments-5core/interactions.csv.gz",
        ),
    ):
        a, b = read(real_data / raw).events, read(real_data / plain).events
        assert a.equals(b.select(a.columns))


def test_random_split_that_came_with_movielens_is_a_leak(real_data: Path, tmp_path: Path) -> None:
    from duetgen.data.errors import LeakageError

    with pytest.raises(LeakageError, match="order"):
        prepare(
            real_data / "ml-100k/raw/u1.base",
            tmp_path / "out",
            test_input=real_data / "ml-100k/raw/u1.test",
        )


def test_five_core_of_training(real_data: Path, tmp_path: Path) -> None:
    config = PrepareConfig(split="leave-one-out", min_user_events=5, min_item_events=5)
    prepare(real_data / "ml-100k/raw/u.data", tmp_path / "out", config)
    dataset = Dataset(tmp_path / "out")
    counts = dataset.training_counts()
    assert counts[2:].min() >= 5
    assert len(pl.read_parquet(tmp_path / "out/items.parquet")) == dataset.vocabulary - 2


def test_text_format_rows_and_cases(real_data: Path, tmp_path: Path) -> None:
    manifest = prepare(real_data / "duet-text-ml-100k-30u30i", tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert manifest.counts.events == 87_237
    assert manifest.counts.test_targets == manifest.counts.valid_targets == 744
    assert dataset.given().shape == (744, 100)
    assert (dataset.given()[:, 0] == dataset.events[dataset.targets("test").position_N]).all()
    # One position of five rows a user validates.
    assert len(dataset.rows().label_R) == 428_745 - 744 * 5
