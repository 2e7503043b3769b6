"""Models of several kinds, from torch to ONNX Runtime: theta acts in training, in evaluation and once exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

import duetgen
from duetgen.core import GeneratorConfig, PooledEncoder
from duetgen.device import PersonalModel
from duetgen.export import export_model
from duetgen.export.model import whole

ROWS = 3


class Residual(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Inverted(nn.Module):
    """The inverted residual of MobileNetV2: wider, depthwise, narrow again."""

    def __init__(self, width: int, expansion: int = 3) -> None:
        super().__init__()
        wide = width * expansion
        self.expand = nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.depthwise(self.expand(x)))


class Encoded(nn.Module):
    """Torch's own transformer encoder over a sequence, and a head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x).mean(1))
        return found


def images(block: type[Residual] | type[Inverted]) -> nn.Module:
    stem = (nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(*stem, block(4), block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def text() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification  # Takes seconds.

    config = DistilBertConfig(
        vocab_size=20, dim=8, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=8, dropout=0.0
    )
    config.attention_dropout = config.seq_classif_dropout = 0.0
    return DistilBertForSequenceClassification(config)


@dataclass(frozen=True)
class Case:
    """A model, layers of it by name with their kinds, and what it reads."""

    model: Callable[[], nn.Module]
    layers: Mapping[str, str]
    inputs: Callable[[], dict[str, Tensor]]
    output: Callable[[Any], Tensor] = whole


def a_picture() -> dict[str, Tensor]:
    return {"x": torch.randn(ROWS, 3, 8, 8)}


CASES = {
    "transformer encoder": Case(
        Encoded,
        {"layers.0.linear1": "full", "linear2": "scale", "self_attn": "low-rank", "norm2": "full"},
        lambda: {"x": torch.randn(ROWS, 5, 8)},
    ),
    "resnet": Case(lambda: images(Residual), {"conv1": "full", "conv2": "low-rank", "bn2": "full"}, a_picture),
    "mobilenet": Case(
        lambda: images(Inverted), {"depthwise.0": "full", "project.0": "scale", "expand.1": "scale"}, a_picture
    ),
    "hugging face": Case(
        text,
        {"q_lin": "full", "ffn.lin1": "low-rank", "sa_layer_norm": "full", "classifier": "full"},
        lambda: {
            "input_ids": torch.randint(1, 20, (ROWS, 6)),
            "attention_mask": (torch.arange(6) < torch.tensor([[6], [4], [2]])).long(),
        },
        lambda found: found.logits,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_theta_acts_in_training_evaluation_and_export(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = PooledEncoder(nn.Linear(3, 8), 8)
    config = GeneratorConfig(decoder_scale=0.2)
    model = case.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    duet = duetgen.personalise(model, case.layers, encoder=encoder, generator=config, keep=False)
    inputs, histories = case.inputs(), torch.randn(4, 5, 3)

    def run(theta: Tensor | None) -> Tensor:
        return case.output(duet.personal(theta, *inputs.values()))

    with torch.no_grad():
        thetas = duet.eval().generate(histories)
        for mode in (True, False):
            duet.train(mode)
            plain, own = run(None), [run(theta) for theta in thetas[:2]]
            torch.testing.assert_close(run(torch.zeros_like(thetas[0])), plain)
            assert all((found - plain).abs().max() > 0.01 for found in own)
            assert (own[0] - own[1]).abs().max() > 0.01
        for entry in duet.personal.layout.entries:  # no part of theta is without effect
            part = torch.zeros_like(thetas[0])
            part[entry.offset : entry.offset + entry.size] = 0.5 * torch.randn(entry.size)
            assert not torch.allclose(run(part), plain, atol=1e-4), entry.name
        each = run(thetas[:ROWS])  # a device a row
        for row in range(ROWS):
            torch.testing.assert_close(each[row], run(thetas[row])[row])

    bundle = export_model(
        duet,
        tmp_path / "bundle",
        key=Ed25519PrivateKey.generate(),
        name="any",
        inputs=inputs,
        histories=histories.numpy(),
        output=case.output,
    )
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    session = onnxruntime.InferenceSession(bundle.root / "device.onnx")
    for theta, wanted in zip((torch.zeros_like(thetas[0]), *thetas), (plain, *own)):
        found = session.run(None, {"theta": theta.numpy()[None], **arrays})[0]
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    with PersonalModel(bundle.root) as device:
        np.testing.assert_allclose(device.run(arrays), plain, atol=1e-4)
