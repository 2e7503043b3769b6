"""What DUET is held against that changes a model on the device: statistics, entropy, labels.

Shapes: N images of one device, C colours, H and W the 32 pixels of a side.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.adam import Adam
from duetgen.vision.model import SmallNet


class Adaptation(msgspec.Struct, frozen=True, kw_only=True):
    """How a device adapts; what is best is chosen on the devices that validate.

    Attributes:
        prior: how many images the statistics of training count for, beside the device's own; None leaves them alone.
        steps: of Adam, on norms by entropy or on all weights by labels.
        rate: of Adam.
    """

    prior: int | None = None
    steps: int = 0
    rate: float = 0.0


BATCH_NORM = tuple(Adaptation(prior=prior) for prior in (0, 16, 64, 256))
TENT = tuple(Adaptation(prior=prior, steps=10, rate=rate) for prior in (0, 64) for rate in (3e-4, 3e-3))
FINETUNE = tuple(Adaptation(steps=96, rate=rate) for rate in (1e-4, 3e-4, 1e-3))
TAUGHT: Final = 0.75
"""Share of the labelled images that teach; the rest tell when to stop."""
TURN: Final = 16
"""Images of a step of fine-tuning."""
LOOK: Final = 12
"""Steps of it between looks at the rest."""


def with_statistics(model: SmallNet, image_NCHW: Tensor, prior: float) -> SmallNet:
    """A copy whose batch norms have the statistics of these images mixed with those of training: the statistics of
    training count as so many images more (Schneider et al., NeurIPS 2020, equation 1; 0 is Nado et al., 2020).
    """
    own = copy.deepcopy(model)

    def adapt(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        value = inputs[0]
        share = len(value) / (len(value) + prior)
        norm.running_mean.lerp_(value.mean((0, 2, 3)), share)
        norm.running_var.lerp_(value.var((0, 2, 3), unbiased=False), share)

    hooks = [norm.register_forward_pre_hook(adapt) for _, norm in own.stages()]
    with torch.no_grad():
        own(image_NCHW)
    for hook in hooks:
        hook.remove()
    return own


def tent(model: SmallNet, image_NCHW: Tensor, how: Adaptation) -> SmallNet:
    """Scales and shifts of the batch norms by the entropy of the predictions (TENT, ICLR 2021, section 3).

    The paper takes the statistics of each batch alone; mixed with those of training it stands few images better, so
    both are tried.
    """
    own = with_statistics(model, image_NCHW, how.prior or 0)
    own.requires_grad_(False)
    trained = [parameter.requires_grad_() for _, norm in own.stages() for parameter in norm.parameters()]
    optimiser = Adam(trained, lr=how.rate)
    for _ in range(how.steps):
        logits = own(image_NCHW)
        loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return own


def finetune(model: SmallNet, image_NCHW: Tensor, label_N: Tensor, how: Adaptation) -> SmallNet:
    """All weights by the labels of the device's images, which no other method has.

    Most of them teach, a few a step, in turns; by the loss on the rest the best model on the way is kept, which may be
    the one that it started from.
    """
    own, cut = copy.deepcopy(model), max(1, int(TAUGHT * len(label_N)))
    optimiser = Adam(own.parameters(), lr=how.rate)

    @torch.no_grad()
    def left() -> float:
        return float(functional.cross_entropy(own(image_NCHW[cut:]), label_N[cut:]))

    best, kept = left(), copy.deepcopy(own)
    for step in range(how.steps):
        chosen = torch.arange(step * TURN, (step + 1) * TURN) % cut
        loss = functional.cross_entropy(own(image_NCHW[chosen]), label_N[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % LOOK == 0 and (found := left()) < best:
            best, kept = found, copy.deepcopy(own)
    return kept
