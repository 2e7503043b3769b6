"""What the state folder keeps when it is removed, full, damaged, or wider than it should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from duetgen import files
from duetgen.device import Always, Device, StateInUseError
from duetgen.device.state import StateFolder

from .cloud import FakeCloud
from .conftest import Tiny
from .test_device import expect, sent


def make(tiny: Tiny, cloud: Any, state: Path, **options: Any) -> Device:
    settled = {"token": "secret", "policy": Always(), "background": False}
    return Device(tiny.root, cloud=cloud, state=state, **{**settled, **options})


def modes(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): path.stat().st_mode & 0o777
        for path in root.rglob("*")
        if path.is_file() and "versions" not in path.parts
    }


def remove_and_remake(state: Path) -> None:
    shutil.rmtree(state)
    state.mkdir()


def move_aside_and_remake(state: Path) -> None:
    state.rename(state.with_name("aside"))
    state.mkdir(mode=0o755)


def remove_all_files(state: Path) -> None:
    for path in state.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("remake", [remove_and_remake, move_aside_and_remake, remove_all_files])
def test_a_folder_made_anew_while_running_gets_everything(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, remake: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    with make(tiny, cloud, state) as device:
        device.observe(*tiny.ids([3, 7]))
        assert device.keep_up()
        name = device.device_id
        remake(state)
        device.observe("item-9")
        assert device.status().disk_errors == 0
        assert set(modes(state)) >= {"device.json", "events.log", "lock", "requests.json"}
        with pytest.raises(StateInUseError):
            Device(tiny.root, state=state)
    with make(tiny, None, state) as again:
        assert again.device_id == name
        expect(again, tiny, [3, 7, 9], sent(tiny, [3, 7]))
    assert set(modes(state).values()) == {0o600}


@pytest.mark.parametrize("name", ["device.json", "events.log", "requests.json", "theta"])
def test_a_file_that_somebody_removed_is_written_with_the_next_event(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, name: str
) -> None:
    state = tmp_path / "state"
    with make(tiny, cloud, state) as device:
        device.observe("item-3")
        assert device.keep_up()
        if name == "theta":
            shutil.rmtree(state / name)
        else:
            (state / name).unlink()
        device.observe("item-7")
        assert device.status().disk_errors == 0
        known = device.device_id
    with make(tiny, cloud, state) as again:
        assert (again.device_id, again.status().requests_today) == (known, 1)
        expect(again, tiny, [3, 7], sent(tiny, [3]))


def test_a_folder_that_is_gone_for_a_while_gets_everything_at_the_end_at_the_latest(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    device = make(tiny, cloud, state)
    device.observe("item-3")
    shutil.rmtree(state)
    device.observe("item-7")
    assert device.keep_up()
    assert not state.exists()
    assert device.status().disk_errors >= 2
    state.mkdir()
    device.close()
    with make(tiny, None, state) as again:
        expect(again, tiny, [3, 7], sent(tiny, [3, 7]))


def test_a_folder_made_anew_that_another_device_took_is_left_to_it(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with make(tiny, cloud, state) as device:
        device.observe("item-3")
        shutil.rmtree(state)
        with make(tiny, cloud, state) as other:
            other.observe("item-9")
            device.observe("item-7")
            assert device.keep_up()
            assert device.status().disk_errors > 0
            expect(device, tiny, [3, 7], sent(tiny, [3, 7]))
            expect(other, tiny, [9], None)
        content = (state / "events.log").read_bytes()
        assert b"item-9" in content
        assert b"item-7" not in content


def test_a_closed_device_writes_nothing_more(tiny: Tiny, tmp_path: Path) -> None:
    device = make(tiny, None, tmp_path / "state")
    device.observe("item-3")
    device.close()
    device.observe("item-7")
    expect(device, tiny, [3, 7], None)
    with make(tiny, None, tmp_path / "state") as again:
        expect(again, tiny, [3], None)


def test_theta_that_a_full_disk_did_not_take_is_written_once_there_is_room(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with make(tiny, cloud, tmp_path / "state") as device:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            patch.setattr(files.os, "fsync", full)
            device.observe("item-3")
            assert device.keep_up()
            assert list((tmp_path / "state/theta").iterdir()) == []
        assert device.status().disk_errors >= 3
        device.observe("item-7")
        assert len(list((tmp_path / "state/theta").iterdir())) == 1
        name = device.device_id
    with make(tiny, cloud, tmp_path / "state") as again:
        assert again.device_id == name
        expect(again, tiny, [3, 7], sent(tiny, [3]))
        assert again.status().requests_today == 1


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_files_are_for_their_owner_alone_in_folders_that_are_wider(
    tiny: Tiny, new_tiny: Callable[..., Tiny], cloud: FakeCloud, tmp_path: Path, umask: int
) -> None:
    state, before = tmp_path / "state", os.umask(umask)
    try:
        state.mkdir(mode=0o777)
        (state / "theta").mkdir(mode=0o777)
        second = new_tiny(seed=1)
        cloud.tinies[second.model_id], cloud.latest = second, second.model_id
        with make(tiny, cloud, state) as device:
            for item in range(2, 30):
                device.observe(f"item-{item}")
                device.keep_up()
            assert device.update()
            found = modes(state)
            version = {path.stat().st_mode & 0o777 for path in (state / "versions" / second.model_id).iterdir()}
        assert len(found) == 7
        assert version == {0o600}
        assert set(found.values()) == {0o600}
        assert (state / "versions").stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


def test_files_of_an_earlier_version_are_narrowed(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with make(tiny, cloud, state) as device:
        device.observe("item-3")
        assert device.keep_up()
    for path in state.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with make(tiny, None, state):
        assert {name for name, mode in modes(state).items() if mode != 0o600} <= {"lock"}


def test_opening_removes_what_a_crash_left_and_nothing_of_anybody_else(tiny: Tiny, tmp_path: Path) -> None:
    state = tmp_path / "home"
    (state / "theta").mkdir(parents=True)
    mine = [".events.log.x1", ".requests.json.abc", f"theta/.{'0' * 64}.theta.q"]
    theirs = [".bashrc", ".ssh_config", ".events", "theta/.keep", "notes.txt"]
    for name in mine + theirs:
        (state / name).write_bytes(b"x")
    make(tiny, None, state).close()
    assert [name for name in mine if (state / name).exists()] == []
    assert [name for name in theirs if not (state / name).exists()] == []


DAMAGE: dict[str, bytes] = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"x":' * 100_000,
    "nested msgpack": b"\x91" * 100_000,
    "nested maps": b"\x81\xa1x" * 100_000,
    "nested in an unknown field": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nothing": b"",
    "zeros": bytes(10_000),
    "not UTF-8": b'{"device":"\xff"}',
    "a number": b"1e999",
    "huge numbers": b'{"day":1%s,"requests":-1%s}' % (b"0" * 400, b"0" * 400),
    "negative": b'{"day":0,"requests":-5}',
    "null": b"null",
}


@pytest.mark.parametrize("name", ["device.json", "requests.json", "versions.json", "events.log", "theta"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_any_state_file_may_hold_anything(tiny: Tiny, cloud: FakeCloud, tmp_path: Path, name: str, kind: str) -> None:
    state = tmp_path / "state"
    (state / "theta").mkdir(parents=True)
    place = state / (f"theta/{tiny.model_id}.theta" if name == "theta" else name)
    place.write_bytes(DAMAGE[kind])
    with make(tiny, cloud, state) as device:
        expect(device, tiny, [], None)
        device.observe("item-3")
        assert device.keep_up()
        expect(device, tiny, [3], sent(tiny, [3]))
        assert device.status().requests_today == 1
    with make(tiny, None, state) as again:
        expect(again, tiny, [3], sent(tiny, [3]))


@pytest.mark.parametrize("name", ["device.json", "requests.json", "versions.json", "events.log", "theta"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "too large"])
def test_any_state_file_may_be_something_else(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, name: str, kind: str
) -> None:
    state = tmp_path / "state"
    (state / "theta").mkdir(parents=True)
    place = state / (f"theta/{tiny.model_id}.theta" if name == "theta" else name)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        with place.open("wb") as file:
            file.truncate(2**32)
    with make(tiny, cloud, state) as device:
        expect(device, tiny, [], None)
        device.observe("item-3")
        assert device.keep_up()
        expect(device, tiny, [3], sent(tiny, [3]))


def test_a_version_whose_files_are_gone_is_fetched_again_and_not_refused(
    tiny: Tiny, new_tiny: Callable[..., Tiny], cloud: FakeCloud, tmp_path: Path
) -> None:
    second, state = new_tiny(seed=1), tmp_path / "state"
    cloud.tinies[second.model_id], cloud.latest = second, second.model_id
    with make(tiny, cloud, state) as device:
        assert device.update()
    shutil.rmtree(state / "versions")
    with make(tiny, cloud, state) as device:
        assert device.status().model_id == tiny.model_id
        assert device.status().refused_versions == {}
        assert device.update()
        assert device.status().model_id == second.model_id


HOLD = (
    "import sys; from duetgen.device.state import StateFolder; from pathlib import Path; StateFolder(Path(sys.argv[1]))"
)


def test_the_hold_ends_with_the_process(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HOLD, str(tmp_path / "state")], check=True, timeout=60)
    StateFolder(tmp_path / "state").release()


def test_a_relative_folder_is_the_same_wherever_the_application_goes(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with make(tiny, cloud, Path("state")) as device:
        device.observe(*tiny.ids([3, 7]))
        monkeypatch.chdir("elsewhere")
        device.observe(*tiny.ids([5]))
        assert device.refresh(wait=True)
        assert device.status().disk_errors == 0
    with make(tiny, cloud, tmp_path / "state") as device:
        assert len(device._log) == 3
    monkeypatch.chdir(tmp_path)
    with make(tiny, cloud, Path("state")) as device:
        monkeypatch.chdir("elsewhere")
        device.forget()
    assert not (tmp_path / "state" / "events.log").exists()
    assert os.listdir(tmp_path / "elsewhere") == []  # noqa: PTH208 - names are all that is wanted


def test_a_user_who_is_not_there_is_a_part_of_the_name(
    tiny: Tiny, cloud: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tiny, cloud, Path("~nobody.of.this.name/state")).close()
    assert (tmp_path / "~nobody.of.this.name" / "state" / "lock").is_file()


def test_what_json_holds_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    file = folder.file("requests.json", lambda: None)
    file.path.write_bytes(msgspec.json.encode({"day": 1}) + b" " * 2**20)
    assert file.load(dict) is None
    folder.release()
