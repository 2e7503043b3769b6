"""The device model, small, and the encoder that reads what a device sees.

Shapes: B devices, K images of a device, N images, C colours, H and W the 32 pixels of a side, F features of an image,
D width of the encoder.
"""

from __future__ import annotations

import copy
import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.core import Encoder

WIDTHS: Final = (16, 32, 64)
WIDE: Final = (20, 40, 80)
FARTHEST: Final = 4.0
"""In standard deviations: features farther out count as there, so that a device unlike any other gets no wild theta."""
MOST_IMAGES: Final = 64
"""Most unlabelled images that a device gives."""


class SmallNet(nn.Module):
    """Three convolutions with batch norm, and a linear head.

    Args:
        colours: C.
        classes: how many.
        widths: channels of each convolution.
    """

    def __init__(self, colours: int, classes: int, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
            for inside, outside in zip((colours, *widths), widths)
        )
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(width) for width in widths)
        self.head = nn.Linear(widths[-1], classes)

    def stages(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Convolutions with their norms, in order."""
        return [(self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)]

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Images to logits [N, classes]."""
        for conv, norm in self.stages():
            image_NCHW = functional.relu(norm(conv(image_NCHW)))
        logits: Tensor = self.head(image_NCHW.mean((2, 3)))
        return logits


class ImageEncoder(Encoder):
    """Reads a device's unlabelled images, in any order, by what a finished model makes of them.

    An image is described by mean and spread of its pixels, of their steps across and down, and of every channel that
    goes into a batch norm, in that norm's units; by the features of the head and by what the model takes it for. The
    descriptions are averaged, as they are and after two small layers. How many images there are is told too.

    Args:
        model: the finished model; a copy is kept, and not trained.
        width: of the small layers.
    """

    mean_F: Tensor
    deviation_F: Tensor

    def __init__(self, model: SmallNet, width: int = 64) -> None:
        widths = [norm.num_features for _, norm in model.stages()]
        features = 4 * model.conv1.in_channels + 2 * sum(widths) + widths[-1] + model.head.out_features
        small = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        super().__init__(small, width, width + features + 1)
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.register_buffer("mean_F", torch.zeros(features))
        self.register_buffer("deviation_F", torch.ones(features))

    def train(self, mode: bool = True) -> ImageEncoder:
        """As of any module; the finished model stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    @torch.no_grad()
    def describe(self, image_NCHW: Tensor) -> Tensor:
        """What each image is like: [N, F]."""
        across, down = image_NCHW.diff(dim=3).abs(), image_NCHW.diff(dim=2).abs()
        found = [part.mean((2, 3)) for part in (across, down, image_NCHW)] + [image_NCHW.std((2, 3))]
        for conv, norm in self.model.stages():
            value = conv(image_NCHW)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            unit = functional.batch_norm(value, norm.running_mean, norm.running_var, eps=norm.eps)
            found += [unit.mean((2, 3)), unit.square().mean((2, 3)).sqrt()]
            image_NCHW = functional.relu(norm(value))
        state = image_NCHW.mean((2, 3))
        return torch.cat([*found, state, self.model.head(state).softmax(1)], dim=1)

    def calibrate(self, feature_NF: Tensor) -> None:
        """Let the features of training be of unit scale."""
        self.mean_F.copy_(feature_NF.mean(0))
        self.deviation_F.copy_(feature_NF.std(0) + 1e-3)

    def read(self, history_BLx: Tensor, real_BL: Tensor) -> Tensor:
        """A device's images [B, K, C, H, W], or their descriptions [B, K, F], to its vector [B, D]."""
        if history_BLx.dim() == 5:
            history_BLx = self.describe(history_BLx.flatten(0, 1)).unflatten(0, history_BLx.shape[:2])
        unit_BKF = ((history_BLx - self.mean_F) / self.deviation_F).clamp(-FARTHEST, FARTHEST)
        both_BKD = torch.cat([self.embedded(unit_BKF), unit_BKF], dim=2)
        count_B1 = real_BL.sum(1, keepdim=True).clamp(min=1).to(both_BKD.dtype)
        mean_BD = (both_BKD * real_BL.unsqueeze(2)).sum(1) / count_B1
        return torch.cat([mean_BD, count_B1.log() / math.log(MOST_IMAGES)], dim=1)
