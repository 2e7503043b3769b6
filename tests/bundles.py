"""A tiny real bundle for tests: an untrained model of a synthetic log, exported as `duet export` would."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from duetgen.cloudmodel import CloudModel
from duetgen.cloudmodel.table import TableModel
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.export import export_bundle
from duetgen.recommender import ModelConfig, Recommender
from duetgen.training.config import TrainConfig
from duetgen.training.run import Run, describe
from duetgen.wire.bundle import Bundle
from tests.signing import KEY

BLEND: Final[dict[str, Any]] = {"kind": "blend", "width": 16, "recurrent": 8, "items": 10, "neighbours": 8}


def synthetic_dataset(root: Path, people: int = 60) -> Dataset:
    """A dataset folder with titles and times."""
    prepare(None, root, PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=people)))
    return Dataset(root)


def untrained_run(dataset: Dataset, seed: int = 0, **settings: Any) -> Run:
    """A run as if trained: theta is large enough to see (decoder scale 0.05), and nothing is zero. With a kind of cloud
    model, `cloud=BLEND`, opinions count too, less the older they are.

    Args:
        dataset: of the run.
        seed: of the weights; another seed gives another model_id.
        settings: of `ModelConfig`, as plain data.
    """
    tiny: dict[str, Any] = {
        "backbone": {"width": 16, "window": 6},
        "history": {"length": 20, "width": 16, "embedding_width": 8},
        "generator": {"width": 8, "decoder_scale": 0.05},
        "cloud": {},
    }
    for name, value in settings.items():
        tiny[name] = {**tiny[name], **value} if isinstance(value, dict) else value
    torch.manual_seed(seed)
    config = TrainConfig(model=msgspec.convert(tiny, ModelConfig), seed=seed)
    model = Recommender(dataset.vocabulary, config.model)
    if config.model.cloud.members:
        attach_cloud(model)
    environment = msgspec.structs.replace(describe(dataset, config, "cpu"), finished=True)
    return Run(Path("untrained"), config, environment, model.eval())


def attach_cloud(model: Recommender) -> None:
    """An untrained cloud model; the first opinion counts 1.5 at first and nothing from 50 events on."""
    config = model.config
    cloud = CloudModel(model.vocabulary, config.history.length, config.cloud, config.met)
    for table in cloud.members.values():
        if isinstance(table, TableModel):
            table.near_VK.copy_(torch.randint(0, model.vocabulary, table.near_VK.shape))
            table.weight_VK.uniform_(-0.2, 1)
    model.attach(cloud)
    assert model.trust is not None
    for place, curve_A in enumerate(model.trust.opinions_JA):
        curve_A.copy_(torch.tensor([1.5, 1.5, 1.25, 1, 0.75, 0.5, 0, 0]) / (place + 1))
    model.trust.weights_A.copy_(torch.tensor([1, 1, 1, 0.75, 0.75, 0.5, 0.5, 0.25]))


def tiny_bundle(root: Path, dataset: Dataset, *, seed: int = 0, embeddings: Any = "float32", **settings: Any) -> Bundle:
    """A bundle at `root` of an untrained run; some seconds."""
    run = untrained_run(dataset, seed, **settings)
    return export_bundle(run, dataset, root, key=KEY, embeddings=embeddings, measure=False)
