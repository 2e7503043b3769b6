"""A wearable that knows how it is worn: from a model of movements to devices with parameters of their own.

Everyone wears the sensor as they like, so its axes point anywhere, and no two sensors have the same gain. The model
tells four movements apart by their direction (up and down, or sideways) and by their strength, and sees neither of them
rightly before it knows the wearer. What it sees while the wearer stands still, which is gravity, tells both.

Run it from a checkout: `python examples/wearable.py`. Shapes: B wearers, N windows of each, L readings at rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn
from torch.nn import functional

import duetgen
from duetgen.cli.live import cloud_on_loopback
from duetgen.core import Duet, PooledEncoder, shares
from duetgen.device import PersonalModel
from duetgen.export import export_model

MOVEMENTS = ("walking", "running", "sweeping", "scrubbing")  # up and down, gently and hard; sideways, gently and hard
STEPS, RESTS, WINDOWS = 24, 8, 16
WEARERS = 20  # that training never saw


class Movements(nn.Module):
    """Windows of an accelerometer [N, 3, STEPS] to logits of the movements [N, 4]. It knows nothing of wearers."""

    def __init__(self) -> None:
        super().__init__()
        self.axes = nn.Conv1d(3, 16, 5)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv1d(16, 32, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.head = nn.Linear(32, len(MOVEMENTS))

    def forward(self, window: Tensor) -> Tensor:
        """The logits."""
        found: Tensor = self.head(self.body(self.axes(window)))
        return found


def wear(wearers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Some wearers: readings at rest [B, L, 3], windows without gravity [B, N, 3, STEPS], movements [B, N]."""
    gain_B = torch.exp(torch.empty(wearers).uniform_(-1, 1))
    up_B3 = functional.normalize(torch.randn(wearers, 3), dim=-1)
    rest_BL3 = gain_B[:, None, None] * up_B3[:, None] + 0.05 * torch.randn(wearers, RESTS, 3)

    movement_BN = torch.randint(len(MOVEMENTS), (wearers, WINDOWS))
    any_BN3 = torch.randn(wearers, WINDOWS, 3)
    sideways_BN3 = functional.normalize(torch.linalg.cross(any_BN3, up_B3[:, None].expand_as(any_BN3)), dim=-1)
    direction_BN3 = torch.where(movement_BN[..., None] < 2, up_B3[:, None], sideways_BN3)
    strength_BN = gain_B[:, None] * (1.0 + movement_BN % 2) * torch.empty_like(any_BN3[..., 0]).uniform_(0.85, 1.15)
    phase_BN = torch.empty_like(strength_BN).uniform_(0, 2 * torch.pi)
    pace_BN = torch.empty_like(strength_BN).uniform_(0.5, 0.9)
    swing_BNT = torch.sin(pace_BN[..., None] * torch.arange(STEPS) + phase_BN[..., None])
    window_BN3T = (strength_BN[..., None] * direction_BN3)[..., None] * swing_BNT[:, :, None]
    return rest_BL3, window_BN3T + 0.05 * torch.randn_like(window_BN3T), movement_BN


def train(module: nn.Module, loss_of: Callable[[Tensor, Tensor, Tensor], Tensor], steps: int, rate: float) -> None:
    """Fresh wearers at each step: rests [B, L, 3], windows [B * N, 3, STEPS], movements [B * N]."""
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    for _ in range(steps):
        rest, window, movement = wear(16)
        loss = loss_of(rest, window.flatten(0, 1), movement.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def make() -> Duet:
    """A model trained on all wearers alike, then finished; and a generator of what each wearer's own differs by."""
    model = Movements()
    train(model, lambda _, window, movement: functional.cross_entropy(model(window), movement), 300, 0.01)
    encoder = PooledEncoder(nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()), 64)
    duet = duetgen.personalise(model, ["axes", "head"], kind="full", encoder=encoder, budget="1 kB")
    print("theta:", *shares(duet.personal), sep="\n  ")
    train(duet, lambda rest, window, movement: functional.cross_entropy(duet(rest, window), movement), 400, 0.01)
    return duet.eval()


def publish(duet: Duet, folder: Path) -> Path:
    """A signed bundle: the two graphs, compared with what torch computes."""
    rest, window, _ = wear(64)
    key = Ed25519PrivateKey.generate()  # `duet keys` keeps one in a file
    export_model(duet, folder, key=key, name="movements", inputs={"window": window[0]}, histories=rest.numpy())
    return folder


def live(bundle: Path, url: str) -> dict[str, float]:
    """Devices that observe their rests, ask the cloud once, and run: how often each is right, and with which theta."""
    rest, window, movement = (part.numpy() for part in wear(WEARERS))

    def right(device: PersonalModel, wearer: int, personal: bool = True) -> float:
        logits = device.run({"window": window[wearer]}, personal=personal)
        return float((logits.argmax(-1) == movement[wearer]).mean())

    found = []
    for wearer in range(WEARERS):
        with PersonalModel(bundle, cloud=url, device_id=f"wearer-{wearer}", background=False) as device:
            device.observe(*rest[wearer])
            assert device.refresh(wait=True), device.status().last_error
            other = (wearer + 1) % WEARERS
            found.append((right(device, wearer, personal=False), right(device, wearer), right(device, other)))
    return dict(zip(("theta = 0", "own theta", "another's theta"), np.mean(found, axis=0).tolist(), strict=True))


def main() -> dict[str, float]:
    """All of it; accuracy by theta."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bundle = publish(make(), Path(folder) / "bundle")
        with cloud_on_loopback(bundle, Path(folder) / "cloud.log") as url:
            accuracy = live(bundle, url)
    for name, value in accuracy.items():
        print(f"{name:>16}: {value:.1%} of movements told rightly")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # so small a model is fastest on one
    main()
