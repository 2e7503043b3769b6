"""The device as an application uses it, against the hand-made reference."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from duetgen.device import (
    Always,
    Device,
    EveryEvents,
    InvalidItemsError,
    NothingToRollBackError,
    StateInUseError,
    load_model,
)
from duetgen.device.items import LAST
from duetgen.wire.errors import InvalidBundleError

from .cloud import FakeCloud, Server, wait_until
from .conftest import Tiny

ALL = range(2, 30)


def sent(tiny: Tiny, history: list[int]) -> np.ndarray:
    """The theta of a history, as float16 carries it."""
    return tiny.theta(history).astype(np.float16).astype(np.float32)


def expect(device: Device, tiny: Tiny, events: list[int], theta_P: np.ndarray | None) -> None:
    """The device ranks the catalogue exactly as it must with this theta."""
    found = device.rank(tiny.ids(ALL), met="show")
    scores = dict(zip(tiny.ids(ALL), tiny.scores(events, ALL, theta_P)))
    assert [item for item, _ in found] == sorted(scores, key=lambda item: -scores[item])
    np.testing.assert_allclose([score for _, score in found], [scores[item] for item, _ in found], atol=1e-5)


def test_without_a_cloud_it_ranks_with_the_global_model(tiny: Tiny) -> None:
    with Device(tiny.root) as device:
        expect(device, tiny, [], None)
        device.observe("item-3", "item-7")
        expect(device, tiny, [3, 7], None)
        assert device.status().source == "global"
        assert not device.refresh(wait=True)


def test_unknown_ids_are_observed_as_the_unknown_item_and_rank_behind_every_known_one(tiny: Tiny) -> None:
    with Device(tiny.root) as device:
        device.observe("never heard of", "item-4", "")
        ranked = device.rank(["also unknown", *tiny.ids(ALL), ""], met="show")
        status = device.status()
    want = sorted(tiny.scores([1, 4, 1], ALL, None), reverse=True)
    np.testing.assert_allclose([score for _, score in ranked[:28]], want, atol=1e-5)
    assert ranked[28:] == [("also unknown", LAST), ("", LAST)]
    assert (status.events, status.unknown_events, status.unknown_candidates) == (3, 2, 2)


def test_the_model_sees_the_last_events_of_its_window_only(tiny: Tiny) -> None:
    with Device(tiny.root) as device:
        device.observe(*tiny.ids([9, 9, 9, 2, 3, 4, 5, 6]))
        expect(device, tiny, [2, 3, 4, 5, 6], None)


def test_no_candidates_no_ranking(tiny: Tiny) -> None:
    with Device(tiny.root) as device:
        assert device.rank([]) == []
        assert device.recommend(0) == []


def test_equal_scores_keep_their_order(tiny: Tiny) -> None:
    with Device(tiny.root) as device:
        assert [item for item, _ in device.rank(["x", "y", "z"])] == ["x", "y", "z"]


def test_recommend_gives_the_best_that_were_not_seen(tiny: Tiny) -> None:
    events = [3, 7, 11]
    with Device(tiny.root) as device:
        device.observe(*tiny.ids(events))
        scores = tiny.scores(events, ALL, None)
        order = [2 + int(i) for i in np.argsort(-scores)]
        unseen = [i for i in order if i not in events]
        assert [item for item, _ in device.recommend(5)] == tiny.ids(unseen[:5])
        assert [item for item, _ in device.recommend(5, met="show")] == tiny.ids(order[:5])
        assert len(device.recommend(1000)) == 28 - 3


@pytest.mark.parametrize("encoding", ["float32", "float16", "int8"])
def test_theta_from_the_cloud_is_used(tiny: Tiny, server: Server, encoding: str) -> None:
    with Device(
        tiny.root, cloud=server.url, token="secret", device_id="d1", encoding=encoding, background=False
    ) as device:
        device.observe(*tiny.ids([3, 7]))
        assert device.refresh(wait=True)
        theta_P = tiny.theta([3, 7])
        step = {"float32": 0, "float16": 2**-11, "int8": 2**-6}[encoding]
        found = device._runtime.store.current
        assert found is not None
        np.testing.assert_allclose(found.values_P, theta_P, atol=step)
        expect(device, tiny, [3, 7], found.values_P.astype(float))
        status = device.status()
        assert (status.source, status.requests, status.answered, status.refused) == ("theta", 1, 1, {})
        assert status.bytes_sent > 0
        assert status.bytes_received > 20
    assert server.cloud.requests[0].history == [3, 7]
    assert server.cloud.tokens == ["Bearer secret"]


def test_the_background_thread_asks_by_itself(tiny: Tiny, server: Server) -> None:
    with Device(tiny.root, cloud=server.url, token="secret", device_id="d1", policy=EveryEvents(3)) as device:
        device.observe("item-3")
        wait_until(lambda: device.status().answered == 1)
        expect(device, tiny, [3], sent(tiny, [3]))
        device.observe("item-4", "item-5")
        device.observe("item-6")
        wait_until(lambda: device.status().answered == 2)
        expect(device, tiny, [3, 4, 5, 6], sent(tiny, [3, 4, 5, 6]))
    assert [request.history for request in server.cloud.requests] == [[3], [3, 4, 5, 6]]


def test_nothing_is_asked_before_the_first_event(tiny: Tiny, cloud: FakeCloud) -> None:
    with Device(tiny.root, cloud=cloud, token="secret", policy=Always(), background=False) as device:
        assert not device.keep_up()
        assert not device.refresh(wait=True)
    assert cloud.requests == []


def test_the_generator_reads_the_last_events_of_its_history_only(tiny: Tiny, cloud: FakeCloud) -> None:
    with Device(tiny.root, cloud=cloud, token="secret", background=False) as device:
        device.observe(*tiny.ids(range(2, 14)))
        device.keep_up()
    assert cloud.requests[0].history == list(range(6, 14))


def test_the_log_and_theta_outlive_the_process(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    options = {"cloud": cloud, "token": "secret", "state": tmp_path / "state", "background": False}
    with Device(tiny.root, **options) as device:
        device.observe(*tiny.ids([3, 7]))
        device.keep_up()
        device.observe("item-9")
        name = device.device_id
    with Device(tiny.root, token="secret", state=tmp_path / "state") as again:
        assert again.device_id == name
        expect(again, tiny, [3, 7, 9], sent(tiny, [3, 7]))
        status = again.status()
        assert status.events == 3
        assert status.theta is not None
        assert status.theta.age_events == 1


def test_rank_leaves_out_what_was_met_unless_told_otherwise(tiny: Tiny) -> None:
    with Device(tiny.root) as device:
        device.observe(*tiny.ids([3, 7]), "unknown")
        whole = device.rank([*tiny.ids(ALL), "unknown"], met="show")
        hidden = [pair for pair in whole if pair[0] not in tiny.ids([3, 7])]
        assert device.rank([*tiny.ids(ALL), "unknown"]) == hidden
        assert (len(whole), len(hidden)) == (29, 27)
        assert device.rank(tiny.ids([3, 7])) == []
    with Device(tiny.root, met="show") as device:
        device.observe(*tiny.ids([3, 7]), "unknown")
        assert device.rank([*tiny.ids(ALL), "unknown"]) == whole


def test_forget_erases_what_was_seen_and_theta(tiny: Tiny, cloud: FakeCloud, tmp_path: Path) -> None:
    options = {"cloud": cloud, "token": "secret", "state": tmp_path / "state", "background": False}
    with Device(tiny.root, **options) as device:
        device.observe(*tiny.ids([3, 7]))
        device.keep_up()
        device.forget()
        expect(device, tiny, [], None)
    with Device(tiny.root, **options) as device:
        expect(device, tiny, [], None)
    assert not any(b"item-3" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_one_state_folder_one_device(tiny: Tiny, tmp_path: Path) -> None:
    with Device(tiny.root, state=tmp_path / "state"), pytest.raises(StateInUseError):
        Device(tiny.root, state=tmp_path / "state")
    Device(tiny.root, state=tmp_path / "state").close()


def test_a_bundle_that_is_not_good_never_opens(new_tiny: Callable[..., Tiny]) -> None:
    broken = new_tiny()
    (broken.root / "items.json").write_bytes(b"{}")
    with pytest.raises(InvalidBundleError):
        Device(broken.root)


def test_no_version_to_roll_back_to(tiny: Tiny, tmp_path: Path) -> None:
    with Device(tiny.root, state=tmp_path / "state") as device, pytest.raises(NothingToRollBackError):
        device.rollback()
    with Device(tiny.root) as device, pytest.raises(NothingToRollBackError):
        device.rollback()


def test_ranking_observing_and_refreshing_from_many_threads(tiny: Tiny, server: Server) -> None:
    failures: list[BaseException] = []
    with Device(tiny.root, cloud=server.url, token="secret", policy=Always()) as device:
        thetas = [None]

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                for _ in range(60):
                    device.observe(*tiny.ids(rng.integers(2, 30, 1)))
                    count = int(rng.integers(1, 28))
                    assert len(device.rank(tiny.ids(range(2, 2 + count)), met="show")) == count
                    device.recommend(3)
                    device.status()
            except BaseException as cause:
                failures.append(cause)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: (t := device.status().theta) is not None and t.age_events == 0)
        events = [int(name[5:]) for name in device._log.last(8)]
        expect(device, tiny, events, sent(tiny, events))
        assert device.status().events == 480
        assert len(thetas) == 1
    assert failures == []


def test_a_closed_device_still_ranks_and_asks_for_nothing(tiny: Tiny, server: Server) -> None:
    device = Device(tiny.root, cloud=server.url, token="secret", policy=Always())
    device.observe("item-3")
    wait_until(lambda: device.status().answered == 1)
    device.close()
    device.close()
    device.observe("item-4")
    expect(device, tiny, [3, 4], sent(tiny, [3]))
    assert not device.refresh()
    assert not device.refresh(wait=True)
    assert len(server.cloud.requests) == 1


IMPORT = """
import sys
from duetgen.device import Device
heavy = {"torch", "polars", "starlette", "granian", "cyclopts", "rich", "onnx", "cryptography", "scipy"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_the_device_pulls_in_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_device_that_runs_needs_numpy_msgspec_and_onnxruntime_alone(tiny: Tiny, server: Server) -> None:
    script = f"""
import sys
for name in ("torch", "polars", "starlette", "granian", "cyclopts", "rich", "onnx", "cryptography", "httpx"):
    sys.modules[name] = None
from duetgen.device import Device
with Device({str(tiny.root)!r}, cloud={server.url!r}, token="secret", background=False) as device:
    device.observe("item-3")
    assert device.refresh(wait=True)
    assert len(device.recommend(3)) == 3
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


def personal(biased: Tiny, history: list[int], events: list[int], parts: str = "both") -> np.ndarray:
    """Scores of all items by hand, with theta of a history, at the age of the events since."""
    age = min(4, len(events) - len(history))
    weights_P = sent(biased, history) * (1 - age / 8) if parts != "bias" else None
    scores = biased.scores(events, range(30), weights_P)
    if parts != "weights":
        first, second = biased.opinions(history)
        scores[first.items] += (1 - age / 4) * first.values
        scores[second.items] += 2 * second.values
    return scores[2:]


@pytest.mark.parametrize("parts", ["both", "weights", "bias"])
def test_both_parts_of_theta_are_used_and_count_less_with_every_event(biased: Tiny, server: Server, parts: str) -> None:
    server.cloud.tinies[biased.model_id] = biased
    events = [3, 7]
    options = {"cloud": server.url, "token": "secret", "device_id": "d1", "met": "show", "background": False}
    with Device(biased.root, parts=parts, **options) as device:
        device.observe(*biased.ids(events))
        assert device.refresh(wait=True)
        for event in (9, 4, 11, 3, 8, 2):
            want = dict(zip(biased.ids(ALL), personal(biased, [3, 7], events, parts)))
            ranked = dict(device.rank(biased.ids(ALL)))
            assert ranked == pytest.approx(want, abs=1e-5)
            assert dict(device.recommend(28)) == pytest.approx(want, abs=1e-5)
            np.testing.assert_allclose(device.score(ALL), list(want.values()), atol=1e-5)
            np.testing.assert_allclose(device.score(ALL, personal=False), biased.scores(events, ALL, None), atol=1e-5)
            found, age = device.status().theta, len(events) - 2
            assert found is not None
            assert (found.age_events, found.weights_trust) == (age, 1 - min(age, 4) / 8)
            assert found.opinions_trust == [1 - min(age, 4) / 4, 2]
            # Two varints of a count, two scales, three items below 128, three values.
            assert (found.weights_bytes, found.bias_bytes) == (40 * (parts != "bias"), 12 * (parts != "weights"))
            device.observe(*biased.ids([event]))
            events.append(event)
    assert [request.parts for request in server.cloud.requests] == [parts]


def test_no_theta_is_the_global_model_bit_for_bit(biased: Tiny) -> None:
    model = load_model(biased.root)
    with Device(model) as device:
        device.observe(*biased.ids([3, 7]))
        assert device.score(ALL).tobytes() == model.score(model.zeros_P, [3, 7], list(ALL)).tobytes()


def test_an_item_bias_outlives_the_process_and_is_forgotten_with_the_rest(
    biased: Tiny, cloud: FakeCloud, tmp_path: Path
) -> None:
    cloud.tinies[biased.model_id] = biased
    options = {"cloud": cloud, "token": "secret", "state": tmp_path / "state", "background": False, "met": "show"}
    with Device(biased.root, **options) as device:
        device.observe(*biased.ids([3, 7]))
        assert device.keep_up()
    with Device(biased.root, **options) as device:
        device.observe(*biased.ids([9]))
        np.testing.assert_allclose(device.score(ALL), personal(biased, [3, 7], [3, 7, 9]), atol=1e-5)
        device.forget()
        np.testing.assert_allclose(device.score(ALL), biased.scores([], ALL, None), atol=1e-5)


@pytest.mark.parametrize(("parts", "other"), [("weights", "bias"), ("bias", "weights"), ("weights", "both")])
def test_a_part_that_was_not_asked_for_is_refused(biased: Tiny, cloud: FakeCloud, parts: str, other: str) -> None:
    cloud.tinies[biased.model_id] = biased
    answer = cloud.parameters
    cloud.parameters = lambda request, limit: answer(msgspec.structs.replace(request, parts=other), limit)  # type: ignore[method-assign]
    with Device(biased.root, cloud=cloud, token="secret", parts=parts, background=False) as device:
        device.observe("item-3")
        assert not device.refresh(wait=True)
        assert device.status().refused == {"malformed": 1}
        assert device.status().source == "global"


def test_a_version_without_the_part_that_is_asked_for_gives_no_theta(tiny: Tiny, cloud: FakeCloud) -> None:
    with Device(tiny.root, cloud=cloud, token="secret", parts="bias", background=False) as device:
        device.observe("item-3")
        assert not device.refresh(wait=True)
        assert device.status().refused == {"malformed": 1}


@pytest.mark.parametrize("k", ["3", 2.5, None, [3]])
def test_a_number_of_recommendations_that_is_none_is_refused(tiny: Tiny, k: Any) -> None:
    with Device(tiny.root) as device, pytest.raises(InvalidItemsError) as refused:
        device.recommend(k)
    assert refused.value.hint == "as in recommend(10)"
