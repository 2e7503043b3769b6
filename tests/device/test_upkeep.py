"""Nothing ends the asking: whatever a policy, a profile, a cloud or an update raises is counted, shown and survived."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duetgen.device import Always, DailyBudget, Device, Drift, PatienceConfig, Situation
from duetgen.device.profiles import ItemProfiles
from duetgen.wire.messages import ParametersAnswer

from .cloud import FakeCloud, Server, wait_until
from .conftest import Tiny
from .test_device import expect, sent

QUICK = PatienceConfig(first=0.01, longest=0.02, failures=1000)


class Odd(BaseException):
    """What `except Exception` lets through."""


class Mute(Exception):  # noqa: N818
    """An exception without a text."""

    def __str__(self) -> str:
        raise ValueError("no words")


class Truthless:
    """No answer to a question."""

    def __bool__(self) -> bool:
        raise TypeError("neither")


class RaisesOnce:
    """A policy that fails when it is asked for the second time."""

    def __init__(self, cause: BaseException) -> None:
        self.cause, self.calls = cause, 0

    def due(self, situation: Situation) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise self.cause
        return True


CAUSES = [ZeroDivisionError("once"), Mute(), MemoryError(), RecursionError(), SystemExit(3), KeyboardInterrupt()]
CAUSES += [Odd(), GeneratorExit(), asyncio.CancelledError()]
MEANT = (SystemExit, KeyboardInterrupt)
"""In the main thread they mean the application, not the device."""


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_a_policy_that_raises_once(tiny: Tiny, server: Server, cause: BaseException) -> None:
    policy = RaisesOnce(cause)
    with Device(tiny.root, cloud=server.url, token="secret", policy=policy) as device:
        for number in range(1, 5):
            device.observe(f"item-{number + 2}")
            wait_until(lambda number=number: policy.calls >= number)  # type: ignore[misc]
            assert device.settle(5)
        wait_until(lambda: device.theta_age == 0)
        assert device._thread is not None
        assert device._thread.is_alive()
        status = device.status()
        assert status.failures == {"policy": 1}
        assert status.requests == 3
        expect(device, tiny, [3, 4, 5, 6], sent(tiny, [3, 4, 5, 6]))
        assert device.refresh()
        wait_until(lambda: device.status().answered == 4)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_a_policy_that_raises_once_in_the_callers_thread(tiny: Tiny, cloud: FakeCloud, cause: BaseException) -> None:
    with Device(tiny.root, cloud=cloud, token="secret", policy=RaisesOnce(cause), background=False) as device:
        device.observe("item-3")
        assert device.keep_up()
        device.observe("item-4")
        if isinstance(cause, MEANT):
            with pytest.raises(type(cause)):
                device.keep_up()
        else:
            assert not device.keep_up()
        assert device.status().failures == ({} if isinstance(cause, MEANT) else {"policy": 1})
        device.observe("item-5")
        assert device.keep_up()
        expect(device, tiny, [3, 4, 5], sent(tiny, [3, 4, 5]))


@pytest.mark.parametrize("cause", [SystemExit(1), Odd(), ValueError()], ids=lambda cause: type(cause).__name__)
def test_what_was_promised_is_sent_though_the_policy_always_raises(
    tiny: Tiny, server: Server, cause: BaseException
) -> None:
    class Broken:
        def due(self, situation: Situation) -> bool:
            raise cause

    with Device(tiny.root, cloud=server.url, token="secret", policy=Broken()) as device:
        device.observe("item-3")
        assert device.settle(5)
        assert device.refresh()
        wait_until(lambda: device.status().answered == 1)
        assert set(device.status().failures) == {"policy"}


@pytest.mark.parametrize("background", [True, False])
def test_a_policy_that_always_raises_leaves_refresh_as_it_is(tiny: Tiny, cloud: FakeCloud, background: bool) -> None:
    class Broken:
        def due(self, situation: Situation) -> bool:
            raise ValueError(f"token secret\x1b[31m of {situation.events}")

    with Device(tiny.root, cloud=cloud, token="secret", policy=Broken(), background=background) as device:
        for item in (3, 4):
            device.observe(f"item-{item}")
            device.settle(5)
        status = device.status()
        assert status.failures["policy"] >= 2
        assert status.last_error.startswith("ValueError: token …[31m of ")
        assert "\x1b" not in status.last_error
        assert device.refresh(wait=True)
        expect(device, tiny, [3, 4], sent(tiny, [3, 4]))


def test_a_policy_that_gives_no_answer_or_changes_what_it_is_given(tiny: Tiny, cloud: FakeCloud) -> None:
    class Rude:
        def due(self, situation: Situation) -> Any:
            situation.history.clear()  # type: ignore[attr-defined]
            situation.made_from.append(99)  # type: ignore[attr-defined]
            return Truthless() if situation.has_theta else 1

    with Device(tiny.root, cloud=cloud, token="secret", policy=Rude(), background=False) as device:
        device.observe("item-3")
        assert device.keep_up()
        device.observe("item-4")
        assert not device.keep_up()
        assert device.status().failures == {"policy": 1}
        theta = device._runtime.store.current
        assert theta is not None
        assert theta.origin.history == [3]
        expect(device, tiny, [3, 4], sent(tiny, [3]))


def test_profiles_that_fail(tiny: Tiny, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    with Device(tiny.root, cloud=cloud, token="secret", policy=DailyBudget(Drift(0.0), 9), background=False) as device:
        device.observe("item-3")
        assert device.keep_up()
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise RuntimeError("the graph fails")

            patch.setattr(ItemProfiles, "_raw", fail)
            device.observe("item-4")
            assert not device.keep_up()
        assert device.status().failures == {"policy": 1}
        device.observe("item-5")
        assert device.keep_up()


class Failing(FakeCloud):
    """A cloud of an application's own that raises whatever it likes."""

    cause: BaseException | None = None
    answer: Any = None

    def fail(self) -> None:
        if self.cause is not None:
            raise self.cause

    def parameters(self, request: Any, limit: int = 2**30) -> ParametersAnswer:
        self.fail()
        return self.answer or super().parameters(request, limit)

    def models(self, device: str = "") -> Any:
        self.fail()
        return super().models(device)

    def close(self) -> None:
        self.fail()


@pytest.mark.parametrize(
    "cause", [KeyError("x"), Mute(), OSError("disk"), SystemExit(1), Odd()], ids=lambda c: type(c).__name__
)
def test_a_cloud_that_raises_whatever_it_likes(tiny: Tiny, tmp_path: Path, cause: BaseException) -> None:
    cloud = Failing(tiny)
    cloud.cause = cause
    options = {"token": "secret", "policy": Always(), "state": tmp_path / "state", "patience": QUICK}
    device = Device(tiny.root, cloud=cloud, update_seconds=0.05, **options)
    device.observe("item-3")
    wait_until(lambda: sum(device.status().failures.values()) >= 2)
    expect(device, tiny, [3], None)
    cloud.cause = None
    wait_until(lambda: device.status().source == "theta")
    expect(device, tiny, [3], sent(tiny, [3]))
    cloud.cause = cause if isinstance(cause, Odd) else ValueError("closing")
    device.close()
    Device(tiny.root, state=tmp_path / "state").close()


@pytest.mark.parametrize("answer", [object(), 7, "theta", {"theta": b""}])
def test_an_answer_that_is_none(tiny: Tiny, answer: object) -> None:
    cloud = Failing(tiny)
    cloud.answer = answer
    with Device(tiny.root, cloud=cloud, token="secret", background=False) as device:
        device.observe("item-3")
        assert not device.refresh(wait=True)
        assert device.status().failures == {"internal": 1}


def test_an_update_that_fails_where_nobody_foresaw(
    tiny: Tiny, new_tiny: Callable[..., Tiny], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = new_tiny(seed=1)
    server.cloud.tinies[second.model_id], server.cloud.latest = second, second.model_id
    options = {"token": "secret", "policy": Always(), "state": tmp_path / "state", "patience": QUICK}
    with Device(tiny.root, cloud=server.url, update_seconds=0.05, **options) as device:

        def fail(*_: object) -> None:
            raise AssertionError("unforeseen")

        with monkeypatch.context() as patch:
            patch.setattr(device._runtimes, "make", fail)
            wait_until(lambda: device.status().failures.get("update-internal", 0) >= 2)
            device.observe("item-3")
            wait_until(lambda: device.status().source == "theta")
        wait_until(lambda: device.status().model_id == second.model_id)


def test_refresh_promises_nothing_that_nobody_will_send(tiny: Tiny, server: Server) -> None:
    with Device(tiny.root, cloud=server.url, token="secret", policy=DailyBudget(Always(), 0)) as device:
        assert not device.refresh()
        device.observe("item-3")
        assert device.refresh()
        wait_until(lambda: device.status().answered == 1)
        device.forget()
        assert not device.refresh()
    assert not device.refresh()
    with Device(tiny.root) as offline:
        offline.observe("item-3")
        assert not offline.refresh()
    assert len(server.cloud.requests) == 1


def test_refresh_asks_by_itself_where_the_thread_is_gone(tiny: Tiny, cloud: FakeCloud) -> None:
    with Device(tiny.root, cloud=cloud, token="secret", policy=DailyBudget(Always(), 0)) as device:
        device._upkeep.thread = threading.Thread()  # as after a fork, where no thread lives on
        device.observe("item-3")
        assert device.refresh()
        assert device.status().answered == 1


def test_what_was_promised_is_sent_once_the_cloud_lets_it(tiny: Tiny, server: Server) -> None:
    server.cloud.refusal = (503, {"Retry-After": "0.3"})
    patience = PatienceConfig(first=0.01, failures=1000)
    with Device(
        tiny.root, cloud=server.url, token="secret", policy=DailyBudget(Always(), 1), patience=patience
    ) as device:
        device.observe("item-3")
        wait_until(lambda: device.status().failures == {"cloud-refused": 1})
        server.cloud.refusal = None
        assert device.refresh()
        wait_until(lambda: device.status().source == "theta")
        assert device.status().requests == 2


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack"])
def test_what_a_server_says_is_shown_without_control_characters_and_without_the_token(
    tiny: Tiny, server: Server, kind: str
) -> None:
    import msgspec

    from duetgen.wire.messages import ErrorAnswer

    said = ErrorAnswer("co\x07de", "you sent se\x00cret\x1b]0;title\x07\r\n\u202eno", "secret" * 1000)
    content = (msgspec.json if "json" in kind else msgspec.msgpack).encode(said)
    head = f"HTTP/1.1 403 No\x1b[31m secret\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"

    def respond(handler: Any, answer: bytes) -> None:
        handler.wfile.write(head.encode() + content)

    server.cloud.respond = respond
    with Device(tiny.root, cloud=server.url, token="secret", background=False) as device:
        device.observe("item-3")
        assert not device.refresh(wait=True)
        shown = str(device.status())
        assert "secret" not in shown
        assert all(character.isprintable() for character in device.status().last_error)
        assert "you sent …" in device.status().last_error
        assert len(device.status().last_error) < 1500


def test_an_exit_while_closing_leaves_the_state_folder_free(tiny: Tiny, tmp_path: Path) -> None:
    cloud = Failing(tiny)
    device = Device(tiny.root, cloud=cloud, state=tmp_path / "state")
    cloud.cause = SystemExit(3)
    with pytest.raises(SystemExit):
        device.close()
    Device(tiny.root, state=tmp_path / "state").close()


def test_a_thread_that_cannot_begin_leaves_the_state_folder_free(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            Device(tiny.root, cloud=cloud, state=tmp_path / "state")
    Device(tiny.root, state=tmp_path / "state").close()
