"""Makes the golden files: what a device in any language must read, compute and refuse, byte for byte.

`wire.json` holds messages, codes, encodings, trust, ids and waits; `events.bin` with `events.json` the log on disk;
`bundles/` a signed bundle of each kind; `sessions.json` what devices live through on them, step by step; and
`policies.json` when each policy asks. What is random comes from fixed seeds. Bundles and figures depend on the versions
of torch and ONNX Runtime in their last digits, so they are made once, with `python -m tests.golden.make`, and kept.
"""

from __future__ import annotations

import base64
import math
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from duetgen.device import (
    AfterSeconds,
    Always,
    DailyBudget,
    Device,
    DeviceModel,
    Drift,
    EveryEvents,
    InvalidItemsError,
    PatienceConfig,
    Policy,
    Situation,
    load_model,
)
from duetgen.device.items import item_id
from duetgen.device.log import decode_records, encode_record
from duetgen.device.patience import Patience
from duetgen.device.profiles import ItemProfiles, spread
from duetgen.errors import DuetError
from duetgen.wire.authentication import answer_key, answer_mac
from duetgen.wire.bias import BiasCodec, ItemBias
from duetgen.wire.codec import ThetaCodec
from duetgen.wire.messages import ModelsAnswer, ModelSummary, ParametersAnswer, ParametersRequest
from duetgen.wire.trust import Trust

ROOT: Final = Path(__file__).parent
DEVICE: Final = "golden-1"
TOKEN: Final = "golden-token"
NOW: Final = 1_790_000_000
"""Seconds since 1970 at which every session begins."""
HOUR_MS: Final = 3_600_000
APART: Final = 4e-6
"""Of a ranking's range, between scores that follow each other: some thirty times what float32 rounds."""
KINDS: Final[dict[str, dict[str, Any]]] = {
    "sasrec": {"name": "sasrec", "backbone": {"heads": 2}},
    "gru4rec": {"name": "gru4rec"},
    "din": {"name": "din"},
    "sasrec-int8": {"name": "sasrec", "embeddings": "int8", "backbone": {"layers": 2, "head": "scale"}},
    "gru4rec-replaced": {"name": "gru4rec", "backbone": {"layers": 2, "residual": False}},
    "din-low-rank": {"name": "din", "backbone": {"head": "low-rank", "rank": 2}},
    "sasrec-window-prefix": {"name": "sasrec", "backbone": {"heads": 2, "head": "window-prefix", "rank": 2}},
    "gru4rec-window-prefix": {"name": "gru4rec", "backbone": {"layers": 2, "head": "window-prefix"}},
}
"""The bundles by folder; `ties` is made by hand, so that scores are equal to the last bit."""


def packed(value: object) -> str:
    """As msgpack, in base64: how bytes stand in the golden files."""
    return base64.b64encode(msgspec.msgpack.encode(value)).decode()


def plain(answer: ParametersAnswer) -> dict[str, Any]:
    """An answer with its bytes in base64, as the cloud sends it in JSON."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    return found


def refused(work: Callable[[], object]) -> bool:
    """Whether something is refused."""
    try:
        work()
    except DuetError:
        return True
    return False


def sealed(answer: ParametersAnswer, device: str = DEVICE, token: str = TOKEN) -> ParametersAnswer:
    """The answer with its code."""
    return msgspec.structs.replace(answer, mac=answer_mac(answer_key(token), device, answer))


def wire() -> dict[str, Any]:
    """`wire.json`."""
    return {
        "keys": [{"token": token, "key": answer_key(token).hex()} for token in ("", "secret", TOKEN)],
        "requests": requests(),
        "answers": answers(),
        "models": models(),
        "weights": weights(),
        "bias": bias(),
        "trust": trust(),
        "ids": ids(),
        "waits": waits(),
        "spread": [
            {"vocabulary": v, "count": n, "items": spread(v, n).tolist()} for v, n in ((3, 16), (40, 16), (9, 4))
        ],
    }


def requests() -> list[dict[str, Any]]:
    """Questions, as msgpack."""
    model_id = "ab" * 32
    made = [
        ParametersRequest(model_id, DEVICE, [1, 2, 127, 128, 255, 256, 65_535, 65_536, 2**31 - 1]),
        ParametersRequest("latest", DEVICE, [7] * 16, "int8", 0, "weights"),
        ParametersRequest(model_id, "d" * 32, [3], "float32", 2**53 - 1, "bias"),
    ]
    return [{"fields": msgspec.to_builtins(request), "msgpack": packed(request)} for request in made]


def answers() -> list[dict[str, Any]]:
    """Answers with their codes: lengths and numbers on both sides of every border of msgpack."""
    numbers = [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1]
    made = [
        ParametersAnswer("ab" * 32, 7, 1_000, 70_000, "float16", b"", bytes.fromhex("003c00c0"), b"", b""),
        ParametersAnswer(
            "cd" * 32, 1, NOW * 1000, NOW * 1000 + HOUR_MS, "int8", b"\x00\x24", b"\x7f" * 300, b"\x01", b""
        ),
        ParametersAnswer("00" * 32, 2, 5, 6, "float32", b"", bytes(range(256)) * 257, bytes(256), b""),
        *(ParametersAnswer("ef" * 32, number, number, number, "float16", b"", b"", b"", b"") for number in numbers),
    ]
    devices = [("phone-1", "secret"), (DEVICE, TOKEN), ("d" * 128, "")]
    found = []
    for place, answer in enumerate(made):
        device, token = devices[place % len(devices)]
        whole = sealed(answer, device, token)
        told = plain(whole) if len(whole.theta) < 1000 else None
        found.append({"device": device, "token": token, "answer": told, "msgpack": packed(whole)})
    return found


def models() -> dict[str, Any]:
    """What is in service, as msgpack."""
    answer = ModelsAnswer(
        "ab" * 32, [ModelSummary("ab" * 32, "Filme für alle 🎬", "din", "2026-01-01T00:00:00+00:00", 70_000)]
    )
    return {"fields": msgspec.to_builtins(answer), "msgpack": packed(answer)}


def weights() -> dict[str, Any]:
    """Weights of theta in each encoding, and bytes that are none."""
    shapes = [[2, 3], [2], [1, 1, 2]]
    codec = ThetaCodec(shapes)
    rng = np.random.default_rng(1)
    thetas = [
        np.array([127 / 64, 0.5, 0, 0, 1, -2, 0, 0, 65_504, -1e-7], np.float32),
        np.array([1e-8, -6e-8, 6.1e-5, 5.96e-8, 0, -0.0, 1 / 3, 2**-24, 1, -65_504], np.float32),
        rng.normal(size=codec.size).astype(np.float32),
    ]
    cases = []
    for theta in thetas:
        for dtype in ("float32", "float16", "int8"):
            scale, content = codec.encode(theta, dtype)  # type: ignore[arg-type]
            decoded = codec.decode(scale, content, dtype)  # type: ignore[arg-type]
            cases.append(
                {
                    "dtype": dtype,
                    "scale": scale.hex(),
                    "theta": content.hex(),
                    "decoded": decoded.astype("<f4").tobytes().hex(),
                }
            )
    wrong = [
        ("float16", "", "00" * 19),
        ("float16", "", "00" * 21),
        ("float16", "0024", "00" * 20),
        ("float16", "", "007c" + "00" * 18),  # infinite
        ("float16", "", "007e" + "00" * 18),  # not a number
        ("float32", "", "0000c07f" + "00" * 36),
        ("int8", "", "00" * 10),
        ("int8", "0024" * 3, "00" * 10),
        ("int8", "007c" + "0024" * 3, "01" * 10),
    ]
    for dtype, scale, content in wrong:
        assert refused(lambda: codec.decode(bytes.fromhex(scale), bytes.fromhex(content), dtype))  # type: ignore[arg-type]  # noqa: B023
    return {
        "shapes": shapes,
        "cases": cases,
        "refused": [{"dtype": dtype, "scale": scale, "theta": content} for dtype, scale, content in wrong],
    }


def bias() -> dict[str, Any]:
    """Item biases, and bytes that are none."""
    vocabulary, most = 300_000, [100, 3]
    codec = BiasCodec(vocabulary, most)
    nothing = ItemBias(np.zeros(0, np.int64), np.zeros(0, np.float32))
    one = ItemBias(np.array([2, 130, 20_000, vocabulary - 1]), np.array([1 / 64, 255 / 64, 1, 0.3], np.float32))
    two = ItemBias(np.array([2, 3, 4]), np.array([1e-6, 2e-6, 1.5e-6], np.float32))
    rng = np.random.default_rng(2)
    many = ItemBias(
        2 + np.sort(rng.choice(vocabulary - 2, 100, replace=False)), rng.uniform(0.1, 9, 100).astype(np.float32)
    )
    cases = []
    for opinions in ([one, nothing], [nothing, two], [nothing, nothing], [many, two]):
        content = codec.encode(opinions)
        decoded = codec.decode(content)
        told = [{"items": o.items.tolist(), "values": o.values.astype("<f4").tobytes().hex()} for o in decoded]
        cases.append({"bias": content.hex(), "opinions": told})
    wrong = [
        "",
        "00",
        "0000 00",
        "80 00 00",  # a number longer than need be
        "01 0024 01",  # no value
        "01 0024 01 00 00",  # a value of 0
        "01 0024 00 01 00",  # not ascending: index 1
        "02 0024 01 00 01 01 00",
        "01 0000 01 01 00",  # a scale of 0
        "01 0080 01 01 00",  # of -0
        "01 007c 01 01 00",  # infinite
        "01 00a4 01 01 00",  # below 0
        "01 0024 dfa712 01 00",  # the index is that of the vocabulary
        "01 0024 ffffffffff01 01 00",  # six bytes
        "00 04 0024 01010101 01010101",  # four where three may be
        "65 0024 " + "01" * 202 + "00",
    ]
    for content in wrong:
        assert refused(lambda: codec.decode(bytes.fromhex(content))), content  # noqa: B023
    return {"vocabulary": vocabulary, "most": most, "cases": cases, "refused": [c.replace(" ", "") for c in wrong]}


def trust() -> dict[str, Any]:
    """A curve, and what it gives."""
    curve = Trust([0, 1, 2, 5, 10, 100], [1.0, 1.0, 0.9, 0.7, 0.25, 0.0], [[1.5, 1.25, 1, 0.5, 0.1, 0.1]])
    ages = [0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 55, 99, 100, 101, 100_000]
    return {
        "trust": msgspec.to_builtins(curve),
        "at": [{"age": age, "weights": curve.weights_at(age), "opinions": curve.opinions_at(age)} for age in ages],
    }


def ids() -> dict[str, Any]:
    """What an id is, of values that JSON has."""
    given: list[Any] = ["item-1", "", "7", "07", 7, 0, -3, 2**53 - 1, 1.5, True, None, ["7"], "Zoë 🎬", " a ", 1e300]
    told = []
    for value in given:
        try:
            told.append({"value": value, "id": item_id(value)})
        except InvalidItemsError:
            told.append({"value": value})
    return {"values": told, "refused_texts_utf16": ["d800", "0061dc00"]}


def waits() -> list[dict[str, Any]]:
    """Waits after failures where chance always gives the middle of its range."""

    class Middle(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return (a + b) / 2

    patience, found, now = Patience(PatienceConfig(), Middle()), [], 1000.0
    for retry_after in (None, None, None, 7, None, None, None, None, None, None, None, None, 1000, "well", None):
        if isinstance(retry_after, str):
            patience.succeeded()
        else:
            patience.failed(now, retry_after)
        told = {
            "now": now,
            "wait": patience.wait(now),
            "insisted": patience.wait(now, True),
            "circuit": patience.circuit(now),
        }
        found.append({"after": retry_after, **told, "then": patience.circuit(now + 10_000)})
        now += 10.0
    return found


def records() -> tuple[bytes, dict[str, Any]]:
    """`events.bin` and what it holds: whole records between damaged ones."""
    items = ["item-1", "Zoë 🎬", "", "7", "item-5", "item-6", "x" * 512]
    parts = [encode_record(number, item) for number, item in enumerate(items, start=1)]
    parts[4] = parts[4][:-1] + b"?"
    content = b"".join(parts) + parts[0] + encode_record(9, "item-9") + encode_record(10, "torn")[:-2]
    found, whole = decode_records(content)
    assert not whole
    return content, {"records": [list(record) for record in found], "whole": whole}


class Cloud:
    """In a device's place for one: gives the answer that was put there."""

    traffic = None

    def __init__(self) -> None:
        self.answer: ParametersAnswer | None = None
        self.make: Callable[[ParametersRequest], ParametersAnswer] | None = None

    def parameters(self, request: ParametersRequest, limit: int) -> ParametersAnswer:
        answer = self.make(request) if self.make else self.answer
        assert answer is not None
        return answer

    def models(self, device: str) -> ModelsAnswer:
        raise AssertionError

    def file(self, *arguments: object) -> None:
        raise AssertionError

    def close(self) -> None:
        pass


def answer_for(model: DeviceModel, sequence: int, seed: int, now: float, dtype: str = "float16") -> ParametersAnswer:
    """An answer of random parts within the bundle's bounds."""
    rng = np.random.default_rng(seed)
    theta = (rng.uniform(-0.9, 0.9, model.size) * model.bounds_P).astype(np.float32)
    scale, weights = model.codec.encode(theta, dtype)  # type: ignore[arg-type]
    content = b""
    if model.manifest.opinions:
        opinions = []
        for opinion in model.manifest.opinions:
            count = min(opinion.items, model.vocabulary - 2)
            items = 2 + np.sort(rng.choice(model.vocabulary - 2, count, replace=False))
            opinions.append(ItemBias(items, (rng.uniform(0.1, 0.9, count) * opinion.bound).astype(np.float32)))
        content = model.bias_codec.encode(opinions)
    issued = int(now * 1000)
    return sealed(
        ParametersAnswer(model.model_id, sequence, issued, issued + HOUR_MS, dtype, scale, weights, content, b"")  # type: ignore[arg-type]
    )


class Player:
    """Lives the steps of a session and writes down what it sees."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.now, self.cloud, self.steps = float(NOW), Cloud(), list[dict[str, Any]]()
        self.options = {"met": None, "encoding": "float16", "parts": "both"} | options
        self.device = Device(
            root, cloud=self.cloud, token=TOKEN, device_id=DEVICE, background=False, clock=lambda: self.now, **options
        )

    def observe(self, *items: str) -> None:
        self.device.observe(*items)
        self.steps.append({"do": "observe", "items": list(items)})

    def clock(self, seconds: float) -> None:
        self.now += seconds
        self.steps.append({"do": "clock", "now": self.now})

    def answer(self, answer: ParametersAnswer) -> None:
        self.cloud.answer = answer
        before = dict(self.device.status().refused)
        good = self.device.refresh(wait=True)
        after = self.device.status().refused
        gives = "accepted" if good else next(name for name in after if after[name] != before.get(name))
        self.steps.append({"do": "answer", "answer": plain(answer), "gives": gives})

    def recommend(self, k: int, met: str | None = None) -> None:
        ranking = list(self.device.recommend(k, met=met))  # type: ignore[arg-type]
        self.steps.append({"do": "recommend", "k": k, "met": met, "ranking": [list(pair) for pair in ranking]})

    def rank(self, candidates: Sequence[str | int], met: str | None = None) -> None:
        ranking = list(self.device.rank(candidates, met=met))  # type: ignore[arg-type]
        told = [list(pair) for pair in ranking]
        self.steps.append({"do": "rank", "candidates": list(candidates), "met": met, "ranking": told})

    def status(self) -> None:
        status = self.device.status()
        told: dict[str, Any] = {
            "source": status.source,
            "events": status.events,
            "unknown_events": status.unknown_events,
        }
        told |= {"unknown_candidates": status.unknown_candidates, "refused": status.refused}
        if status.theta is not None:
            aged = ("sequence", "age_events", "weights_bytes", "weights_trust", "bias_bytes", "opinions_trust")
            told["theta"] = {name: getattr(status.theta, name) for name in aged}
        self.steps.append({"do": "status", "status": told})

    def forget(self) -> None:
        self.device.forget()
        self.steps.append({"do": "forget"})


def session(root: Path, **options: Any) -> dict[str, Any]:
    """A session whose scores lie so far apart that no rounding changes an order."""
    for seed in range(100, 200, 2):
        found = live(root, seed, **options)
        if told_apart(found) > APART:
            return found
    raise AssertionError(f"no session on {root.name} has scores that lie apart")


def live(root: Path, seed: int, **options: Any) -> dict[str, Any]:
    """What a device lives through on a bundle: fresh and aged, with two thetas, with good answers and bad ones."""
    model = load_model(root)
    names = model.ids
    play = Player(root, **options)
    every = [*names[2::2], "nobody's"]
    play.rank(every[::2])
    play.recommend(5)
    play.observe(names[3])
    play.recommend(10)
    play.rank(every, "show")
    first = answer_for(model, 1, seed, play.now)
    play.answer(first)
    play.recommend(10)
    play.rank(every, "show")
    play.status()
    play.observe(names[7], "nobody's", names[2], names[7])
    play.recommend(10)
    play.rank(every, "show")
    play.rank([names[2], "nobody's", names[4], names[2]], "hide")
    play.status()
    play.answer(msgspec.structs.replace(first, theta=first.theta[:-1] + b"\x01"))
    play.answer(answer_for(model, 1, seed + 1, play.now))
    play.answer(sealed(msgspec.structs.replace(first, model_id="ab" * 32, sequence=5)))
    play.answer(sealed(msgspec.structs.replace(first, theta=first.theta[:-2], sequence=5)))
    play.answer(sealed(msgspec.structs.replace(first, theta=b"\x00\x7c" + first.theta[2:], sequence=5)))
    play.answer(sealed(msgspec.structs.replace(first, theta=b"\xff\x7b" + first.theta[2:], sequence=5)))
    play.answer(sealed(msgspec.structs.replace(first, issued=first.issued + 301_000, sequence=5)))
    play.answer(sealed(msgspec.structs.replace(first, theta=b"", bias=b"", sequence=5)))
    play.clock(3600 + 7 * 86_400 - 1)
    play.recommend(5)
    play.clock(2)
    play.answer(sealed(msgspec.structs.replace(first, sequence=5)))
    play.recommend(5)
    play.status()
    play.answer(answer_for(model, 1, seed + 1, play.now))
    play.recommend(10)
    play.rank(every, "show")
    play.observe(*[names[2 + (7 * step) % (len(names) - 2)] for step in range(13)])
    play.recommend(20)
    play.rank(every, "show")
    play.status()
    play.observe(*[names[2 + (5 * step) % (len(names) - 2)] for step in range(60)])
    play.recommend(10, "show")
    play.forget()
    play.recommend(5)
    play.status()
    play.device.close()
    return {"bundle": root.name, "options": play.options, "steps": play.steps}


def told_apart(session: dict[str, Any]) -> float:
    """The least difference between different scores that follow each other in a ranking, as a share of its range."""
    least = math.inf
    for step in session["steps"]:
        scores = [score for _, score in step.get("ranking", ()) if score > -1e30]
        steps = [(a - b) / (scores[0] - scores[-1]) for a, b in pairwise(scores) if a != b]
        least = min([least, *steps])
    return least


def policies(root: Path) -> dict[str, Any]:
    """When each policy asks, one event a minute, and how far behaviour moved."""
    model = load_model(root)
    names, rng = model.ids, np.random.default_rng(4)
    events = [names[3]] * 4 + [names[item] for item in rng.integers(2, model.vocabulary, 14).tolist()]
    tried: list[tuple[dict[str, Any], Policy]] = [
        ({"kind": "Always"}, Always()),
        ({"kind": "EveryEvents", "n": 4}, EveryEvents(4)),
        ({"kind": "AfterSeconds", "seconds": 150}, AfterSeconds(150)),
        ({"kind": "Drift", "threshold": 0.5, "decay": 0.9}, Drift(0.5)),
        ({"kind": "Drift", "threshold": 1.0, "decay": 0.5}, Drift(1.0, 0.5)),
        ({"kind": "DailyBudget", "n": 3, "policy": {"kind": "EveryEvents", "n": 2}}, DailyBudget(EveryEvents(2), 3)),
    ]
    found = []
    # Begins five minutes before midnight, UTC.
    start = NOW - NOW % 86_400 + 86_400 - 5 * 60
    for told, policy in tried:
        play, now = Cloud(), float(start)
        play.make = lambda request: answer_for(model, int(now), 21, now)  # noqa: B023
        device = Device(
            root,
            cloud=play,
            token=TOKEN,
            device_id=DEVICE,
            policy=policy,
            background=False,
            clock=lambda: now,  # noqa: B023
        )
        asked = []
        for number, item in enumerate(events, start=1):
            now += 60
            device.observe(item)
            if device.keep_up():
                asked.append(number)
        device.close()
        found.append({"policy": told, "asks": asked})
    profiles = ItemProfiles(model)
    drifts = []
    for decay in (0.9, 0.5, 1.0):
        for size in (1, 3, 8):
            history, made_from = (rng.integers(1, model.vocabulary, size).tolist() for _ in range(2))
            situation = Situation(True, 1, 0.0, 0, history, made_from, profiles)
            drifts.append(
                {
                    "history": history,
                    "made_from": made_from,
                    "decay": decay,
                    "drift": Drift(0.2, decay).drift(situation),
                }
            )
    return {"bundle": root.name, "start": start, "events": events, "answer_seed": 21, "asks": found, "drifts": drifts}


def make_bundle(root: Path, dataset: Any, kind: dict[str, Any]) -> None:
    """A bundle of an untrained model, without the generator's graph, which no device has."""
    from tests.bundles import tiny_bundle

    cloud = {"kind": "blend", "width": 8, "items": 6, "neighbours": 4}
    settings = {"backbone": {"width": 8, "window": 5} | kind.get("backbone", {}), "history": {"length": 8, "width": 8}}
    rest = {name: value for name, value in kind.items() if name != "backbone"}
    tiny_bundle(root, dataset, seed=7, cloud=cloud, **settings, **rest)
    (root / "generator.onnx").unlink()


def make_ties(root: Path) -> None:
    """A bundle whose scores are a table's entries and theta's one value: most of them equal."""
    from onnx import TensorProto, helper, numpy_helper

    from duetgen.wire.bundle import Canary, Items, LayoutEntry
    from tests import signing

    table = np.array([0, 0, 1, 2, 2, 3, 2, 3, 1, 2, 0, -1, 2, 2], dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "candidates"], ["own"]),
            helper.make_node("Add", ["own", "theta"], ["scores"]),
        ],
        "ties",
        [
            helper.make_tensor_value_info("theta", TensorProto.FLOAT, ["B", 1]),
            helper.make_tensor_value_info("history", TensorProto.INT64, ["B", "L"]),
            helper.make_tensor_value_info("candidates", TensorProto.INT64, ["B", "C"]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", "C"])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    root.mkdir()
    candidates = list(range(2, len(table)))
    scores = table[2:].tolist()
    contents = {
        "device.onnx": model.SerializeToString(),
        "generator.onnx": b"",
        "items.json": msgspec.json.encode(Items(["", "", *map(str, candidates)], [])),
        "canary.json": msgspec.json.encode(Canary([2], candidates, [0.5], [s + 0.5 for s in scores], scores)),
    }
    for name, content in contents.items():
        (root / name).write_bytes(content)
    signing.describe(
        root,
        window=2,
        history=3,
        vocabulary=len(table),
        layout=[LayoutEntry("shift", [1], 1.0)],
        created="2026-01-01T00:00:00+00:00",
        met="show",
    )
    (root / "generator.onnx").unlink()


def make(root: Path) -> None:
    """Write all of it."""
    from duetgen.data.prepare import PrepareConfig, prepare
    from duetgen.data.sources.synthetic import SyntheticConfig
    from duetgen.data.store import Dataset

    write(root / "wire.json", wire())
    content, told = records()
    (root / "events.bin").write_bytes(content)
    write(root / "events.json", told)
    bundles = root / "bundles"
    shutil.rmtree(bundles, ignore_errors=True)
    bundles.mkdir()
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "dataset"
        prepare(None, folder, PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=60, items=60)))
        for name, kind in KINDS.items():
            make_bundle(bundles / name, Dataset(folder), kind)
    make_ties(bundles / "ties")
    sessions = [session(bundles / name) for name in (*KINDS, "ties")]
    sessions.append(session(bundles / "sasrec", met="show"))
    write(root / "sessions.json", {"device": DEVICE, "token": TOKEN, "now": NOW, "sessions": sessions})
    write(root / "policies.json", policies(bundles / "sasrec"))


def write(path: Path, value: object) -> None:
    """As JSON."""
    path.write_bytes(formatted(value))


def formatted(value: object) -> bytes:
    """As it lies on disk: a line for each object of a list."""
    return b",\n{".join(msgspec.json.encode(value).split(b",{")) + b"\n"


if __name__ == "__main__":
    make(ROOT)
