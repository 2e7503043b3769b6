"""A bundle measured as it ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.bundles import BLEND, tiny_bundle, untrained_run
from tests.conftest import MakeDataset, wandering_sequences, write_dataset
from tests.lineage import versions_of, with_titles

from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, ZERO, evaluate
from duetgen.export.published import Published, load_model
from duetgen.training.run import DatasetMismatchError, NotARunError
from duetgen.wire.bundle import open_bundle


def test_scores_are_those_of_the_canary(bundle_folder: Path) -> None:
    bundle = open_bundle(bundle_folder)
    canary, model = bundle.canary(), Published(bundle)
    window = torch.tensor([canary.history[-model.window :]])
    theta = model.generate(torch.tensor([canary.history]))
    assert theta.weights_BP is not None
    np.testing.assert_allclose(theta.weights_BP[0], canary.theta, atol=1e-4)
    candidates = torch.tensor([canary.candidates])
    np.testing.assert_allclose(model.score(window, candidates, theta)[0], canary.scores, atol=1e-4)
    np.testing.assert_allclose(model.score(window, candidates)[0], canary.fallback_scores, atol=1e-4)
    catalogue = model.score_catalogue(window, theta)
    assert catalogue.shape == (1, model.vocabulary)
    assert torch.isneginf(catalogue[0, 0])
    np.testing.assert_allclose(catalogue.gather(1, candidates)[0], canary.scores, atol=1e-4)


def test_rows_in_several_calls_are_the_same(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Published(open_bundle(bundle_folder))
    windows = torch.tensor([[2, 3, 0], [4, 5, 6], [7, 0, 0]])
    whole = model.score_catalogue(windows)
    monkeypatch.setattr("duetgen.export.published.SCORES", model.vocabulary)
    torch.testing.assert_close(model.score_catalogue(windows), whole)


def test_it_is_measured_like_any_recommender(bundle_folder: Path, bundle_dataset: Dataset) -> None:
    model, settings, seen = load_model(bundle_folder, bundle_dataset)
    assert seen is bundle_dataset
    (found,) = evaluate(model, bundle_dataset, conditions=[OWN, ZERO], bootstrap=0, config=settings)
    assert found.personal
    assert found["own"].metrics["ndcg@10"].mean != found["zero"].metrics["ndcg@10"].mean
    assert found.provenance.config is not None
    assert found.provenance.config["bundle"] == open_bundle(bundle_folder).manifest.model_id


def test_other_data_and_other_folders_are_refused(
    bundle_folder: Path, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    with pytest.raises(DatasetMismatchError):
        load_model(bundle_folder, make_dataset([[2, 3, 4]]))
    with pytest.raises(NotARunError):
        load_model(tmp_path, make_dataset([[2, 3, 4]]))


def test_a_bundle_of_a_later_version_is_refused_by_the_versions(tmp_path: Path) -> None:
    sequences = wandering_sequences(20, 22, seed=0)
    made = (write_dataset(tmp_path / name, sequences, vocabulary=22) for name in ("one", "two"))
    first, second = versions_of(*(with_titles(dataset, [None] * 20) for dataset in made))
    tiny_bundle(tmp_path / "bundle", second)
    with pytest.raises(DatasetMismatchError, match=r"trained on version 2 of .* is version 1"):
        load_model(tmp_path / "bundle", first)


@pytest.mark.parametrize("age", [0, 1, 7, 40, 1_000])
def test_both_parts_as_the_run_gives_and_trusts_them(advised_folder: Path, bundle_dataset: Dataset, age: int) -> None:
    model, published = untrained_run(bundle_dataset, cloud=BLEND).device_model, Published(open_bundle(advised_folder))
    histories, window = torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0]]), torch.tensor([[4, 5], [7, 0]])
    with torch.inference_mode():
        wanted = model.score_catalogue(window, model.trusted(model.generate(histories), age))
        global_BV = model.score_catalogue(window)
    found = published.score_catalogue(window, published.trusted(published.generate(histories), age))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (found - global_BV).abs()[:, 1:].amax() > 1e-3
