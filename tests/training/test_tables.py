"""Large tables: the same values as steps over the whole table, whatever is read when."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import pytest
import torch
from tests.training.test_loop import SMALL
from tests.training.together import PowerCutError, Steps, cut
from torch import Tensor, nn

from duetgen.adam import AdamW
from duetgen.data.store import Dataset
from duetgen.training import ObjectiveConfig, load_run, tables, train
from duetgen.training.optimiser import clip_gradients
from duetgen.training.tables import CYCLE, LargeTable, large_tables

ROWS, WIDTH = 40, 6


class Tiny(nn.Module):
    """A table, read in two places, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(ROWS, WIDTH, padding_idx=0), nn.Linear(WIDTH, WIDTH)

    def forward(self, index_N: Tensor, other_N: Tensor) -> Tensor:
        return (self.layer(self.table(index_N)) * self.table(other_N)).tanh().sum()


class Trial:
    """A model under training; `rows` as large tables are, else as any parameter."""

    def __init__(self, rows: bool) -> None:
        torch.manual_seed(0)
        self.model = Tiny()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = AdamW(self.model.parameters(), lr=1, betas=(0.9, 0.98), weight_decay=0)
        self.large = [LargeTable(self.model.table, self.average.table, self.optimiser)] if rows else []

    def step(self, number: int) -> None:
        drawn = torch.Generator().manual_seed(number)
        # Rows from 30 on are read in the first steps alone, and later only some of them for a moment.
        index_N, other_N = torch.randint(0, ROWS if number < 9 else 30, (2, 5), generator=drawn)
        if number % 97 == 96:
            other_N[0] = 30 + number % 10
        self.optimiser.param_groups[0]["lr"] = 0.01 / (1 + number / 50)
        share = 1 / (1 + min(100, number / 4))
        self.optimiser.zero_grad()
        self.model(index_N, other_N).backward()
        clip_gradients(self.model.parameters(), 0.5)
        for table in self.large:
            table.step(share)
        self.optimiser.step()
        with torch.no_grad():
            for average, own in zip(self.average.parameters(), self.model.parameters()):
                if not (self.large and own is self.model.table.weight):
                    average.lerp_(own, share)


@pytest.mark.parametrize("steps", [1, 2, 30, CYCLE, CYCLE + 150])
def test_weights_averages_and_moments_are_those_of_steps_over_the_whole_table(steps: int) -> None:
    dense, rows = Trial(rows=False), Trial(rows=True)
    for number in range(steps):
        for trial in (dense, rows):
            trial.step(number)
    assert rows.large[0].settled == (steps == CYCLE)
    rows.large[0].settle()
    for one in ("model", "average"):
        for name, expected in getattr(dense, one).state_dict().items():
            found = getattr(rows, one).state_dict()[name]
            torch.testing.assert_close(
                found, expected, rtol=1e-4, atol=2e-6, msg=lambda text, n=f"{one}.{name}": n + text
            )
    for kind in ("exp_avg", "exp_avg_sq"):
        whole, its = (trial.optimiser.state[trial.model.table.weight][kind] for trial in (dense, rows))
        torch.testing.assert_close(its, whole, rtol=1e-4, atol=1e-9)


def test_a_row_that_was_never_read_stays_and_so_does_its_average() -> None:
    trial = Trial(rows=True)
    before = trial.model.table.weight[39].detach().clone()
    trial.optimiser.zero_grad()
    trial.model(torch.tensor([3]), torch.tensor([4])).backward()
    trial.large[0].step(0.5)
    trial.large[0].settle()
    assert torch.equal(trial.model.table.weight[39], before)
    assert torch.equal(trial.average.table.weight[39], before)


def test_a_row_is_up_to_date_when_it_is_read() -> None:
    trial = Trial(rows=True)
    for number in range(20):
        trial.step(number)
    read = trial.model.table(torch.arange(ROWS)).detach().clone()
    trial.large[0].settle()
    assert torch.equal(read, trial.model.table.weight)


def test_large_tables_are_those_that_are_trained_and_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(rows=False)
    both = (trial.model, trial.average, trial.optimiser)
    assert large_tables(*both, None) == []
    monkeypatch.setattr(tables, "LARGE", ROWS)
    assert large_tables(*both, trial.model.table) == []
    (found,) = large_tables(*both, None)
    assert found.weight_VD is trial.model.table.weight
    assert trial.model.table.sparse
    trial.model.table.weight.requires_grad_(False)
    assert large_tables(*both, None) == []


SAMPLED = msgspec.structs.replace(SMALL, objective=ObjectiveConfig(kind="sampled", negatives=10, staleness=3))


def test_a_whole_run_is_that_with_dense_steps(
    wandering: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(wandering, SAMPLED, tmp_path / "dense")
    monkeypatch.setattr(tables, "LARGE", 10)
    # Both tables are large then, that of the device model and the generator's own.
    train(wandering, SAMPLED, tmp_path / "rows")
    # Scores and not weights: a bias that changes no score has a gradient of rounding alone, which Adam makes steps of.
    windows = torch.tensor([[3, 4, 5, 6], [7, 9, 11, 0]])
    dense, rows = (load_run(tmp_path / name).model.score_catalogue(windows) for name in ("dense", "rows"))
    torch.testing.assert_close(rows, dense, rtol=1e-3, atol=1e-3)


def test_a_run_that_was_cut_ends_with_the_same_weights(
    wandering: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LARGE", 10)
    monkeypatch.setattr(tables, "CYCLE", 4)
    often = msgspec.structs.replace(SAMPLED, checkpoint_seconds=0.0)
    whole, rest = Steps(), Steps()
    train(wandering, often, tmp_path / "whole", progress=whole)
    with pytest.raises(PowerCutError):
        train(wandering, often, tmp_path / "cut", progress=Steps(7, cut))
    train(wandering, often, tmp_path / "cut", progress=rest)
    expected, found = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert found == expected
    # It went on where all rows were up to date, after four steps of six.
    assert rest.count == whole.count - 4
