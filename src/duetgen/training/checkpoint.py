"""The state of a run between two steps, in one file that is replaced whole: killed at any moment, a run goes on.

Everything random follows from (seed, epoch, step), so weights, the optimiser's moments and a few counters are all there
is to keep. One safetensors file holds them; the counters, and a digest of all, stand in its header.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from duetgen.documents import Refuse, check_digest
from duetgen.files import write_bytes


class Counters(msgspec.Struct, kw_only=True):
    """Where a run stands.

    Attributes:
        epoch: passes completed.
        step: steps completed within the pass under way.
        total_steps: steps since the start.
        best: best validation `ndcg@10` so far, and the epoch it was measured after; -1 before the first.
        metrics_bytes: length of `metrics.jsonl` that belongs to this state; what is behind it is written again.
        loss_sum, own_sum, zero_sum: sums of the losses of the pass under way, see `progress.Losses`.
        positions: trained in the pass under way.
        pass_seconds: time spent on the pass under way, measuring left out.
        seconds: time spent so far, measuring included.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    best: float = -1.0
    best_epoch: int = -1
    metrics_bytes: int = 0
    loss_sum: float = 0.0
    own_sum: float = 0.0
    zero_sum: float = 0.0
    positions: int = 0
    pass_seconds: float = 0.0
    seconds: float = 0.0


def save(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    best: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    counters: Counters,
) -> None:
    """Write the state, aside first.

    Raises:
        OutputUnwritableError: the file cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for name, parameter in model.named_parameters():
        state = optimiser.state.get(parameter)
        if state:
            tensors[f"mean.{name}"] = state["exp_avg"]
            tensors[f"square.{name}"] = state["exp_avg_sq"]
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        held = tensor.detach().cpu().contiguous()
        # Tied tensors have two names and one storage; safetensors wants each on its own.
        tied = any(held.data_ptr() == one.data_ptr() for one in whole.values())
        whole[name] = held.clone() if tied else held
    told = msgspec.json.encode(counters).decode()
    header = {"counters": told, "sha256": digest(told, whole)}
    write_bytes(path, safetensors.torch.save(whole, metadata=header))


def digest(counters: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the counters and of names, types, shapes and values of the tensors, in hexadecimal."""
    found = hashlib.sha256(counters.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


@dataclass(frozen=True)
class State:
    """A checkpoint, read: tensors by kind (model, average, best, mean, square) and name, on the CPU."""

    counters: Counters
    tensors: dict[str, dict[str, Tensor]]

    def check(self, model: nn.Module) -> None:
        """Refuse a model that the state is not of.

        Raises:
            ValueError: names or shapes differ.
        """
        wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
        for kind in ("model", "average"):
            if {name: tensor.shape for name, tensor in self.tensors[kind].items()} != wanted:
                raise ValueError("its tensors are those of another model")

    def put(
        self, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[Counters, dict[str, Tensor]]:
        """Put the state back into model, average and optimiser; gives the counters and the best weights so far."""
        model.load_state_dict(self.tensors["model"])
        average.load_state_dict(self.tensors["average"])
        for name, parameter in model.named_parameters():
            if name in self.tensors["mean"]:
                optimiser.state[parameter] = {
                    "step": torch.tensor(float(self.counters.total_steps)),
                    "exp_avg": self.tensors["mean"][name].to(parameter.device),
                    "exp_avg_sq": self.tensors["square"][name].to(parameter.device),
                }
        return self.counters, self.tensors["best"]


def load(path: Path, refuse: Refuse) -> State:
    """Read a checkpoint; one that is not as it was written is refused as told."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata()
            whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        told = header["counters"]
        counters = msgspec.json.decode(told, type=Counters)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as cause:
        raise refuse(str(cause)) from cause
    check_digest(header.get("sha256"), digest(told, whole), refuse)
    tensors: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "mean": {}, "square": {}}
    for name, tensor in whole.items():
        kind, _, rest = name.partition(".")
        tensors[kind][rest] = tensor
    return State(counters, tensors)
