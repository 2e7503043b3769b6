"""Graphs of all backbones and encoders, each exported once: exporting takes seconds, running them microseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
from tests.bundles import BLEND, untrained_run

from duetgen.data.store import Dataset
from duetgen.export import graphs, parity
from duetgen.recommender import Recommender
from duetgen.training.run import Run
from duetgen.wire.bundle import Bundle, open_bundle


@dataclass(frozen=True)
class Exported:
    """A model and its two graphs."""

    run: Run
    device: bytes
    generator: bytes
    device_session: onnxruntime.InferenceSession
    generator_session: onnxruntime.InferenceSession

    @property
    def model(self) -> Recommender:
        return self.run.device_model

    @property
    def nodes(self) -> dict[str, list[str]]:
        """Operators of each graph."""
        return {
            name: [node.op_type for node in onnx.load_from_string(content).graph.node]
            for name, content in (("device", self.device), ("generator", self.generator))
        }


Export = Callable[..., Exported]


@pytest.fixture(scope="session")
def export_graphs(bundle_dataset: Dataset, bundle_folder: Path, advised_folder: Path) -> Export:
    """`export_graphs(backbone, encoder, cloud)`: an untrained model, with a cloud model or without, and its graphs."""
    # The tiny bundles are of the first model.
    devices = {"sasrec": (bundle_folder / "device.onnx").read_bytes()}
    generators = {
        ("sasrec", "average", False): (bundle_folder / "generator.onnx").read_bytes(),
        ("sasrec", "average", True): (advised_folder / "generator.onnx").read_bytes(),
    }

    @cache
    def make(backbone: str, encoder: str, cloud: bool = False) -> Exported:
        # The encoder draws its weights after the backbone: with one seed, backbones are the same for all encoders.
        settings = {"cloud": BLEND} if cloud else {}
        run = untrained_run(bundle_dataset, name=backbone, history={"encoder": encoder}, **settings)
        if backbone not in devices:
            devices[backbone] = graphs.export_device(run.device_model)
        generator = generators.get((backbone, encoder, cloud)) or graphs.export_generator(run.device_model)
        return Exported(run, devices[backbone], generator, parity.session(devices[backbone]), parity.session(generator))

    return make


MODELS = [
    ("sasrec", "average"),
    ("sasrec", "gru"),
    ("gru4rec", "average"),
    ("din", "average"),
    ("sasrec", "average", True),
]


@pytest.fixture(params=MODELS, ids=lambda model: "-".join(map(str, model)))
def exported(request: pytest.FixtureRequest, export_graphs: Export) -> Exported:
    """Each backbone, each encoder, and one with a cloud model; a graph of the generator has nothing of the backbone."""
    return export_graphs(*request.param)


@pytest.fixture
def advised(advised_folder: Path) -> Bundle:
    """The tiny bundle with a cloud model, opened."""
    return open_bundle(advised_folder)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    """The tiny bundle, opened."""
    return open_bundle(bundle_folder)
