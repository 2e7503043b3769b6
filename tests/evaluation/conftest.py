"""Small datasets of each split, and untrained models whose decoders have a visible scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.conftest import wandering_sequences, write_dataset

from duetgen.backbones import BackboneConfig
from duetgen.core import GeneratorConfig
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender

MakeModel = Callable[..., Recommender]


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dozen devices with several targets each; fewer items than 99, so candidates are padded; unknown items."""
    root = tmp_path_factory.mktemp("evaluation") / "temporal"
    simulated = SyntheticConfig(people=60, items=80, shortest=10, longest=40)
    prepare(None, root, PrepareConfig(source="synthetic", synthetic=simulated, min_item_events=8))
    return Dataset(root)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty devices, leave-one-out, without drawn or given candidates."""
    root = tmp_path_factory.mktemp("evaluation") / "plain"
    return write_dataset(root, wandering_sequences(60, 30, seed=0), vocabulary=30)


def text_rows(user: int, events: list[int], negatives: list[int]) -> list[str]:
    """Rows of the text format for one user's events from the second on."""

    def padded(tail: list[int]) -> str:
        return ",".join(map(str, ([*tail[-3:], 0, 0, 0])[:3]))

    rows = []
    for i in range(1, len(events)):
        tail = f"{padded(events[: i - 1])};{padded(events[:i])}"
        rows += [f"{user};{events[i]};{tail};1"] + [f"{user};{n};{tail};0" for n in negatives]
    return rows


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The text format: 12 users, the last event of each with its two negatives is the test."""
    folder = tmp_path_factory.mktemp("evaluation")
    rng = np.random.default_rng(0)
    train, test = [], []
    for user in range(1, 13):
        rows = text_rows(user, list(rng.permutation(np.arange(11, 31))[: rng.integers(5, 10)]), [31, 32])
        train += rows[:-3]
        test += rows[-3:]
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    (folder / "test.txt").write_text("\n".join(test) + "\n")
    prepare(folder / "train.txt", folder / "text", PrepareConfig(source="duet-text"), test_input=folder / "test.txt")
    return Dataset(folder / "text")


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """`make_model(dataset, name, method, seed)`: an untrained model in training mode, with dropout."""

    def make(
        dataset: Dataset, name: str = "sasrec", method: str = "duet", seed: int = 0, normalised: bool = True
    ) -> Recommender:
        torch.manual_seed(seed)
        config = ModelConfig(
            name=name,  # type: ignore[arg-type]
            method=method,  # type: ignore[arg-type]
            normalised=normalised,
            backbone=BackboneConfig(width=8, window=4, dropout=0.3),
            history=HistoryConfig(length=12, width=8, embedding_width=8),
            generator=GeneratorConfig(width=8, decoder_scale=1.0, dropout=0.2),
        )
        return Recommender(dataset.vocabulary, config)

    return make
