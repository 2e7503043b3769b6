"""The gate: what it compares, what it lets through, and that a refusal leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.bundles import untrained_run
from tests.conftest import MakeDataset
from tests.export.conftest import ADVISED, PLAIN, Export, Exported
from tests.signing import KEY
from torch import Tensor, nn

from duetgen.data.store import Dataset
from duetgen.export import export_bundle, graphs, parity
from duetgen.export.errors import NotExportableError, ParityFailedError
from duetgen.training.run import DatasetMismatchError


def test_difference_by_hand() -> None:
    a = np.array([1.0, 0.5], np.float32)
    assert parity.difference(a, a) == 0
    assert parity.difference(a, a + np.float32(0.25)) == 1 / 4
    # Relative to the largest value where that is above 1.
    assert parity.difference(np.array([8.0, 0], np.float32), np.array([8.0, 1.0], np.float32)) == 1 / 8
    assert parity.difference(a, np.array([1.0, np.nan], np.float32)) == np.inf
    assert parity.difference(a, a[:1]) == np.inf
    assert parity.difference(a[:0], a[:0]) == 0


def test_lengths_hold_the_extremes() -> None:
    assert parity.lengths(1) == (1,)
    assert parity.lengths(2) == (1, 2)
    assert parity.lengths(20) == (1, 2, 10, 19, 20)


def test_histories_are_right_padded() -> None:
    history_BL = parity.draw_histories(np.random.default_rng(0), 50, 8, 10)
    length_B = (history_BL != 0).sum(1)
    assert length_B[0] == 8
    assert length_B.min() == 0
    for row, length in zip(history_BL, length_B):
        assert not row[length:].any()


class Off(nn.Module):
    """A module that is off by so much."""

    def __init__(self, module: nn.Module, by: float) -> None:
        super().__init__()
        self.module, self.by = module, by

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        found: Tensor | tuple[Tensor, ...] = self.module(*inputs)
        # The last output of a generator: its weights, or the values of opinions.
        return found + self.by if isinstance(found, Tensor) else (*found[:-1], found[-1] + self.by)


def check(exported: Exported, device_off: float, generator_off: float) -> float:
    model = exported.model
    return parity.check(
        (Off(graphs.DeviceGraph(model).eval(), device_off), exported.device_session),
        (Off(graphs.GeneratorGraph(model).eval(), generator_off), exported.generator_session),
        window=model.window,
        history=model.generator_history,
        vocabulary=model.vocabulary,
        bounds_P=np.full(model.backbone.head.layout.size, 0.1, np.float32),
    )


def test_what_is_within_the_tolerance_passes_and_is_told(export_graphs: Export) -> None:
    assert check(export_graphs(PLAIN), 5e-5, 0) == pytest.approx(5e-5, rel=0.05)


def test_opinions_that_are_off_are_refused(export_graphs: Export) -> None:
    exported = export_graphs(ADVISED)
    assert check(exported, 0, 0) < 1e-5
    with pytest.raises(ParityFailedError, match="opinions"):
        check(exported, 0, 0.05)


def test_opinions_over_the_catalogue_by_hand() -> None:
    """Order and what means nothing (below 2, or no value) do not count."""
    items, values = np.array([[[5, 3, 1]], [[0, 2, 4]]]), np.array([[[1.5, 2, 9]], [[7, 0, -1]]], np.float32)
    assert parity.dense([items, values], 6).tolist() == [[[0, 0, 0, 2, 0, 1.5]], [[0, 0, 0, 0, 0, 0]]]


@pytest.mark.parametrize(
    ("device", "generator", "words"), [(2e-4, 0, "scores"), (0, 2e-4, "theta"), (np.nan, 0, "nan|inf")]
)
def test_what_is_beyond_is_refused(export_graphs: Export, device: float, generator: float, words: str) -> None:
    with pytest.raises(ParityFailedError, match=words):
        check(export_graphs(PLAIN), device, generator)


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(ParityFailedError, match="refuses the graph"):
        parity.session(b"no graph")


def test_a_failed_gate_writes_nothing(
    bundle_dataset: Dataset, export_graphs: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs of a model, published with another one's weights."""
    exported = export_graphs(PLAIN)
    run = untrained_run(bundle_dataset, seed=1)
    monkeypatch.setattr(graphs, "export_device", lambda model: exported.device)
    monkeypatch.setattr(graphs, "export_generator", lambda model, two_step: exported.generator)
    with pytest.raises(ParityFailedError):
        export_bundle(run, bundle_dataset, tmp_path / "bundle", key=KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_base_model_is_refused(bundle_dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match="base model"):
        export_bundle(untrained_run(bundle_dataset, method="base"), bundle_dataset, tmp_path / "bundle", key=KEY)
    assert list(tmp_path.iterdir()) == []


def test_another_dataset_is_refused(bundle_dataset: Dataset, make_dataset: MakeDataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetMismatchError):
        export_bundle(untrained_run(bundle_dataset), make_dataset([[2, 3, 4, 5]]), tmp_path / "bundle", key=KEY)
    assert not (tmp_path / "bundle").exists()


def test_weights_that_no_file_holds_are_refused(bundle_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_BYTES", 1_000)
    with pytest.raises(NotExportableError, match="weights take"):
        graphs.export_device(untrained_run(bundle_dataset).model)


def test_weights_that_are_not_finite_are_refused(export_graphs: Export, bundle_dataset: Dataset) -> None:
    exported = export_graphs(PLAIN)
    model = untrained_run(bundle_dataset).model
    with torch.no_grad():
        model.backbone.item_embedding.weight.fill_(torch.nan)
    broken = graphs.DeviceGraph(model).eval()
    with pytest.raises(ParityFailedError):
        parity.check(
            (broken, exported.device_session),
            (graphs.GeneratorGraph(model).eval(), exported.generator_session),
            window=6,
            history=20,
            vocabulary=model.vocabulary,
            bounds_P=np.ones(model.backbone.head.layout.size, np.float32),
        )
