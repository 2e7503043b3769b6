"""Replays: ranks by hand, the sessions of a log, and a fleet on the hand-made bundle."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.lineage import versions_of

from duetgen.data.store import UNKNOWN, Dataset
from duetgen.device import Always, DailyBudget, EveryEvents, load_model
from duetgen.evaluation.metrics import ranking_metrics as by_evaluation
from duetgen.replay import LIVELY, Fleet, FleetConfig, NotReplayableError, Percentiles, Sessions
from duetgen.replay.quality import device_averages, mean_rank, rank_of, ranking_metrics

from ..device.cloud import FakeCloud
from ..device.conftest import Tiny, make_tiny

SEQUENCES = [[2, 3, 4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15, 16], [20, 21, 22]]
BOUNDS = [(2, 3), (1, 2), (4, 5), (1, 1)]
"""Targets: 5, 6, 7 after 2, 3, 4; 10, 11 after 8, 9; none; 21, 22 after 20."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("replay") / "bundle")


@pytest.fixture
def dataset(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(SEQUENCES, vocabulary=30, bounds=BOUNDS)


def test_mean_rank_by_hand() -> None:
    scores = np.array([-np.inf, 3, 2, 2, 1], dtype=np.float32)
    assert mean_rank(scores, scores[1]) == 1
    assert mean_rank(scores, scores[2]) == 2.5
    assert mean_rank(scores, scores[4]) == 4


def test_the_unknown_item_ranks_behind_every_known_one() -> None:
    catalogue = np.array([-np.inf, 50.0, 3.0, 2.0, 1.0], dtype=np.float32)
    assert [rank_of(target, catalogue) for target in (2, 4, 1)] == [(1, 3), (3, 3), (math.inf, 4)]
    listed = np.array([1, 3, 1, 4])
    assert rank_of(1, np.array([50.0, 2.0, 50.1, 1.0], dtype=np.float32), listed) == (math.inf, 4)
    assert rank_of(3, np.array([2.0, 50.0, 2.1, 1.0], dtype=np.float32), np.array([3, 1, 3, 4])) == (1.5, 4)


def test_what_is_hidden_takes_no_place_and_is_missed_as_a_target() -> None:
    catalogue = np.array([-np.inf, 50.0, 3.0, 2.0, 1.0], dtype=np.float32)
    hidden = np.array([False, False, True, False, False])
    assert [rank_of(target, catalogue, None, hidden) for target in (4, 2)] == [(2, 2), (math.inf, 3)]
    listed = np.array([4, 2, 3])
    assert rank_of(4, np.array([1.0, 3.0, 2.0], dtype=np.float32), listed, hidden) == (2, 2)


def test_metrics_are_those_of_evaluation() -> None:
    rank_N, count_N = np.array([1, 2.5, 10, 10.5, 11, 40.0]), np.array([40, 40, 40, 40, 1, 40])
    theirs = by_evaluation(rank_N, count_N, (10,))
    for name, value_N in ranking_metrics(rank_N, count_N).items():
        np.testing.assert_array_equal(value_N, theirs[name])


def test_devices_count_alike_however_many_targets_they_have() -> None:
    # Device 3: ranks 1 and 3, ndcg (1 + 1/2) / 2; device 9: rank 1.
    found = device_averages(np.array([1.0, 3.0, 1.0]), np.array([10, 10, 10]), np.array([3, 3, 9]))
    assert found["ndcg@10"] == pytest.approx((3 / 4 + 1) / 2)
    assert found["mrr"] == pytest.approx((2 / 3 + 1) / 2)


def test_percentiles() -> None:
    assert Percentiles.of([]) is None
    assert Percentiles.of([0.001, 0.003]) == Percentiles(2, 2.0, 2.9, 2.98, 3.0)


def test_sessions_are_the_targets_of_the_test_part(tiny: Tiny, dataset: Dataset) -> None:
    sessions = Sessions(dataset, load_model(tiny.root).manifest)
    lives = [
        (one.name, sessions.items(one.first, one.targets[0]), [sessions.items(e, e + 1)[0] for e in one.targets])
        for one in sessions.all
    ]
    assert lives == [
        ("device-0", [2, 3, 4], [5, 6, 7]),
        ("device-1", [8, 9], [10, 11]),
        ("device-3", [20], [21, 22]),
    ]
    assert [one.rows for one in sessions.all] == [range(3), range(3, 5), range(5, 7)]


def reference(tiny: Tiny, policy_ages: list[int] | None, hide: bool = True) -> float:
    """ndcg@10 over the three devices, ranked by hand; ages of theta by the position of the target in its session."""
    values = []
    for before, targets in (([2, 3, 4], [5, 6, 7]), ([8, 9], [10, 11]), ([20], [21, 22])):
        found, history = [], list(before)
        for at, target in enumerate(targets):
            theta_P = None
            if policy_ages is not None:
                read = history[: len(history) - policy_ages[at]]
                theta_P = tiny.theta(read).astype(np.float16).astype(float)
            scores = tiny.scores(history, range(1, 30), theta_P)
            hidden = np.isin(np.arange(1, 30), history) if hide else np.zeros(29, dtype=bool)
            rank = 1 + int(((scores > scores[target - 1]) & ~hidden).sum())
            found.append(1 / math.log2(1 + rank) if rank <= 10 else 0.0)
            history.append(target)
        values.append(sum(found) / len(found))
    return sum(values) / len(values)


def replay(tiny: Tiny, dataset: Dataset, cloud: FakeCloud, **options: Any) -> Any:
    model = load_model(tiny.root)
    sessions = Sessions(dataset, model.manifest)
    return Fleet(model, sessions, lambda session: (cloud, "secret"), FleetConfig(**options)).run()


@pytest.mark.parametrize(
    ("policy", "ages", "requests"),
    [(Always(), [0, 0, 0], 7), (EveryEvents(2), [0, 1, 0], 4), (DailyBudget(Always(), 0), None, 0)],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_fleet_ranks_as_by_hand(
    tiny: Tiny, dataset: Dataset, policy: Any, ages: list[int] | None, requests: int, workers: int
) -> None:
    cloud = FakeCloud(tiny)
    report = replay(tiny, dataset, cloud, device=LIVELY.changed(policy=policy), workers=workers)
    assert (report.devices, report.targets, report.requests) == (3, 7, requests)
    assert report.bytes_weights + report.bytes_bias == (0 if ages is None else 40)
    assert report.quality["ndcg@10"] == pytest.approx(reference(tiny, ages))
    assert report.quality_global["ndcg@10"] == pytest.approx(reference(tiny, None))
    assert report.with_theta == (0.0 if ages is None else 1.0)
    assert {request.device for request in cloud.requests} <= {"device-0", "device-1", "device-3"}


def test_a_fleet_whose_cloud_refuses_ranks_with_the_global_model(tiny: Tiny, dataset: Dataset) -> None:
    cloud = FakeCloud(tiny)
    cloud.forged = lambda answer: msgspec.structs.replace(answer, mac=bytes(32))
    report = replay(tiny, dataset, cloud)
    assert report.quality == report.quality_global
    assert report.refused == {"wrong-mac": report.requests}
    assert report.with_theta == 0


def test_a_paced_replay_takes_the_time_of_the_log(tiny: Tiny, dataset: Dataset) -> None:
    # Without time in the log: targets a minute apart, the last one after two minutes, 300 times as fast.
    report = replay(tiny, dataset, FakeCloud(tiny), speed_up=300.0, workers=2)
    assert 0.4 <= report.seconds < 5
    assert report.late is not None
    assert report.late.count == 7
    assert report.quality["ndcg@10"] == pytest.approx(reference(tiny, [0, 0, 0]))


def test_what_breaks_in_a_worker_is_raised(tiny: Tiny, dataset: Dataset) -> None:
    model = load_model(tiny.root)

    def broken(session: object) -> Any:
        raise RuntimeError("no connection")

    with pytest.raises(RuntimeError, match="no connection"):
        Fleet(model, Sessions(dataset, model.manifest), broken, FleetConfig()).run()


def test_another_dataset_is_refused(tiny: Tiny, make_dataset: Callable[..., Dataset]) -> None:
    manifest = load_model(tiny.root).manifest
    with pytest.raises(NotReplayableError, match="item indices"):
        Sessions(make_dataset(SEQUENCES, vocabulary=31, bounds=BOUNDS), manifest)
    trained = msgspec.structs.replace(manifest, provenance={"dataset_sha256": "f" * 64})
    with pytest.raises(NotReplayableError, match="not the dataset"):
        Sessions(make_dataset(SEQUENCES, vocabulary=30, bounds=BOUNDS), trained)


def test_nothing_to_replay(tiny: Tiny, dataset: Dataset, make_dataset: Callable[..., Dataset]) -> None:
    manifest = load_model(tiny.root).manifest
    with pytest.raises(NotReplayableError, match="candidates"):
        Sessions(dataset, manifest, "given")
    with pytest.raises(NotReplayableError, match="no target"):
        Sessions(make_dataset([[2, 3]], vocabulary=30, bounds=[(1, 2)]), manifest)


def test_a_later_version_is_lived_as_the_bundle_knows_it(tiny: Tiny, make_dataset: Callable[..., Dataset]) -> None:
    later = [[*one[:-1], 31] for one in SEQUENCES]
    earlier, dataset = versions_of(
        make_dataset(SEQUENCES, vocabulary=30, bounds=BOUNDS), make_dataset(later, vocabulary=32, bounds=BOUNDS)
    )
    provenance = {"dataset_sha256": earlier.manifest.content_sha256}
    sessions = Sessions(dataset, msgspec.structs.replace(load_model(tiny.root).manifest, provenance=provenance))
    last = sessions.all[0].targets[-1]
    assert dataset.events[last] == 31
    assert sessions.items(last, last + 1) == [UNKNOWN]


def test_candidates_are_ranked_with_the_target_first(
    tiny: Tiny, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = np.zeros((7, 4), dtype=np.int32)
    others[:, :3] = [25, 26, 27]
    monkeypatch.setattr(dataset, "candidates", lambda part: others)
    model = load_model(tiny.root)
    sessions = Sessions(dataset, model.manifest, "candidates")
    found = sessions.candidates(0, 5)
    assert found is not None
    assert found.tolist() == [5, 25, 26, 27]
    cloud = FakeCloud(tiny)
    report = Fleet(model, sessions, lambda session: (cloud, "secret"), FleetConfig()).run()
    theta_P = tiny.theta([20]).astype(np.float16).astype(float)
    scores = tiny.scores([20], [21, 25, 26, 27], theta_P)
    assert report.targets == 7
    assert 0 < report.quality["mrr"] <= 1
    assert 1 + int((scores[1:] > scores[0]).sum()) in (1, 2, 3, 4)


def test_the_replay_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = "import sys; import duetgen.replay; assert not {'torch', 'polars'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
