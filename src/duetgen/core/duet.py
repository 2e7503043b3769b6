"""The duet: a global model and the generator of each device's own version of it.

Shapes: B devices, L history length, P values in theta.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from torch import Tensor, nn

from duetgen.core.encoders import Encoder
from duetgen.core.generator import GeneratorConfig, ParameterGenerator
from duetgen.core.personal import Personal


def joint_loss(
    loss_of: Callable[[Tensor | None], Tensor], theta: Tensor, weight: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The joint objective `L_ppg + λ L_umn`: generated parameters, and the same batch with θ = 0.

    Without its second term the global model, what a device falls back on, is free to drift while theta makes up for it.

    Args:
        loss_of: the loss of one batch, given theta or None for the global model.
        theta: generated parameters of the batch.
        weight: λ; 0 leaves the second term out and its cost too.

    Returns:
        The joint loss, L_ppg, and L_umn (None where λ = 0).
    """
    personal = loss_of(theta)
    if weight == 0:
        return personal, personal, None
    fallback = loss_of(None)
    return personal + weight * fallback, personal, fallback


def freeze(module: nn.Module, names: Container[str] | None = None) -> None:
    """Train parameters of a module no more: those of these names, or all."""
    for name, parameter in module.named_parameters():
        if names is None or name in names:
            parameter.requires_grad_(False)


class Duet(nn.Module):
    """A model made personal: `duet(history, *inputs)` (DUET, section 3).

    Args:
        personal: the global model, and what theta changes of it.
        encoder: the head encoder that reads a history.
        config: of the generator.
        weight: λ of the joint objective; of no use where the model is kept.
        keep: the global model is finished: it is not trained, and stays in evaluation mode.
    """

    def __init__(
        self,
        personal: Personal,
        encoder: Encoder,
        config: GeneratorConfig | None = None,
        weight: float = 0.5,
        keep: bool = False,
    ) -> None:
        super().__init__()
        self.personal, self.keep = personal, keep
        self.generator = ParameterGenerator.joined(
            encoder, personal.layout, config, personal.origin(), personal.module.parameters()
        )
        self.weight = 0.0 if keep else weight
        if keep:
            freeze(personal.module)
            self.train(self.training)

    def train(self, mode: bool = True) -> Duet:
        """As of any module; a model that is kept stays in evaluation mode."""
        super().train(mode)
        if self.keep:
            self.personal.module.eval()
        return self

    def generate(self, history_BLx: Tensor) -> Tensor:
        """Histories [B, L] to theta [B, P]: what the cloud does."""
        theta_BP: Tensor = self.generator(history_BLx)
        return theta_BP

    def forward(self, history_BLx: Tensor | None, *inputs: Any, **options: Any) -> Any:
        """The model's output with the parameters of these histories; None gives the global model."""
        theta = None if history_BLx is None else self.generate(history_BLx)
        return self.personal(theta, *inputs, **options)

    def loss(self, objective: Callable[[Any], Tensor], history_BLx: Tensor, *inputs: Any, **options: Any) -> Tensor:
        """The joint objective of a batch; `objective` maps the model's output to a scalar."""
        total, _, _ = joint_loss(
            lambda theta: objective(self.personal(theta, *inputs, **options)), self.generate(history_BLx), self.weight
        )
        return total
