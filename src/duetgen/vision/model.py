"""The device model, small, and what reads a device's images and makes theta of them.

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

from duetgen.core import Encoder, ParameterGenerator

WIDTHS: Final = (16, 32, 64)
WIDE: Final = (20, 40, 80)
FARTHEST: Final = 4.0
"""In standard deviations: features farther out count as there, so that a device unlike any other gets no wild theta."""
MOST_IMAGES: Final = 64
"""Most unlabelled images that a device gives."""
USUAL: Final = 0.99
"""Share of the training devices that count as usual."""
MOST_STRANGE: Final = 100.0
"""Squared deviations count as no more, so that no feature decides alone."""


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

    An image is described by mean and spread of every channel after its batch norm, by the features of the head and by
    what the model takes it for. The descriptions are averaged, as they are and after two small layers. How many images
    there are is told too.

    Args:
        model: the finished model; a copy is kept, and not trained.
        width: of the small layers.
    """

    mean_F: Tensor
    deviation_F: Tensor
    between_F: Tensor
    within_F: Tensor
    usual: Tensor

    def __init__(self, model: SmallNet, width: int = 64) -> None:
        widths = [norm.num_features for _, norm in model.stages()]
        features = 2 * sum(widths) + widths[-1] + model.head.out_features
        small = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        super().__init__(small, width, width + features + 1)
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.register_buffer("mean_F", torch.zeros(features))
        self.register_buffer("deviation_F", torch.ones(features))
        self.register_buffer("between_F", torch.ones(features))
        self.register_buffer("within_F", torch.ones(features))
        self.register_buffer("usual", torch.tensor(math.inf))

    def train(self, mode: bool = True) -> ImageEncoder:
        """As of any module; the finished model stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    @torch.no_grad()
    def describe(self, image_NCHW: Tensor) -> Tensor:
        """What each image is like: [N, F]."""
        means, squares = [], []
        for conv, norm in self.model.stages():
            value = norm(conv(image_NCHW))
            means.append(pooled(value))
            squares.append(pooled(value * value))
            image_NCHW = functional.relu(value)
        state = pooled(image_NCHW)
        return torch.cat([*means, torch.cat(squares, dim=1).sqrt(), state, self.model.head(state).softmax(1)], dim=1)

    def calibrate(self, feature_DNF: Tensor) -> None:
        """Let the features of training be of unit scale, and know how far apart its devices are."""
        self.mean_F.copy_(feature_DNF.mean((0, 1)))
        self.deviation_F.copy_(feature_DNF.flatten(0, 1).std(0) + 1e-3)
        unit_DNF = (feature_DNF - self.mean_F) / self.deviation_F
        self.within_F.copy_(unit_DNF.var(1).mean(0))
        self.between_F.copy_((unit_DNF.mean(1).var(0) - self.within_F / unit_DNF.shape[1]).clamp(min=1e-4))
        real_DN = torch.ones(feature_DNF.shape[:2], dtype=torch.bool)
        self.usual.copy_(self.strangeness(feature_DNF, real_DN).quantile(USUAL))

    def strangeness(self, feature_BKF: Tensor, real_BK: Tensor) -> Tensor:
        """How far a device's images are, on average, from those of training devices: near 1 for one of these: [B].

        The mean over features of the squared deviation, in units of what devices and as many images vary by.
        """
        mean_BF = averaged((feature_BKF - self.mean_F) / self.deviation_F, real_BK)
        squared_BF = mean_BF.square() / (self.between_F + self.within_F / counted(real_BK))
        return squared_BF.clamp(max=MOST_STRANGE).mean(1)

    def familiarity(self, strange_B: Tensor, early: bool) -> Tensor:
        """1 for devices as strange as is usual in training, 0 from twice as strange, between in proportion: [B].

        Args:
            strange_B: how strange they are.
            early: whether it falls from 1 on, what training devices have on average, and not from the usual.
        """
        first = self.usual.reciprocal() if early else 1.0
        familiar_B: Tensor = ((2 - strange_B / self.usual) / (2 - first)).clamp(0, 1)
        return familiar_B

    @torch.no_grad()
    def by_statistics(self, image_BKCHW: Tensor, real_BK: Tensor, strange_B: Tensor, reach: float) -> dict[str, Tensor]:
        """Batch-norm adaptation as theta: scale and shift by which each norm, as it is, does what it would do with the
        device's statistics, mixed with those of training: [B, 2 C_l] by name.

        The mixture is empirical Bayes, for each channel by itself: the statistics of training count for as many images
        as one image is less certain than devices differ, which they do by as much more as this one is strange. Of what
        that gives, `reach` is the share that is gone.
        """
        size, found, image_NCHW = image_BKCHW.shape[:2], {}, image_BKCHW.flatten(0, 1)
        known_B1 = strange_B.unsqueeze(1) * counted(real_BK)
        share_BF = reach * known_B1 / (known_B1 + self.within_F / self.between_F)
        widths = [norm.num_features for _, norm in self.model.stages()]
        shares = share_BF[:, : 2 * sum(widths)].split(2 * widths, dim=1)
        for number, (conv, norm) in enumerate(self.model.stages()):
            mean_share_BC, square_share_BC = shares[number], shares[number + len(widths)]
            value = norm(conv(image_NCHW))
            mean_BC, square_BC = (averaged(pooled(part).unflatten(0, size), real_BK) for part in (value, value * value))
            ratio_BC = (square_BC - mean_BC * mean_BC) / norm.weight.square().clamp(min=norm.eps)
            factor_BC = (1 + square_share_BC * (ratio_BC - 1)).clamp(min=norm.eps).rsqrt()
            shift_BC = norm.bias - (norm.bias + mean_share_BC * (mean_BC - norm.bias)) * factor_BC
            found[f"norm{number + 1}"] = torch.cat([factor_BC - 1, shift_BC], dim=1)
            own = value.unflatten(0, size) * factor_BC[:, None, :, None, None] + shift_BC[:, None, :, None, None]
            image_NCHW = functional.relu(own.flatten(0, 1))
        return found

    def read(self, history_BLx: Tensor, real_BL: Tensor) -> Tensor:
        """A device's images [B, K, C, H, W], or their descriptions [B, K, F], to its vector [B, D]."""
        if history_BLx.dim() == 5:
            history_BLx = self.described(history_BLx, real_BL)
        unit_BKF = ((history_BLx - self.mean_F) / self.deviation_F).clamp(-FARTHEST, FARTHEST)
        both_BKD = torch.cat([self.embedded(unit_BKF), unit_BKF], dim=2)
        mean_BD = averaged(both_BKD, real_BL)
        return torch.cat([mean_BD, counted(real_BL).log() / math.log(MOST_IMAGES)], dim=1)

    def described(self, image_BKCHW: Tensor, real_BK: Tensor) -> Tensor:
        """Descriptions [B, K, F] of devices' images; zeros where there is none."""
        found_BKF: Tensor = self.describe(image_BKCHW.flatten(0, 1)).unflatten(0, image_BKCHW.shape[:2])
        return found_BKF * real_BK.unsqueeze(2)


def counted(real_BK: Tensor) -> Tensor:
    """How many images each device gives, 1 at least: [B, 1]."""
    return real_BK.float().sum(1, keepdim=True).clamp(min=1)


def averaged(value_BKF: Tensor, real_BK: Tensor) -> Tensor:
    """The mean over the images of each device: [B, F]."""
    weight_BK = real_BK / counted(real_BK)
    mean_BF: Tensor = (weight_BK.unsqueeze(1) @ value_BKF).squeeze(1)
    return mean_BF


def pooled(value_NCHW: Tensor) -> Tensor:
    """The mean over pixels: [N, C]."""
    return functional.avg_pool2d(value_NCHW, value_NCHW.shape[2:]).flatten(1)


class ImageGenerator(ParameterGenerator):
    """Theta by what the generator has learnt, for devices like those of training; by statistics alone for all others.

    What is learnt says nothing of devices unlike any that training had. There the device goes a share of the way to
    batch-norm adaptation, which needs no labels, and keeps the model where that share is 0; between the two, theta is a
    mixture.

    Attributes:
        reach: that share.
    """

    reach: float = 0.0

    def forward(self, history_BLx: Tensor) -> Tensor:
        """Images [B, K, C, H, W] to theta [B, P]; of descriptions [B, K, F], what is learnt alone."""
        if history_BLx.dim() == 3:
            return super().forward(history_BLx)
        learnt_BP, rest_BP = self.parts(history_BLx)
        return learnt_BP + rest_BP

    def parts(self, image_BKCHW: Tensor) -> tuple[Tensor, Tensor]:
        """What theta is the sum of: what is learnt and what statistics give, each as much as it counts: [B, P] both."""
        encoder = self.encoder
        assert isinstance(encoder, ImageEncoder)
        real_BK = encoder.real(image_BKCHW)
        feature_BKF = encoder.described(image_BKCHW, real_BK)
        strange_B = encoder.strangeness(feature_BKF, real_BK)
        familiar_B1 = encoder.familiarity(strange_B, early=self.reach > 0).unsqueeze(1)
        learnt_BP = familiar_B1 * self.decode(encoder(feature_BKF, real_BK))
        return learnt_BP, (1 - familiar_B1) * self.by_statistics(image_BKCHW, real_BK, strange_B)

    def by_statistics(self, image_BKCHW: Tensor, real_BK: Tensor, strange_B: Tensor) -> Tensor:
        """Theta of devices so strange by their statistics: [B, P].

        Where none is stranger than training devices on average, none of it counts: then it is zeros, and takes no time.
        """
        encoder, reach = self.encoder, self.reach
        assert isinstance(encoder, ImageEncoder)
        sizes = {name: values for name, (_, values) in self.layout.layers.items()}

        def nothing(image_BKCHW: Tensor, real_BK: Tensor, strange_B: Tensor) -> Tensor:
            return strange_B.new_zeros(image_BKCHW.shape[0], sum(sizes.values()))

        def found(image_BKCHW: Tensor, real_BK: Tensor, strange_B: Tensor) -> Tensor:
            norms = encoder.by_statistics(image_BKCHW, real_BK, strange_B, reach)
            zeros = {name: strange_B.new_zeros(image_BKCHW.shape[0], values) for name, values in sizes.items()}
            return torch.cat(list((zeros | norms).values()), dim=1)

        given, strange = (image_BKCHW, real_BK, strange_B), (strange_B > 1).any()
        if not reach:
            return nothing(*given)
        if torch.compiler.is_exporting():
            branched: Tensor = torch.cond(strange, found, nothing, given)
            return branched
        return found(*given) if strange else nothing(*given)
