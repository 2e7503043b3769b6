"""Graphs of all backbones and encoders, each exported once: exporting takes seconds, running them microseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

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


Export = Callable[[str], Exported]


MODELS: Final[dict[str, dict[str, Any]]] = {
    "sasrec": {},
    "sasrec with a cloud model": {"cloud": BLEND},
    "sasrec with layers, heads, a theta that replaces, averages of the shared embedding, no adapter": {
        "backbone": {"layers": 2, "heads": 4, "residual": False},
        "history": {"share_embedding": True},
        "generator": {"candidates": 1},
    },
    "gru4rec with layers, a GRU on the shared embedding, three candidate parameter sets": {
        "name": "gru4rec",
        "backbone": {"layers": 2},
        "history": {"encoder": "gru", "share_embedding": True},
        "generator": {"candidates": 3},
    },
    "din": {"name": "din"},
}
PLAIN, ADVISED, REPLACING, RECURRENT, DIN = MODELS


@pytest.fixture(scope="session")
def export_graphs(bundle_dataset: Dataset, bundle_folder: Path, advised_folder: Path) -> Export:
    """`export_graphs(name)`: one of `MODELS`, untrained, and its graphs."""
    made = {PLAIN: bundle_folder, ADVISED: advised_folder}

    @cache
    def make(name: str) -> Exported:
        run = untrained_run(bundle_dataset, **MODELS[name])
        if name in made:
            device, generator = ((made[name] / f"{part}.onnx").read_bytes() for part in ("device", "generator"))
        else:
            device, generator = graphs.export_device(run.device_model), graphs.export_generator(run.device_model)
        return Exported(run, device, generator, parity.session(device), parity.session(generator))

    return make


@pytest.fixture(params=MODELS)
def exported(request: pytest.FixtureRequest, export_graphs: Export) -> Exported:
    """Each backbone and each encoder, plain and with what they may have, and one with a cloud model."""
    return export_graphs(request.param)


@pytest.fixture
def advised(advised_folder: Path) -> Bundle:
    """The tiny bundle with a cloud model, opened."""
    return open_bundle(advised_folder)


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    """The tiny bundle, opened."""
    return open_bundle(bundle_folder)
