"""Adam and AdamW without torch's compiler."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from duetgen.adam import Adam, AdamW
from tests.conftest import MakeDataset

TRAINING = """
import sys
from pathlib import Path
from duetgen.data.store import Dataset
from duetgen.recommender import ModelConfig
from duetgen.training import OptimiserConfig, TrainConfig, train
few = OptimiserConfig(epochs=2, patience=2, batch_positions=64)
train(Dataset(Path(sys.argv[1])), TrainConfig(model=ModelConfig(method="base"), optimiser=few), Path(sys.argv[2]))
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(("own", "of_torch"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
@pytest.mark.parametrize("fused", [False, True])
def test_steps_are_those_of_torch(own: type[torch.optim.Adam], of_torch: type[torch.optim.Adam], fused: bool) -> None:
    torch.manual_seed(0)
    one = nn.Linear(3, 2)
    other = copy.deepcopy(one)
    pairs = [(one, own(one.parameters(), 0.1, fused=fused)), (other, of_torch(other.parameters(), 0.1, fused=fused))]
    for turn in range(4):
        x = torch.randn(5, 3)
        for module, optimiser in pairs:
            optimiser.zero_grad()
            module(x).square().sum().backward()
            optimiser.step()
            if turn == 1:  # as after a checkpoint
                optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.grad_fn is None


def test_a_training_does_not_wait_for_the_compiler(make_dataset: MakeDataset, tmp_path: Path) -> None:
    folder = make_dataset([[2, 3, 4, 5, 6], [3, 4, 5, 6, 2], [4, 5, 6, 2, 3]])
    arguments = [sys.executable, "-c", TRAINING, str(folder.root), str(tmp_path / "run")]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split()[-1] == "False"
