import numpy as np
import polars as pl
import pytest

from duetgen.data.errors import BadSettingError
from duetgen.data.sources.synthetic import SyntheticConfig, make_catalogue, read_synthetic, simulate

GOLDEN = [("p3", "i10", 1706211032), ("p3", "i11", 1706211135), ("p3", "i12", 1706211657)]
"""The first events of a small log: they change only with the simulator."""

SMALL = SyntheticConfig(people=200, items=120)


class TestCatalogue:
    @pytest.mark.parametrize("items", [2, 3, 7, 80, 601])
    def test_topics_and_series_are_consecutive_and_titles_differ(self, items: int) -> None:
        shop = make_catalogue(items, np.random.default_rng(0))
        assert len(shop.titles) == len(set(shop.titles)) == len(shop.topic_I) == items
        assert (np.diff(shop.topic_I) >= 0).all()
        assert sorted(shop.member_KM[shop.member_KM >= 0].tolist()) == list(range(items))
        following = np.flatnonzero(shop.next_I >= 0)
        assert (shop.next_I[following] == following + 1).all()
        assert (shop.topic_I[following] == shop.topic_I[following + 1]).all()


class TestSimulate:
    def test_same_seed_same_log(self) -> None:
        a, b = (read_synthetic(SMALL).events for _ in range(2))
        assert a.equals(b)
        assert not a.equals(read_synthetic(SyntheticConfig(people=200, items=120, seed=1)).events)

    def test_first_events_of_the_default_are_these(self) -> None:
        events = read_synthetic(SyntheticConfig(people=3, items=40)).events
        assert events.head(3).rows() == GOLDEN

    def test_sizes_and_time(self) -> None:
        log = read_synthetic(SMALL)
        counts = log.events.group_by("user").len()["len"]
        assert len(counts) == 200
        assert counts.min() >= 40  # type: ignore[operator]
        assert counts.max() <= 120  # type: ignore[operator]
        assert log.events["timestamp"].is_sorted()
        assert log.titles is not None
        assert len(log.titles) == 120

    def test_no_item_twice_in_a_row(self) -> None:
        events = read_synthetic(SMALL).events.sort("user", "timestamp", maintain_order=True)
        same = (events["user"] == events["user"].shift()) & (events["item"] == events["item"].shift())
        hours = events["timestamp"] - events["timestamp"].shift() < 3600
        assert not (same & hours).any()

    def test_a_session_stays_with_few_topics_and_a_person_has_more(self) -> None:
        shop, log = simulate(SMALL)
        frame = pl.DataFrame(log).sort("person_E", "time_E", maintain_order=True)
        frame = frame.with_columns(
            topic=pl.Series(shop.topic_I[log["item_E"]]).gather(np.lexsort((log["time_E"], log["person_E"])))
        )
        gap = (pl.col("time_E").diff().over("person_E") > 3600).fill_null(True)
        frame = frame.with_columns(session=gap.cast(pl.Int64).cum_sum())
        sessions = frame.group_by("session").agg(pl.col("topic").n_unique(), pl.len())["topic"].mean()
        people = frame.group_by("person_E").agg(pl.col("topic").n_unique())["topic"].mean()
        assert isinstance(sessions, float)
        assert isinstance(people, float)
        assert sessions < 3
        assert people > 2 * sessions

    def test_people_differ_in_taste(self) -> None:
        shop, log = simulate(SMALL)
        topics = len(shop.member_KM)
        table = np.zeros((200, topics))
        np.add.at(table, (log["person_E"], shop.topic_I[log["item_E"]]), 1)
        share = table / table.sum(axis=1, keepdims=True)
        favourite = np.sort(share, axis=1)[:, -3:].sum(axis=1)
        assert favourite.mean() > 1.5 * np.sort(share.mean(axis=0))[-3:].sum()

    def test_few_items_are_popular(self) -> None:
        counts = np.sort(np.bincount(simulate(SMALL)[1]["item_E"], minlength=120))[::-1]
        assert counts[:24].sum() > 2 * counts.sum() * 24 / 120

    @pytest.mark.parametrize(
        "config",
        [{"people": 0}, {"items": 1}, {"shortest": 9, "longest": 8}, {"people": 10**9}, {"seed": -1}],
    )
    def test_sizes_out_of_range(self, config: dict[str, int]) -> None:
        with pytest.raises(BadSettingError):
            read_synthetic(SyntheticConfig(**config))
