"""Python reads the golden files; `web/tests` has TypeScript read the same ones."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from duetgen.device import (
    AfterSeconds,
    Always,
    DailyBudget,
    Device,
    Drift,
    EveryEvents,
    Policy,
    Situation,
    load_model,
)
from duetgen.device.log import decode_records
from duetgen.device.profiles import ItemProfiles
from duetgen.wire.authentication import answer_key, verify
from duetgen.wire.messages import ParametersAnswer
from tests.signing import KEY, public

from . import make

ROOT = Path(__file__).parent
SESSIONS = json.loads((ROOT / "sessions.json").read_bytes())
POLICIES = json.loads((ROOT / "policies.json").read_bytes())
NAMES = sorted(path.name for path in (ROOT / "bundles").iterdir())


def test_messages_codes_encodings_and_waits_are_byte_for_byte_what_they_were() -> None:
    assert make.formatted(make.wire()) == (ROOT / "wire.json").read_bytes()


def test_every_answer_has_its_code() -> None:
    for case in json.loads((ROOT / "wire.json").read_bytes())["answers"]:
        answer = msgspec.msgpack.decode(base64.b64decode(case["msgpack"]), type=ParametersAnswer)
        assert verify(answer_key(case["token"]), case["device"], answer)


def test_the_log_on_disk_reads_as_it_was_written() -> None:
    content, told = make.records()
    assert content == (ROOT / "events.bin").read_bytes()
    assert make.formatted(told) == (ROOT / "events.json").read_bytes()
    assert [list(record) for record in decode_records(content)[0]] == told["records"]


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_is_signed_by_the_key_of_the_tests(name: str) -> None:
    assert load_model(ROOT / "bundles" / name, {public(KEY)}).model_id


def same(found: list[Any], expected: list[list[Any]]) -> None:
    assert [name for name, _ in found] == [name for name, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("session", SESSIONS["sessions"], ids=lambda s: f"{s['bundle']}-{s['options']['met']}")
def test_a_device_lives_its_session_again(session: dict[str, Any]) -> None:
    now, cloud = SESSIONS["now"], make.Cloud()
    with Device(
        ROOT / "bundles" / session["bundle"],
        cloud=cloud,
        token=SESSIONS["token"],
        device_id=SESSIONS["device"],
        background=False,
        clock=lambda: now,
        **session["options"],
    ) as device:
        for step in session["steps"]:
            match step["do"]:
                case "observe":
                    device.observe(*step["items"])
                case "clock":
                    now = step["now"]
                case "forget":
                    device.forget()
                case "recommend":
                    same(list(device.recommend(step["k"], met=step["met"])), step["ranking"])
                case "rank":
                    same(list(device.rank(step["candidates"], met=step["met"])), step["ranking"])
                case "answer":
                    before = device.status().refused
                    cloud.answer = msgspec.convert(step["answer"], ParametersAnswer)
                    good = device.refresh(wait=True)
                    after = device.status().refused
                    changed = [name for name in after if after[name] != before.get(name)]
                    assert [step["gives"]] == (["accepted"] if good else changed)
                case "status":
                    told = msgspec.to_builtins(device.status())
                    for name, value in step["status"].items():
                        if name == "theta":
                            opinions = value.pop("opinions_trust")
                            assert told["theta"].pop("opinions_trust") == pytest.approx(opinions)
                            assert {key: told["theta"][key] for key in value} == pytest.approx(value)
                        else:
                            assert told[name] == value


def policy(told: dict[str, Any]) -> Policy:
    fields = {name: value for name, value in told.items() if name != "kind"}
    if told["kind"] == "DailyBudget":
        return DailyBudget(policy(fields.pop("policy")), **fields)
    kinds = {"Always": Always, "EveryEvents": EveryEvents, "AfterSeconds": AfterSeconds, "Drift": Drift}
    made: Policy = kinds[told["kind"]](**fields)
    return made


@pytest.mark.parametrize("asks", POLICIES["asks"], ids=lambda asks: asks["policy"]["kind"])
def test_a_policy_asks_at_the_same_events(asks: dict[str, Any]) -> None:
    root, now = ROOT / "bundles" / POLICIES["bundle"], float(POLICIES["start"])
    model, cloud = load_model(root), make.Cloud()
    cloud.make = lambda request: make.answer_for(model, int(now), POLICIES["answer_seed"], now)
    asked = []
    with Device(
        model,
        cloud=cloud,
        token=SESSIONS["token"],
        device_id=SESSIONS["device"],
        policy=policy(asks["policy"]),
        background=False,
        clock=lambda: now,
    ) as device:
        for number, item in enumerate(POLICIES["events"], start=1):
            now += 60
            device.observe(item)
            if device.keep_up():
                asked.append(number)
    assert asked == asks["asks"]


def test_drift_is_what_it_was() -> None:
    profiles = ItemProfiles(load_model(ROOT / "bundles" / POLICIES["bundle"]))
    for told in POLICIES["drifts"]:
        situation = Situation(True, 1, 0.0, 0, told["history"], told["made_from"], profiles)
        assert Drift(0.2, told["decay"]).drift(situation) == pytest.approx(told["drift"], abs=1e-4)
