"""A bundle of any model, from export over a served version to a device: as torch computes, with theta and without."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.e2e.test_duet import Cloud
from torch import nn

import duetgen
from duetgen.cloud.config import ServiceConfig
from duetgen.cloud.engine import Engine
from duetgen.cloud.errors import InvalidHistoryError, NothingToServeError
from duetgen.cloud.startup import check_sources
from duetgen.core import Duet, GeneratorConfig, PooledEncoder
from duetgen.device import (
    AfterSeconds,
    Always,
    DailyBudget,
    Device,
    DeviceConfig,
    Drift,
    EveryEvents,
    PersonalModel,
    SampleModel,
    load_model,
)
from duetgen.device.config import DeviceOptions
from duetgen.device.errors import InvalidDeviceConfigError
from duetgen.device.personal_model import cast, convert
from duetgen.device.sample_log import SampleLog
from duetgen.device.state import StateFolder
from duetgen.export import export_model
from duetgen.export.errors import NotExportableError
from duetgen.wire.bundle import Bundle, decode_manifest
from duetgen.wire.errors import InvalidBundleError, InvalidSampleError
from duetgen.wire.samples import DType, SampleSpec, TensorSpec

KEY = Ed25519PrivateKey.generate()


def sensors() -> Duet:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    encoder = PooledEncoder(nn.Linear(3, 8), 8)
    config = GeneratorConfig(decoder_scale=0.2)
    return duetgen.personalise(model, {"0": "full", "1": "full", "5": "scale"}, encoder=encoder, generator=config)


@pytest.fixture(scope="module")
def duet() -> Duet:
    return sensors().eval()


@pytest.fixture(scope="module")
def histories() -> Any:
    return np.random.default_rng(0).normal(size=(8, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(duet: Duet, histories: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("any") / "bundle"
    return export_model(duet, out, key=KEY, name="sensors", inputs={"x": torch.randn(3, 2, 16)}, histories=histories)


@pytest.fixture(scope="module")
def cloud(bundle: Bundle) -> Iterator[Cloud]:
    served = Cloud(bundle.root, "--open")
    yield served
    served.stop()


def test_the_manifest_types_what_the_graphs_read(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert msgspec.to_builtins(manifest.model) == {
        "history": {"dtype": "float32", "shape": [3], "scale": 1.0},
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 2, 16]}],
        "output": {"name": "output", "dtype": "float32", "shape": ["N", 3]},
    }
    assert set(manifest.files) == {"device.onnx", "generator.onnx", "canary.json"}
    assert (manifest.ranks, manifest.size, manifest.history) == (False, (4 * 2 * 3 + 4) + (4 + 4) + 2 * 3, 5)
    assert manifest.metrics["parity_difference"] < 1e-5


@pytest.mark.parametrize(("encoding", "within"), [("float32", 1e-5), ("float16", 1e-3), ("int8", 0.02)])
def test_a_device_runs_with_what_the_cloud_makes_of_its_samples(
    bundle: Bundle, cloud: Cloud, duet: Duet, histories: Any, encoding: Any, within: float
) -> None:
    x = torch.randn(2, 2, 16)
    with PersonalModel(bundle.root, cloud=cloud.url, policy=Always(), encoding=encoding, background=False) as device:
        plain = device.run({"x": x.numpy()})
        device.observe(*histories[0])
        assert device.refresh(wait=True)
        personal = device.run({"x": x.numpy()})
        assert device.status().source == "theta"
    with torch.no_grad():
        theta = duet.generate(torch.from_numpy(histories[:1]))
        np.testing.assert_allclose(plain, duet.personal(None, x), atol=1e-5)
        np.testing.assert_allclose(personal, duet.personal(theta[0], x), atol=within)
    assert np.abs(personal - plain).max() > 2 * within


def test_samples_and_theta_outlive_a_restart_and_are_forgotten(
    bundle: Bundle, cloud: Cloud, histories: Any, tmp_path: Path
) -> None:
    options = DeviceConfig(cloud=cloud.url, state=tmp_path, background=False)
    with PersonalModel(bundle.root, options) as device:
        device.observe(*histories[1])
        assert device.refresh(wait=True)
        personal = device.run({"x": np.ones((1, 2, 16))})
    with PersonalModel(bundle.root, options) as again:
        assert (len(again._log), again._log.count) == (5, 5)
        assert np.array_equal(again.run({"x": np.ones((1, 2, 16))}), personal)
        again.forget()
        assert not np.array_equal(again.run({"x": np.ones((1, 2, 16))}), personal)
    assert not (tmp_path / "samples.log").exists()


@pytest.mark.parametrize(
    ("policy", "asked"), [(EveryEvents(3), 3), (DailyBudget(Always(), 2), 2), (AfterSeconds(25.0), 3), (Always(), 7)]
)
def test_a_device_asks_when_its_policy_says_so(
    bundle: Bundle, cloud: Cloud, histories: Any, policy: Any, asked: int
) -> None:
    now = [0.0]
    options = DeviceConfig(cloud=cloud.url, policy=policy, background=False, event_clock=lambda: now[0])
    with PersonalModel(bundle.root, options) as device:
        for sample in [*histories[2], *histories[3][:2]]:  # seven, ten seconds apart
            now[0] += 10.0
            device.observe(sample)
            device.keep_up()
        assert device.status().requests == asked


def test_histories_of_any_length_are_generated_together(bundle: Bundle, duet: Duet, histories: Any) -> None:
    engine = Engine(bundle)
    some = [engine.history(histories[row, : row + 1].tobytes()) for row in range(3)]
    together = engine.thetas(some)
    for row in range(3):
        with torch.no_grad():
            alone = duet.generate(torch.from_numpy(histories[row : row + 1, : row + 1]))[0]
        found = np.frombuffer(together.encode(row, "float32").theta, np.float32)
        np.testing.assert_allclose(found, alone, atol=1e-5)


@pytest.mark.parametrize("history", [[1, 2], b"", b"123", np.full(3, np.nan, np.float32).tobytes()])
def test_a_history_of_another_kind_is_refused(bundle: Bundle, history: Any) -> None:
    with pytest.raises(InvalidHistoryError):
        Engine(bundle).history(history)


def test_inputs_that_are_not_finite_cost_no_theta(bundle: Bundle, cloud: Cloud, histories: Any) -> None:
    inputs = {"x": np.ones((2, 2, 16), np.float32)}
    with PersonalModel(bundle.root, cloud=cloud.url, background=False) as device:
        device.observe(*histories[0])
        assert device.refresh(wait=True)
        personal = device.run(inputs)
        inputs["x"][1, 0, 0] = np.nan
        found = device.run(inputs)
        np.testing.assert_allclose(found[0], personal[0], atol=1e-6)
        assert np.isnan(found[1]).any()
        assert device.status().source == "theta"


@pytest.mark.parametrize(
    ("value", "dtype"), [(2**32 + 5, "int32"), (-1, "uint8"), (256, "uint8"), (1e39, "float32"), (2**63, "int64")]
)
def test_numbers_beyond_their_type_are_refused_and_not_another_number(value: float, dtype: str) -> None:
    kind = np.dtype(dtype).kind
    with pytest.raises(InvalidSampleError, match="the input x holds numbers beyond"):
        cast("x", np.array([1, value], dtype=None if kind == "f" else "u8" if value > 2**62 else "i8"), np.dtype(dtype))


def test_whole_numbers_are_cast_where_they_fit() -> None:
    assert cast("x", np.array([3, -7], "i8"), np.dtype("i4")).tolist() == [3, -7]
    assert cast("x", np.array(5, "i8"), np.dtype("i4")).shape == ()
    assert np.isinf(cast("x", np.array([np.inf, 1.0]), np.dtype("f4"))[0])


def test_numbers_are_taken_in_any_type_that_they_fit(bundle: Bundle) -> None:
    with PersonalModel(bundle.root) as device:
        device.observe(torch.ones(3), np.ones(3, np.float16), [1, 2, 3], np.ones(3, bool))
        assert len(device._log) == 4
        with pytest.raises(InvalidSampleError, match="requires grad"):
            device.observe(torch.ones(3, requires_grad=True))  # type: ignore[arg-type]
        model = device.model
        specs = {name: TensorSpec(name, name, ["N"]) for name in get_args(DType)}
    model = copy.copy(model)
    model.spec = msgspec.structs.replace(model.spec, inputs=list(specs.values()))
    found = convert(model, {"float32": [1, 2], "int64": [1, 2], "int32": [1, 2], "uint8": [1, 255], "bool": [1, 0]})
    assert [array.dtype.name for array in found.values()] == list(specs)
    assert (found["uint8"].tolist(), found["bool"].tolist()) == ([1, 255], [True, False])
    for name, value in (("uint8", [256]), ("uint8", [-1]), ("bool", [2]), ("int64", [1.0]), ("bool", ["a"])):
        with pytest.raises(InvalidSampleError):
            convert(model, {name: value})


OTHERS = [
    SampleSpec("float32", [3, 1]),
    SampleSpec("int32", [3]),
    SampleSpec("uint8", [12]),
    SampleSpec("float32", [3], 0.5),
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_samples_of_another_kind_are_not_taken_for_those_of_this_model(other: SampleSpec, tmp_path: Path) -> None:
    sample = SampleSpec("float32", [3])
    found = []
    for kind in (sample, sample, other):
        state = StateFolder(tmp_path)
        log = SampleLog(state, kind, 5)
        found.append(len(log))
        if len(found) == 1:
            log.append([sample.pack([1, 2, 3])])
        state.release()
    assert found == [0, 1, 0]


def test_a_version_that_reads_more_gets_more_once_it_is_there(bundle: Bundle, histories: Any) -> None:
    model = load_model(bundle.root, None, SampleModel)
    longer = copy.copy(model)
    longer.history = model.history + 3
    with PersonalModel(model) as device:
        many = [histories[0][0]] * longer.history
        device.observe(*many)
        device._runtimes.use(device._runtimes.make(longer))
        assert len(device._log) == model.history
        device.observe(*many)
        assert len(device._log) == longer.history
        device._runtimes.use(device._runtimes.make(model))
        assert len(device._log) == longer.history


def test_ids_that_a_version_does_not_have_are_not_sent(bundle: Bundle) -> None:
    model = copy.copy(load_model(bundle.root, None, SampleModel))
    model.spec, model.vocabulary = msgspec.structs.replace(model.spec, history=SampleSpec("ids")), 10
    ids = [SampleSpec("ids").pack(one) for one in (3, 19, 9, 10)]
    assert model.asked(ids) == [3, 9]
    assert model.asked(ids[1:2]) == []


def test_what_a_device_is_given_wrongly_is_refused(bundle: Bundle) -> None:
    with PersonalModel(bundle.root) as device:
        for sample in ([1.0, 2.0], [1.0, 2.0, np.nan], "no", [[1.0], [2.0, 3.0]]):
            with pytest.raises(InvalidSampleError):
                device.observe(sample)
        inputs: list[Any] = [
            {},
            {"y": np.ones((1, 2, 16))},
            {"x": np.ones((1, 3, 16))},
            {"x": np.ones((1, 2, 16)) + 1j},
            {"x": np.full((1, 2, 16), 1e39)},
            {"x": [[1.0], [2.0, 3.0]]},
            {"x": torch.ones(1, 2, 16, requires_grad=True)},
            {1: np.ones((1, 2, 16))},
            [np.ones((1, 2, 16))],
            None,
        ]
        for given in inputs:
            with pytest.raises(InvalidSampleError):
                device.run(given)
    options: list[DeviceOptions] = [{"policy": Drift()}, {"parts": "bias"}, {"met": "hide"}]
    for option in options:
        with pytest.raises(InvalidDeviceConfigError, match=r"of items|compares items"):
            PersonalModel(bundle.root, **option)
    with pytest.raises(InvalidBundleError, match="ranks no items") as refusal:
        Device(bundle.root)
    assert "duetgen.device.PersonalModel" in refusal.value.hint
    assert isinstance(load_model(bundle.root), SampleModel)


def test_a_manifest_that_says_what_its_kind_cannot_is_refused(bundle: Bundle) -> None:
    for change in ({"window": 5}, {"vocabulary": 9}):
        content = msgspec.json.encode(msgspec.structs.replace(bundle.manifest, **change))
        with pytest.raises(InvalidBundleError, match="says otherwise"):
            decode_manifest(content, "manifest")
    content = msgspec.json.encode(msgspec.structs.replace(bundle.manifest, history=4096 * 16))
    with pytest.raises(InvalidBundleError):
        decode_manifest(content, "manifest")


def test_the_demo_page_cannot_show_what_ranks_no_items(bundle: Bundle) -> None:
    sources = (str(bundle.root),)
    assert check_sources(ServiceConfig(sources=sources))[0] == [bundle.manifest]
    with pytest.raises(NothingToServeError, match="sensors ranks no items"):
        check_sources(ServiceConfig(sources=sources, demo=True))


def test_what_makes_no_bundle_is_refused(duet: Duet, histories: Any, tmp_path: Path) -> None:
    whole = {"x": torch.randn(3, 2, 16)}
    for inputs, given in ((whole, []), ({"x": torch.randn(1, 2, 16)}, histories)):
        with pytest.raises(NotExportableError):
            export_model(duet, tmp_path / "out", key=KEY, name="no", inputs=inputs, histories=given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"output": lambda found: (found, found)}, "the model gives a tuple"),
        ({"output": lambda found: found.argmax(1)}, r"the model gives a tensor of torch\.int64"),
        ({"inputs": [torch.randn(3, 2, 16)]}, "inputs is a list"),
        ({"inputs": {"x": np.ones((3, 2, 16))}}, "the input x is a ndarray"),
        *(({"inputs": {name: torch.randn(3, 2, 16)}}, "an input is called") for name in ("my x", "theta", "output", 1)),
        ({"dynamic": {"y": {0: "N"}}}, "dynamic names y, which is no input"),
        ({"dynamic": {"x": {3: "N"}}}, "dynamic says"),
        ({"dynamic": {"x": [0]}}, "dynamic says"),
        ({"histories": None}, "there are no histories"),
        ({"samples": "floats"}, "samples is 'floats'"),
        ({"samples": "ids", "histories": [[1, 2]]}, "ids have no vocabulary"),
        *(({"length": length}, "length is") for length in (0, -1, "5", 1.5)),
        *(({"scale": scale}, "scale is") for scale in (0, float("nan"), "a")),
        ({"inputs": {}}, "there are 0 inputs"),
        ({"inputs": {f"x{number}": torch.randn(3, 2) for number in range(33)}}, "there are 33 inputs"),
        ({"inputs": {"x": torch.ones(3, 2, dtype=torch.int16)}}, r"the input x is torch\.int16"),
        ({"inputs": {"x": torch.ones(3, *[1] * 8)}}, "of 9 dimensions"),
        *(({"dynamic": {"x": {0: name}}}, "dynamic says") for name in ("batch size", "", 3, "N" * 65)),
        ({"inputs": {"x": torch.tensor(1.0)}}, r"the example of the input x is of \[\]"),
        ({"dynamic": {"x": {0: "N", 1: "C"}}, "inputs": {"x": torch.randn(3, 1, 16)}}, "fewer than two rows"),
        ({"inputs": {"x": torch.randn(3, 2), "y": torch.randn(2, 2)}}, "has N as 3 and, in the input y, as 2"),
        ({"vocabulary": 9}, "float32 has a vocabulary"),
        ({"length": 4097}, "a history has 4097 samples"),
        ({"key": None}, "key is a NoneType"),
        ({"name": "x" * 300}, "name is"),
        ({"metrics": {"auc": float("nan")}}, "a metric is no finite number"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_code(
    duet: Duet, histories: Any, tmp_path: Path, change: dict[str, Any], cause: str
) -> None:
    given = {"key": KEY, "name": "no", "inputs": {"x": torch.randn(3, 2, 16)}, "histories": histories} | change
    with pytest.raises(NotExportableError, match=cause):
        export_model(duet, tmp_path / "out", **given)
    assert not list(tmp_path.iterdir())


class Stateful(nn.Module):
    """A GRU over windows [N, T, F], with its state [1, N, H] and a temperature that has no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, state: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
        found, last = self.gru(x, state)
        return torch.cat([self.head(found[:, -1]) / temperature, last[0]], dim=1)


def test_inputs_may_have_rows_in_any_dimension_or_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    duet = duetgen.personalise(Stateful(), "head", kind="full", encoder=PooledEncoder(nn.Linear(3, 8), 8)).eval()
    inputs = {"x": torch.randn(3, 6, 3), "state": torch.randn(1, 3, 4), "temperature": torch.tensor(2.0)}
    rows = {"x": {0: "N", 1: "T"}, "state": {1: "N"}}
    bundle = export_model(
        duet, tmp_path / "b", key=KEY, name="gru", inputs=inputs, histories=np.ones((2, 3, 3)), dynamic=rows
    )
    assert [spec.shape for spec in bundle.manifest.model.inputs] == [["N", "T", 3], [1, "N", 4], []]  # type: ignore[union-attr]
    x, state = torch.randn(5, 2, 3), torch.randn(1, 5, 4)
    with PersonalModel(bundle.root) as device, torch.no_grad():
        found = device.run({"x": x.numpy(), "state": state.numpy(), "temperature": 0.5})
        np.testing.assert_allclose(found, duet.personal(None, x, state, torch.tensor(0.5)), atol=1e-5)
        with pytest.raises(InvalidSampleError, match="the input state"):
            device.run({"x": x.numpy(), "state": state[:, :4].numpy(), "temperature": 0.5})


class Keywords(nn.Module):
    """Takes its inputs by name alone, and can do without one in between; one is called as exporters call a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(
        self, *, x: torch.Tensor, mask: torch.Tensor | None = None, linear: torch.Tensor | None = None
    ) -> torch.Tensor:
        found = self.first(x) if mask is None else self.first(x) * mask
        found = found if linear is None else found + 10 * self.second(linear)
        output: torch.Tensor = self.head(found)
        return output


def test_inputs_are_told_by_the_names_of_forward_in_any_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    duet = duetgen.personalise(Keywords(), "first", kind="full", encoder=PooledEncoder(nn.Linear(3, 8), 8)).eval()
    inputs = {"linear": torch.randn(3, 2), "x": torch.randn(3, 2)}
    bundle = export_model(duet, tmp_path / "b", key=KEY, name="no", inputs=inputs, histories=np.ones((2, 3, 3)))
    assert [spec.name for spec in bundle.manifest.model.inputs] == ["linear", "x"]  # type: ignore[union-attr]
    with PersonalModel(bundle.root) as device, torch.no_grad():
        found = device.run({name: tensor.numpy() for name, tensor in inputs.items()})
        np.testing.assert_allclose(found, duet.personal(None, **inputs), atol=1e-5)


def test_a_branch_on_values_is_refused_with_its_line_and_no_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Branching(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum() > 0 else x  # type: ignore[no-any-return]

    duet = duetgen.personalise(Branching(nn.Linear(2, 2)), "0", encoder=PooledEncoder(nn.Linear(3, 8), 8)).eval()
    with pytest.raises(NotExportableError, match=r"data-dependent.*test_model\.py.*line \d+, in forward"):
        export_model(
            duet, tmp_path / "b", key=KEY, name="no", inputs={"x": torch.ones(3, 2)}, histories=np.ones((2, 3, 3))
        )
    assert capfd.readouterr().err == ""


def test_an_input_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    duet = duetgen.personalise(Stateful(), "head", encoder=PooledEncoder(nn.Linear(3, 8), 8)).eval()
    inputs = {"x": torch.randn(3, 6, 3), "temperature": torch.ones(3, 1), "more": torch.ones(3, 1)}
    with pytest.raises(NotExportableError, match="the input temperature is number 2, and number 3 of"):
        export_model(duet, tmp_path / "b", key=KEY, name="no", inputs=inputs, histories=np.ones((2, 3, 3)))


class Padded(nn.Module):
    """A transformer encoder over padded sequences, whose padding counts in the mean."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(x, src_key_padding_mask=padding).mean(1))
        return found


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_model_that_is_another_where_theta_is_0_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    duet = duetgen.personalise(Padded(), "linear1", encoder=PooledEncoder(nn.Linear(3, 8), 8)).eval()
    inputs = {"x": torch.randn(3, 5, 8), "padding": torch.arange(5) >= torch.tensor([[5], [3], [2]])}
    with pytest.raises(NotExportableError, match="with theta = 0 the output differs") as refusal:
        export_model(duet, tmp_path / "b", key=KEY, name="no", inputs=inputs, histories=np.ones((2, 3, 3)))
    assert "set_fastpath_enabled" in refusal.value.hint


def test_pictures_are_given_as_bytes(duet: Duet, histories: Any, tmp_path: Path) -> None:
    inputs = {"x": torch.randn(3, 2, 16)}
    with pytest.raises(InvalidSampleError, match="a sample is a ndarray"):
        export_model(duet, tmp_path / "out", key=KEY, name="no", inputs=inputs, histories=histories, samples="image")
    with pytest.raises(NotExportableError, match="duet is a Personal"):
        export_model(duet.personal, tmp_path / "out", key=KEY, name="no", inputs=inputs, histories=histories)  # type: ignore[arg-type]


def test_images_travel_as_bytes() -> None:
    spec = SampleSpec("uint8", [2, 2], 1 / 255)
    packed = [spec.pack([[0, 255], [51, 1]]), spec.pack(np.zeros((2, 2), np.uint8))]
    assert packed[0] == bytes([0, 255, 51, 1])
    read = spec.read(spec.join(packed), 1, 0)
    assert read.tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    np.testing.assert_allclose(spec.read(packed[0], 4, 0), [[[0, 1], [1 / 5, 1 / 255]]], rtol=1e-6)
    for wrong in ([[0, 256], [0, 0]], [[0.5, 0], [0, 0]], [[-1, 0], [0, 0]]):
        with pytest.raises(InvalidSampleError):
            spec.pack(wrong)
