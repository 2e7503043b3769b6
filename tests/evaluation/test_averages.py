"""From targets to devices to one figure, by hand."""

import numpy as np
import pytest

from duetgen.evaluation.averages import DeviceMetrics, by_history, device_means
from duetgen.evaluation.errors import NotComparableError

# Device 0 has three targets, device 1 one, device 2 two.
SLOTS = np.array([0, 0, 0, 1, 2, 2])
VALUES = np.array([1.0, 0.0, 0.5, 0.25, 1.0, 0.0])


def test_each_device_counts_once_however_many_targets_it_has() -> None:
    means = device_means(VALUES, SLOTS, 3)
    assert means.tolist() == [(1 + 0 + 1 / 2) / 3, 1 / 4, 1 / 2]
    assert float(means.mean()) == pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3)


def test_buckets_average_over_their_own_targets_then_over_their_own_devices() -> None:
    length_N = np.array([4, 5, 6, 9, 1, 10])
    buckets = by_history({"ndcg@10": VALUES, "mrr": 2 * VALUES}, SLOTS, length_N, edges=(1, 5, 10))
    assert [(b.shortest, b.longest, b.devices, b.targets) for b in buckets] == [
        (1, 4, 2, 2),
        (5, 9, 2, 3),
        (10, None, 1, 1),
    ]
    # Lengths 4 and 1: devices 0 and 2. Lengths 5, 6 and 9: two targets of device 0, one of device 1.
    expected = [(1 + 1) / 2, ((0 + 1 / 2) / 2 + 1 / 4) / 2, 0]
    assert [b.metrics["ndcg@10"] for b in buckets] == pytest.approx(expected)
    assert [b.metrics["mrr"] for b in buckets] == pytest.approx([2 * value for value in expected])


def test_empty_buckets_are_left_out() -> None:
    buckets = by_history({"mrr": np.array([1.0])}, np.array([0]), np.array([1_000]))
    assert [(b.shortest, b.longest) for b in buckets] == [(100, None)]


def test_every_length_has_one_bucket() -> None:
    lengths = np.arange(1, 300)
    buckets = by_history({"mrr": np.ones(299)}, np.zeros(299, dtype=np.int64), lengths)
    assert [b.targets for b in buckets] == [4, 5, 10, 30, 50, 200]


def test_what_was_not_measured() -> None:
    kept = DeviceMetrics(np.array([0]), {"own": {"mrr": np.array([1.0])}})
    assert kept.of("own", "mrr").tolist() == [1]
    for condition, metric in (("zero", "mrr"), ("own", "auc")):
        with pytest.raises(NotComparableError, match=f"{metric} was not measured under the condition '{condition}'"):
            kept.of(condition, metric)
