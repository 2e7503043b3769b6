"""When each policy asks, by hand: one event a minute, the clock injected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from duetgen.device import AfterSeconds, Always, DailyBudget, Device, Drift, EveryEvents, Policy, Situation, load_model
from duetgen.device.profiles import ItemProfiles

from .cloud import FakeCloud
from .conftest import Tiny

MINUTE = 60.0
POLICIES: list[Policy] = [
    Always(),
    EveryEvents(4),
    AfterSeconds(150),
    Drift(0.3),
    DailyBudget(Always(), 3),
]


def times(tiny: Tiny, cloud: FakeCloud, policy: Policy, items: Sequence[int], start: float = 0.0) -> list[int]:
    """At which events (from 1) a device asks."""
    now = start
    cloud.clock = lambda: now
    asked = []
    with Device(tiny.root, cloud=cloud, token="secret", policy=policy, background=False, clock=lambda: now) as device:
        for number, item in enumerate(items, start=1):
            now += MINUTE
            device.observe(*tiny.ids([item]))
            if device.keep_up():
                asked.append(number)
    return asked


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Always(), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (EveryEvents(1), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (EveryEvents(4), [1, 5, 9]),
        (EveryEvents(0), [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        # 150 s after event 1 (60 s) is 210 s: event 4 (240 s); 150 s after that is 390 s: event 7 (420 s).
        (AfterSeconds(150), [1, 4, 7]),
        (AfterSeconds(120), [1, 3, 5, 7, 9]),
        (DailyBudget(Always(), 3), [1, 2, 3]),
        (DailyBudget(EveryEvents(4), 2), [1, 5]),
        (DailyBudget(Always(), 0), []),
        # Always the same item: the mean profile never moves.
        (Drift(0.01), [1]),
    ],
)
def test_requests_by_hand(tiny: Tiny, cloud: FakeCloud, policy: Policy, expected: list[int]) -> None:
    assert times(tiny, cloud, policy, [5] * 9) == expected


def test_the_budget_begins_anew_at_midnight(tiny: Tiny, cloud: FakeCloud) -> None:
    # Events at 23:58, 23:59, 24:00, 24:01, 24:02, 24:03 of the first day.
    start = 86400.0 - 3 * MINUTE
    assert times(tiny, cloud, DailyBudget(Always(), 2), [5] * 6, start) == [1, 2, 3, 4]


def test_the_budget_outlives_a_restart(tiny: Tiny, cloud: FakeCloud, tmp_path: object) -> None:
    options = {"token": "secret", "policy": DailyBudget(Always(), 2), "background": False, "state": tmp_path}
    for events, asked in ((1, 1), (2, 2), (3, 2)):
        with Device(tiny.root, cloud=cloud, **options) as device:
            device.observe("item-5")
            device.keep_up()
            device.keep_up()
        assert (events, len(cloud.requests)) == (events, asked)


def test_an_expired_theta_is_asked_for_at_the_next_event(tiny: Tiny, cloud: FakeCloud) -> None:
    cloud.lifetime_ms = 170_000
    # 170 s after event 1 (60 s) is 230 s: event 4.
    assert times(tiny, cloud, EveryEvents(100), [5] * 9) == [1, 4, 7]


def test_a_wrong_clock_does_not_make_a_device_ask_again_and_again(tiny: Tiny, cloud: FakeCloud) -> None:
    # Two hours ahead of the cloud: every theta has expired when it comes, and is within the grace.
    cloud.clock = lambda: 100_000.0
    with Device(
        tiny.root, cloud=cloud, token="secret", policy=EveryEvents(3), background=False, clock=lambda: 107_200.0
    ) as device:
        for _ in range(7):
            device.observe("item-5")
            device.keep_up()
            device.keep_up()
        assert device.status().source == "theta"
    assert [len(request.history) for request in cloud.requests] == [1, 4, 7]


def test_a_clock_set_back_makes_theta_old_not_new(tiny: Tiny, cloud: FakeCloud) -> None:
    now = 1e6
    cloud.clock = lambda: now
    with Device(
        tiny.root, cloud=cloud, token="secret", policy=AfterSeconds(60), background=False, clock=lambda: now
    ) as device:
        device.observe("item-5")
        assert device.keep_up()
        now -= 3600
        device.observe("item-5")
        assert device.keep_up()


def test_drift_by_hand() -> None:
    table = {2: [0.0, 0.0], 3: [2.0, 0.0], 4: [0.0, 4.0]}

    def situation(history: list[int], made_from: list[int], events: int) -> Situation:
        return Situation(
            True, events, 0.0, 0, history, made_from, lambda items: np.array([table[item] for item in items])
        )

    policy = Drift(threshold=0.5, decay=0.5)
    # then: item 2, mean (0, 0). Now: items 2, 3 with weights 1/2, 1: mean (4/3, 0); drift = sqrt((16/9) / 2).
    assert policy.drift(situation([2, 3], [2], 1)) == pytest.approx((8 / 9) ** 0.5)
    # Now 2, 3, 4 weighing 1/4, 1/2, 1: mean (4/7, 16/7).
    assert policy.drift(situation([2, 3, 4], [2], 2)) == pytest.approx(((16 / 49 + 256 / 49) / 2) ** 0.5)
    assert policy.due(situation([2, 3], [2], 1))
    assert not policy.due(situation([2], [2], 0))
    assert not policy.due(situation([2, 2], [2], 1))


def test_drift_asks_when_the_items_change_and_not_while_they_stay(tiny: Tiny, cloud: FakeCloud) -> None:
    asked = times(tiny, cloud, Drift(0.8), [5, 5, 5, 5, 21, 21, 21, 21, 21, 21])
    assert asked[0] == 1
    assert 2 <= len(asked) <= 4
    assert all(number >= 5 for number in asked[1:])


def test_profiles_are_standardised_scores_after_anchors(tiny: Tiny) -> None:
    model = load_model(tiny.root)
    profiles = ItemProfiles(model)
    found_NK = profiles([4, 1, 4])
    anchors = profiles.anchors_KL[:, 0].tolist()
    raw_VK = np.array([tiny.scores([anchor], range(2, 30), None) for anchor in anchors]).T
    want_K = (raw_VK[4 - 2] - raw_VK.mean(0)) / raw_VK.std(0)
    np.testing.assert_allclose(found_NK[0], want_K, atol=1e-4)
    np.testing.assert_array_equal(found_NK[0], found_NK[2])
    assert profiles([]).shape == (0, 16)


class TestEveryPolicy:
    """What holds of each of them."""

    @pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
    def test_asks_at_the_first_event(self, tiny: Tiny, cloud: FakeCloud, policy: Policy) -> None:
        assert times(tiny, cloud, policy, [5]) == [1]

    @pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
    def test_asks_for_nothing_while_nothing_is_new(self, tiny: Tiny, cloud: FakeCloud, policy: Policy) -> None:
        with Device(tiny.root, cloud=cloud, token="secret", policy=policy, background=False) as device:
            device.observe("item-5")
            assert device.keep_up()
            assert not any(device.keep_up() for _ in range(5))

    @pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
    def test_the_same_events_give_the_same_requests(self, tiny: Tiny, cloud: FakeCloud, policy: Policy) -> None:
        items = [int(item) for item in np.random.default_rng(3).integers(2, 30, 12)]
        assert times(tiny, cloud, policy, items) == times(tiny, FakeCloud(tiny), policy, items)
