"""What counts as met: an array that follows the log, against a plain set of its last events."""

from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duetgen.device import Device, load_model
from duetgen.device.errors import InvalidDeviceConfigError
from duetgen.device.log import EventLog
from duetgen.device.met import MetItems
from duetgen.device.model import DeviceModel
from duetgen.wire.bundle import Items

from .conftest import Tiny, describe, make_tiny


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> DeviceModel:
    return load_model(tiny.root)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> DeviceModel:
    """A version of twelve items with the first one's names, each at another index."""
    tiny = make_tiny(tmp_path_factory.mktemp("met") / "bundle", seed=1, vocabulary=14)
    ids = ["", "", *(f"item-{index}" for index in reversed(range(2, 14)))]
    (tiny.root / "items.json").write_bytes(msgspec.json.encode(Items(ids, [])))
    describe(tiny.root, vocabulary=14)
    return load_model(tiny.root)


def names(model: DeviceModel, met: MetItems) -> set[str]:
    met_V = met.of(model)
    np.testing.assert_array_equal(met.among(model, model.catalogue_V), met_V)
    return {model.ids[index] for index in np.flatnonzero(met_V).tolist()}


STEPS = st.lists(
    st.one_of(
        st.lists(st.sampled_from([f"item-{n}" for n in range(2, 8)] + ["strange"]), max_size=7),
        st.sampled_from(["forget", "version", "leap"]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, looks=st.lists(st.booleans(), min_size=12, max_size=12))
def test_it_follows_the_log_whenever_it_is_looked_at(
    model: DeviceModel, other: DeviceModel, steps: list[object], looks: list[bool]
) -> None:
    log, kept = EventLog(None, 4), list[str]()
    met, now = MetItems(log), model
    for step, look in zip(steps, looks):
        if isinstance(step, list):
            log.append(step)
            kept = [*kept, *step][-4:]
        elif step == "forget":
            log.clear()
            kept = []
        elif step == "version":
            now = other if now is model else model
        else:
            log.at_least(log.count + 3)
        if look:
            assert names(now, met) == set(kept) - {"strange"}
    assert names(now, met) == set(kept) - {"strange"}


def test_a_count_that_leaps_counts_no_event_twice(model: DeviceModel) -> None:
    log = EventLog(None, 4)
    met = MetItems(log)
    log.append(["item-2", "item-3", "item-4", "item-5"])
    assert len(names(model, met)) == 4
    log.at_least(6)
    assert names(model, met) == {"item-2", "item-3", "item-4", "item-5"}


def test_another_version_counts_by_its_own_indices(model: DeviceModel, tiny: Tiny) -> None:
    log = EventLog(None, 4)
    met, other = MetItems(log), load_model(tiny.root)
    log.append(["item-3"])
    assert names(model, met) == {"item-3"}
    log.append(["item-4"])
    assert names(other, met) == {"item-3", "item-4"}
    assert names(model, met) == {"item-3", "item-4"}


def test_the_bundle_says_what_is_hidden_and_every_call_may_differ(model: DeviceModel) -> None:
    assert model.manifest.met == "hide"
    with Device(model) as device:
        device.observe("item-3")
        assert [item for item, _ in device.rank(["item-2", "item-3"])] == ["item-2"]
        assert {item for item, _ in device.rank(["item-2", "item-3"], met="show")} == {"item-2", "item-3"}
        assert "item-3" not in device.recommend(100).ids
        assert "item-3" in device.recommend(100, met="show").ids
    with Device(model, met="show") as device:
        device.observe("item-3")
        assert {item for item, _ in device.rank(["item-2", "item-3"])} == {"item-2", "item-3"}
        assert "item-3" not in device.recommend(100, met="hide").ids


def test_an_unknown_candidate_is_never_hidden(model: DeviceModel) -> None:
    with Device(model) as device:
        device.observe("strange", "item-3")
        assert [item for item, _ in device.rank(["strange", "item-3", "other"])] == ["strange", "other"]


@pytest.mark.parametrize("met", ["", "auto", "HIDE", True, 1, b"hide", ["hide"], np.array(["hide", "show"]), {}])
def test_a_policy_that_is_none_is_refused(model: DeviceModel, met: object) -> None:
    with pytest.raises(InvalidDeviceConfigError):
        Device(model, met=met)  # type: ignore[arg-type]
    with Device(model) as device:
        for call in (lambda: device.recommend(3, met=met), lambda: device.rank(["item-2"], met=met)):  # type: ignore[arg-type]
            with pytest.raises(InvalidDeviceConfigError):
                call()


def test_observing_while_others_rank(model: DeviceModel) -> None:
    with Device(model) as device:
        failed, ids = list[BaseException](), model.ids[2:]

        def rank() -> None:
            try:
                for _ in range(100):
                    assert len(device.recommend(5)) == 5
                    assert len(device.rank(ids, met="show")) == 28
                    assert 8 <= len(device.rank(ids, met="hide")) <= 28
            except BaseException as cause:
                failed.append(cause)

        threads = [threading.Thread(target=rank) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(300):
            device.observe(f"item-{2 + number % 20}")
        for thread in threads:
            thread.join()
        assert not failed
        assert {model.ids[i] for i in np.flatnonzero(device.met())} == {f"item-{n}" for n in range(2, 22)}
