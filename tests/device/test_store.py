"""The parameter store: what it takes, what it refuses, and that a damaged file is never a theta."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from duetgen.device import DeviceModel, ParameterStore, RefusedParametersError, load_model
from duetgen.device.state import StateFolder
from duetgen.device.store import frame, unframe
from duetgen.device.theta import Origin
from duetgen.wire.authentication import answer_key, answer_mac
from duetgen.wire.bias import ItemBias
from duetgen.wire.messages import ParametersAnswer

from .conftest import P, Tiny, make_tiny

NOW = 1_800_000_000_000
HOUR = 3_600_000
KEY = answer_key("secret")
ORIGIN = Origin(1, 0.0, 0.0, [3])


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> DeviceModel:
    return load_model(tiny.root)


@pytest.fixture(scope="module")
def biased_model(biased: Tiny) -> DeviceModel:
    return load_model(biased.root)


def make(model: DeviceModel, theta_P: np.ndarray | None = None, key: bytes = KEY, **changes: Any) -> ParametersAnswer:
    theta_P = np.full(P, 0.25, dtype=np.float32) if theta_P is None else theta_P
    content = {
        "model_id": model.model_id,
        "sequence": 1,
        "issued": NOW,
        "expires": NOW + HOUR,
        "dtype": "float32",
        "scale": b"",
        "theta": theta_P.astype("<f4").tobytes(),
        "bias": b"",
        "mac": b"",
    }
    answer = ParametersAnswer(**{**content, **changes})
    return answer if "mac" in changes else msgspec.structs.replace(answer, mac=answer_mac(key, "d1", answer))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "state")
    yield folder
    folder.release()


def store_at(model: DeviceModel, folder: StateFolder | None, now: int = NOW, **options: Any) -> ParameterStore:
    return ParameterStore(model, folder, KEY, "d1", now, **options)


def file_of(model: DeviceModel, folder: StateFolder) -> Path:
    return folder.root / "theta" / f"{model.model_id}.theta"


def values(**at: float) -> np.ndarray:
    theta_P = np.zeros(P, dtype=np.float32)
    for index, value in at.items():
        theta_P[int(index[1:])] = value
    return theta_P


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-model", {"model_id": "0" * 64}),
        ("wrong-mac", {"mac": bytes(32)}),
        ("wrong-mac", {"mac": b""}),
        ("wrong-mac", {"key": answer_key("another token")}),
        ("malformed", {"theta": bytes(4 * P - 1)}),
        ("malformed", {"theta": b""}),
        ("malformed", {"theta": b"", "scale": b"\0"}),
        ("malformed", {"bias": b"\0"}),
        ("malformed", {"dtype": "int8"}),
        ("not-finite", {"theta_P": values(_3=np.nan)}),
        ("not-finite", {"theta_P": values(_19=np.inf)}),
        ("out-of-bounds", {"theta_P": values(_0=1.02)}),
        ("out-of-bounds", {"theta_P": values(_19=-1.02)}),
        ("from-future", {"issued": NOW + 300_001}),
        ("expired", {"expires": NOW - 7 * 24 * HOUR - 1}),
    ],
)
def test_refusals(model: DeviceModel, folder: StateFolder, reason: str, changes: dict[str, Any]) -> None:
    store = store_at(model, folder)
    with pytest.raises(RefusedParametersError) as refused:
        store.accept(make(model, **changes), ORIGIN, NOW)
    assert refused.value.reason == reason
    assert store.current is None
    assert not file_of(model, folder).exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"theta_P": values(_0=1.0, _19=-1.0)},
        {"issued": NOW + 300_000},
        {"expires": NOW - 7 * 24 * HOUR},
        {"expires": NOW},
    ],
)
def test_at_the_limits_it_takes_them(model: DeviceModel, changes: dict[str, Any]) -> None:
    store = store_at(model, None)
    store.accept(make(model, **changes), ORIGIN, NOW)
    assert store.usable(NOW) is store.current is not None


@pytest.mark.parametrize(
    ("reason", "bias"),
    [
        ("malformed", "00"),
        ("malformed", "00 00 00"),
        ("malformed", "01 0024 1d 01 00"),  # the item 30 of 2 to 29
        ("malformed", "02 0024 01 00 01 01 00"),  # the item 2 twice
        ("malformed", "03 0024 01 01 01 01 01 01 00"),  # three items of at most two
        ("malformed", "00 02 0024 01 01 01 01"),  # two of at most one
        ("malformed", "01 0000 01 01 00"),
        ("not-finite", "01 007e 01 01 00"),
        ("not-finite", "01 007c 01 01 00"),
        ("out-of-bounds", "01 0024 01 82 00"),  # 130/64 of at most 2
        ("out-of-bounds", "00 01 0024 01 41"),  # 65/64 of at most 1
    ],
)
def test_refusals_of_an_item_bias(biased_model: DeviceModel, folder: StateFolder, reason: str, bias: str) -> None:
    store = store_at(biased_model, folder)
    for changes in ({}, {"theta": b""}):
        with pytest.raises(RefusedParametersError) as refused:
            store.accept(make(biased_model, bias=bytes.fromhex(bias), **changes), ORIGIN, NOW)
        assert refused.value.reason == reason
    assert store.current is None
    assert not file_of(biased_model, folder).exists()


def test_an_item_bias_at_the_limits_is_taken_and_is_there_at_the_next_start(
    biased_model: DeviceModel, folder: StateFolder
) -> None:
    """129/64 is within a hundredth of 2, 64/64 is 1; 29 is the last item."""
    answer = make(biased_model, bias=bytes.fromhex("02 0024 01 1b 81 01 01 0024 1c 40"), theta=b"")
    for store in (store_at(biased_model, folder), store_at(biased_model, folder)):
        theta = store.current or store.accept(answer, ORIGIN, NOW)
        assert theta.values_P is biased_model.zeros_P
        assert [opinion.items.tolist() for opinion in theta.opinions] == [[2, 29], [29]]
        assert [opinion.values.tolist() for opinion in theta.opinions] == [[129 / 64, 1 / 64], [1]]


@pytest.mark.parametrize("sequence", [5, 4, 0, -1])
def test_the_same_or_an_older_sequence_is_refused(model: DeviceModel, sequence: int) -> None:
    store = store_at(model, None)
    held = store.accept(make(model, sequence=5), ORIGIN, NOW)
    with pytest.raises(RefusedParametersError, match="sequence") as refused:
        store.accept(make(model, sequence=sequence), ORIGIN, NOW)
    assert refused.value.reason == "older"
    assert store.current is held


def test_sequences_may_begin_anew_when_the_theta_at_hand_is_past_use(model: DeviceModel) -> None:
    store = store_at(model, None)
    store.accept(make(model, sequence=50), ORIGIN, NOW)
    later = NOW + 8 * 24 * HOUR
    assert store.usable(later) is None
    store.accept(make(model, sequence=1, issued=later, expires=later + HOUR), ORIGIN, later)
    assert store.usable(later) is not None


def test_the_code_covers_the_device(model: DeviceModel) -> None:
    other = ParameterStore(model, None, KEY, "d2", NOW)
    with pytest.raises(RefusedParametersError) as refused:
        other.accept(make(model), ORIGIN, NOW)
    assert refused.value.reason == "wrong-mac"


@pytest.mark.parametrize("field", ["sequence", "issued", "expires", "theta", "bias"])
def test_the_code_covers_every_field(biased_model: DeviceModel, field: str) -> None:
    answer = make(biased_model, bias=b"\0\0")
    value = getattr(answer, field)
    changed = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    with pytest.raises(RefusedParametersError) as refused:
        store_at(biased_model, None).accept(msgspec.structs.replace(answer, **{field: changed}), ORIGIN, NOW)
    assert refused.value.reason == "wrong-mac"


def test_starts_with_what_it_had(model: DeviceModel, folder: StateFolder) -> None:
    theta_P = np.linspace(-1, 1, P, dtype=np.float32)
    store_at(model, folder).accept(make(model, theta_P), Origin(7, 1.0, 2.0, [3, 4]), NOW)
    found = store_at(model, folder).current
    assert found is not None
    np.testing.assert_array_equal(found.values_P, theta_P)
    assert found.origin == Origin(7, 1.0, 2.0, [3, 4])
    assert not found.values_P.flags.writeable


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("another token", {"key": answer_key("other")}),
        ("another device", {"device": "d2"}),
        ("expired meanwhile", {"now_ms": NOW + 8 * 24 * HOUR}),
        ("the clock went back", {"now_ms": NOW - HOUR}),
    ],
)
def test_what_is_on_disk_passes_every_check_again(
    model: DeviceModel, folder: StateFolder, why: str, options: dict[str, Any]
) -> None:
    store_at(model, folder).accept(make(model), ORIGIN, NOW)
    settled = {"key": KEY, "device": "d1", "now_ms": NOW, **options}
    store = ParameterStore(model, folder, **settled)
    assert store.current is None, why
    assert store.damaged


def test_theta_of_another_version_on_disk_is_not_used(model: DeviceModel, folder: StateFolder, tmp_path: Path) -> None:
    other = load_model(make_tiny(tmp_path / "other", seed=1).root)
    store_at(other, folder).accept(make(other), ORIGIN, NOW)
    file_of(other, folder).rename(file_of(model, folder))
    assert store_at(model, folder).current is None


def test_every_cut_and_every_flipped_byte_of_the_file_is_detected(model: DeviceModel, folder: StateFolder) -> None:
    path = file_of(model, folder)
    store_at(model, folder).accept(make(model), ORIGIN, NOW)
    content = path.read_bytes()
    for at in range(len(content)):
        assert unframe(content[:at]) is None
        for bit in range(8):
            assert unframe(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]) is None
    assert unframe(content + b"\0") is None
    path.write_bytes(content[:-1])
    assert store_at(model, folder).current is None


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode([1, 2]), b"\x91" * 5000])
def test_a_whole_frame_around_nonsense_is_no_theta(model: DeviceModel, folder: StateFolder, payload: bytes) -> None:
    file_of(model, folder).write_bytes(frame(payload))
    store = store_at(model, folder)
    assert store.current is None
    assert store.damaged


def test_drop_forgets_on_disk_too(model: DeviceModel, folder: StateFolder) -> None:
    store = store_at(model, folder)
    theta = store.accept(make(model), ORIGIN, NOW)
    store.drop(theta)
    assert store.current is None
    assert not file_of(model, folder).exists()


def test_a_file_of_the_format_before_is_no_theta(model: DeviceModel, folder: StateFolder) -> None:
    store_at(model, folder).accept(make(model), ORIGIN, NOW)
    content = file_of(model, folder).read_bytes()
    file_of(model, folder).write_bytes(b"DUETPAR1" + content[8:])
    store = store_at(model, folder)
    assert store.current is None
    assert store.damaged


Listed = list[tuple[list[int], list[float]]]


class StoreMachine(RuleBasedStateMachine):
    """Answers good and bad, of either part or both, restarts, damage to the file, time that passes: theta is always the
    last that was accepted, or none."""

    model: DeviceModel

    @initialize()
    def begin(self) -> None:
        self.folder = StateFolder(Path(tempfile.mkdtemp(prefix="store-")))
        self.path = file_of(self.model, self.folder)
        self.now, self.sequence, self.serial = NOW, 0, 0
        self.accepted: tuple[np.ndarray, Listed] | None = None
        self.floor = 0
        self.expires = 0
        self.intact = True
        self.store = store_at(self.model, self.folder, self.now)

    def next_theta(self) -> np.ndarray:
        """Never the same twice, as is the item bias below."""
        self.serial += 1
        return np.random.default_rng(self.serial).uniform(-1, 1, P).astype(np.float32)

    def usable(self) -> bool:
        return self.accepted is not None and self.expires + 7 * 24 * HOUR >= self.now

    @rule(step=st.integers(-3, 5), hours=st.integers(1, 48), parts=st.sampled_from(["both", "weights", "bias"]))
    def answer(self, step: int, hours: int, parts: str) -> None:
        theta_P, sequence = self.next_theta(), self.floor + step
        expires = self.now + hours * HOUR
        good = step > 0 or not self.usable()
        values = [byte / 128 for byte in (255, 1 + self.serial % 254)]
        opinions: Listed = [([2, 2 + self.serial % 27 + 1], values), ([], [])]
        changes: dict[str, Any] = {"sequence": sequence, "issued": self.now, "expires": expires}
        if parts == "weights":
            opinions = []
        else:
            found = [ItemBias(np.array(items, np.int64), np.array(of, np.float32)) for items, of in opinions]
            changes["bias"] = self.model.bias_codec.encode(found)
        if parts == "bias":
            theta_P = np.zeros(P, dtype=np.float32)
            changes["theta"] = b""
        answer = make(self.model, theta_P, **changes)
        if not good:
            with pytest.raises(RefusedParametersError, match="sequence"):
                self.store.accept(answer, ORIGIN, self.now)
            return
        self.store.accept(answer, ORIGIN, self.now)
        self.accepted, self.floor, self.expires, self.intact = (theta_P, opinions), sequence, expires, True

    @rule(kind=st.sampled_from(["mac", "model", "future", "nan", "large", "cut", "bias", "expired"]))
    def bad_answer(self, kind: str) -> None:
        theta_P = self.next_theta()
        changes: dict[str, Any] = {"sequence": self.floor + 1, "issued": self.now, "expires": self.now + HOUR}
        if kind == "mac":
            changes["mac"] = bytes(32)
        elif kind == "model":
            changes["model_id"] = "1" * 64
        elif kind == "future":
            changes["issued"] = self.now + HOUR
        elif kind == "expired":
            changes["expires"] = self.now - 8 * 24 * HOUR
        elif kind == "bias":
            changes["bias"] = b"\x01"
        elif kind == "cut":
            changes["theta"] = theta_P.tobytes()[:-4]
        else:
            theta_P[0] = np.nan if kind == "nan" else 5
        with pytest.raises(RefusedParametersError):
            self.store.accept(make(self.model, theta_P, **changes), ORIGIN, self.now)

    @rule(hours=st.integers(0, 100))
    def time_passes(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule()
    def restart(self) -> None:
        self.store = store_at(self.model, self.folder, self.now)
        if not self.intact or not self.usable():
            self.accepted, self.floor = None, 0

    @rule(at=st.integers(0, 10_000), flip=st.integers(1, 255))
    def flip_a_byte(self, at: int, flip: int) -> None:
        if self.path.exists() and self.intact:
            content = bytearray(self.path.read_bytes())
            content[at % len(content)] ^= flip
            self.path.write_bytes(content)
            self.intact = False

    @rule(share=st.floats(0, 0.999))
    def tear(self, share: float) -> None:
        if self.path.exists() and self.intact:
            content = self.path.read_bytes()
            self.path.write_bytes(content[: int(share * len(content))])
            self.intact = False

    @invariant()
    def the_theta_is_the_last_accepted_or_none(self) -> None:
        if not hasattr(self, "store"):
            return
        theta = self.store.usable(self.now)
        if self.usable():
            assert theta is not None
            assert self.accepted is not None
            np.testing.assert_array_equal(theta.values_P, self.accepted[0])
            assert [(one.items.tolist(), one.values.tolist()) for one in theta.opinions] == self.accepted[1]
        else:
            assert theta is None

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.release()
            shutil.rmtree(self.folder.root)


def test_state_machine(biased_model: DeviceModel) -> None:
    machine = type("Machine", (StoreMachine,), {"model": biased_model})
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))


def test_golden_frame() -> None:
    # "DUETPAR2", SHA-256 of "abc" (FIPS 180-2, appendix B.1), "abc"
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert frame(b"abc").hex() == b"DUETPAR2".hex() + digest + b"abc".hex()
    assert unframe(frame(b"abc")) == b"abc"
