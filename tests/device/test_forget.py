"""What a device forgets, it forgets: in memory, on disk, of every version, and of what is on its way."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duetgen.device import Always, Device, Drift, NotForgottenError, PatienceConfig
from duetgen.device.model import Scorer

from .cloud import FakeCloud, wait_until
from .conftest import Tiny
from .test_device import expect, sent

QUICK = PatienceConfig(first=0.0, longest=0.0, failures=1000)


def make(tiny: Tiny, cloud: Any, state: Path | None, **options: Any) -> Device:
    settled = {"token": "secret", "device_id": "d1", "policy": Always(), "background": False, "patience": QUICK}
    return Device(tiny.root, cloud=cloud, state=state, **{**settled, **options})


def publish(cloud: FakeCloud, tiny: Tiny) -> None:
    cloud.tinies[tiny.model_id], cloud.latest = tiny, tiny.model_id


def names(state: Path) -> set[str]:
    return {path.name for path in state.rglob("*") if path.is_file() and "versions" not in path.parts}


def test_theta_of_the_version_before_is_forgotten_too(
    tiny: Tiny, new_tiny: Callable[..., Tiny], cloud: FakeCloud, tmp_path: Path
) -> None:
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.keep_up()
        publish(cloud, new_tiny(seed=1))
        assert device.update()
        assert len(list((tmp_path / "state/theta").iterdir())) == 2
        device.forget()
        assert list((tmp_path / "state/theta").iterdir()) == []
        assert "events.log" not in names(tmp_path / "state")
        device.rollback()
        assert device.status().source == "global"
        expect(device, tiny, [], None)


def test_nothing_of_it_is_left_in_memory(tiny: Tiny, cloud: FakeCloud) -> None:
    with make(tiny, cloud, None, policy=Drift(0.0)) as device:
        for item in (3, 7):
            device.observe(f"item-{item}")
            device.keep_up()
        device.rank(tiny.ids([5, 6]))
        theta = device._runtime.store.current
        assert theta is not None
        values, answer = weakref.ref(theta.values_P), weakref.ref(theta)
        del theta
        assert device._runtime.profiles()._known
        device.forget()
        assert not device._runtime.profiles()._known
        assert not device.met().any()
        gc.collect()
        assert (values(), answer()) == (None, None)
        assert device.model._idle == []
        assert device._ranker._last is None
        assert device._log.last(9) == []


@pytest.mark.parametrize("state", [True, False])
def test_an_answer_on_its_way_is_not_taken(tiny: Tiny, cloud: FakeCloud, tmp_path: Path, state: bool) -> None:
    under_way, forgotten = threading.Event(), threading.Event()

    def slow(answer: Any) -> Any:
        under_way.set()
        assert forgotten.wait(10)
        return answer

    cloud.honest = slow
    with make(tiny, cloud, tmp_path / "state" if state else None, background=True) as device:
        device.observe("item-3")
        assert under_way.wait(10)
        device.forget()
        forgotten.set()
        wait_until(lambda: device.status().refused == {"forgotten": 1})
        assert device.status().source == "global"
        assert device.status().circuit == "closed"
        expect(device, tiny, [], None)
        assert list((tmp_path / "state").rglob("*.theta")) == []
        device.observe("item-5")
        wait_until(lambda: device.status().source == "theta")
        expect(device, tiny, [5], sent(tiny, [5]))
        assert not device.failing


def test_a_version_on_its_way_brings_no_theta_of_what_is_forgotten(
    tiny: Tiny, new_tiny: Callable[..., Tiny], cloud: FakeCloud, tmp_path: Path
) -> None:
    second = new_tiny(seed=1)
    publish(cloud, second)
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")

        def meanwhile(answer: Any) -> Any:
            device.forget()
            return answer

        cloud.honest = meanwhile
        assert device.update()
        assert device.status().model_id == second.model_id
        assert device.status().source == "global"
        assert list((tmp_path / "state/theta").iterdir()) == []


@pytest.mark.parametrize("which", ["events.log", "theta"])
def test_a_file_that_cannot_be_removed_stops_nothing_and_is_told(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    state, unlink = tmp_path / "state", Path.unlink
    with make(tiny, cloud, state) as device:
        device.observe("item-3")
        assert device.keep_up()

        def fails(path: Path, missing_ok: bool = False) -> None:
            if which in path.name:
                raise PermissionError(13, "Permission denied")
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", fails)
            with pytest.raises(NotForgottenError, match=which):
                device.forget()
        expect(device, tiny, [], None)
        assert device.status().source == "global"
        assert device.status().disk_errors > 0
        # What cannot be removed is emptied.
        assert b"item-3" not in b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
        assert all(path.stat().st_size == 0 for path in state.rglob("*.theta"))
        device.forget()
        assert names(state) == {"lock", "requests.json"}
    with make(tiny, None, state) as device:
        expect(device, tiny, [], None)


def test_a_folder_in_place_of_a_file_stops_nothing(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.keep_up()
        (tmp_path / "state/events.log").unlink()
        (tmp_path / "state/events.log").mkdir()
        with pytest.raises(NotForgottenError, match=r"events\.log"):
            device.forget()
        assert list((tmp_path / "state/theta").iterdir()) == []
        expect(device, tiny, [], None)


def test_forgetting_while_observing_and_asking_from_many_threads(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    with make(tiny, cloud, tmp_path / "state", background=True) as device:
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                device.observe("item-3", "item-7")
                device.refresh(wait=True)
                device.rank(tiny.ids(range(2, 30)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            device.forget()
        stop.set()
        for thread in threads:
            thread.join()
        assert device.settle(10)
        device.forget()
        assert names(tmp_path / "state") == {"lock", "requests.json"}
        assert device.status().source == "global"
        assert set(device.status().refused) <= {"forgotten", "older"}


def test_a_version_that_is_in_use_no_more_keeps_nothing_either(
    tiny: Tiny, new_tiny: Callable[..., Tiny], cloud: FakeCloud, tmp_path: Path
) -> None:
    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.keep_up()
        device.rank(tiny.ids([5, 6]))
        shipped = device.model
        publish(cloud, new_tiny(seed=1))
        assert device.update()
        assert shipped._idle
        device.forget()
        assert shipped._idle == []


def test_a_ranking_under_way_leaves_nothing_behind(
    tiny: Tiny, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tiny, cloud, None) as device:
        device.observe("item-3")
        assert device.keep_up()
        score = Scorer.score

        def meanwhile(*given: Any) -> Any:
            device.forget()
            return score(*given)

        with monkeypatch.context() as patch:
            patch.setattr(Scorer, "score", meanwhile)
            device.rank(tiny.ids([5, 6]))
        assert device.model._idle == []


def test_what_a_write_left_half_done_goes_too(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with make(tiny, cloud, state) as device:
        device.observe("item-3")
        assert device.keep_up()
        for name in (".events.log.x7", f"theta/.{tiny.model_id}.theta.x7"):
            (state / name).write_bytes(b"item-3")
        device.forget()
        assert names(state) == {"lock", "requests.json"}


def test_what_can_neither_be_removed_nor_emptied_is_not_made_longer(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with make(tiny, cloud, tmp_path / "state") as device:
        device.observe("item-3")
        assert device.keep_up()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", fails)
            patch.setattr(os, "truncate", fails)
            with pytest.raises(NotForgottenError, match=r"events\.log"):
                device.forget()
        assert {"events.log", f"{tiny.model_id}.theta"} <= names(tmp_path / "state")
        device.observe("item-7")
        assert f"{tiny.model_id}.theta" not in names(tmp_path / "state")
    with make(tiny, None, tmp_path / "state") as again:
        assert again.status().source == "global"
        assert again._log.last(9) == ["item-7"]


def test_a_closed_device_forgets_what_it_left_on_disk(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    device = make(tiny, cloud, tmp_path / "state")
    device.observe("item-3")
    assert device.keep_up()
    device.close()
    device.forget()
    assert names(tmp_path / "state") == {"lock", "requests.json"}
    with make(tiny, None, tmp_path / "state"):
        pass


def test_a_folder_that_another_device_has_is_left_to_it(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    state = tmp_path / "state"
    device = make(tiny, cloud, state)
    device.observe("item-3")
    assert device.keep_up()
    device.close()
    with make(tiny, cloud, state) as other:
        other.observe("item-9")
        with pytest.raises(NotForgottenError, match=r"events\.log"):
            device.forget()
        expect(device, tiny, [], None)
        assert names(state) >= {"events.log", f"{tiny.model_id}.theta"}
    with make(tiny, None, state) as other:
        expect(other, tiny, [3, 9], sent(tiny, [3]))


def test_a_folder_made_anew_that_another_device_took_holds_nothing_to_forget(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with make(tiny, cloud, state) as device:
        device.observe("item-3")
        shutil.rmtree(state)
        with make(tiny, cloud, state) as other:
            other.observe("item-9")
            assert other.keep_up()
            device.forget()
            expect(device, tiny, [], None)
            assert names(state) >= {"events.log", f"{tiny.model_id}.theta"}


def test_a_folder_that_is_gone_holds_nothing_to_forget(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    state = tmp_path / "state"
    for put in (lambda: None, lambda: state.write_bytes(b"")):
        with make(tiny, cloud, state) as device:
            device.observe("item-3")
            shutil.rmtree(state)
            put()
            device.forget()
            expect(device, tiny, [], None)
