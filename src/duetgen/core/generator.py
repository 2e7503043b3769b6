"""Personalized Parameters Generator: a history in, theta out, in one forward pass (DUET, section 3.2).

Shapes: B devices, L history length, D width of the encoder, K views that its vector is made of, H width of a layer's
embedding, G candidate parameter sets, P values in theta, P_l those of one layer; `*` leading dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Self

import msgspec
import torch
from torch import Tensor, nn

from duetgen.core.encoders import Encoder
from duetgen.core.layout import ParameterLayout
from duetgen.core.stabiliser import StableWeightAdapter, blended


class GeneratorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How theta is made from the encoder's vector.

    Attributes:
        width: H, width of each layer's embedding `e_g`.
        candidates: G of the Stable Weight Adapter; 1 switches it off, 0 is one for each view of the encoder.
        dropout: share of the encoder's vector dropped while training.
        decoder_scale: standard deviation of theta's values when training starts; small, so that training starts from
            the global model, and not zero, so that every parameter receives a gradient from the first step.
        decoder_rank: rank of each decoder's matrix, for fewer parameters of the generator; 0 for full ones.
        frozen: never train the generator: the control that tells what random parameters are worth.
    """

    width: int = 64
    candidates: int = 0
    dropout: float = 0.0
    decoder_scale: float = 1e-3
    decoder_rank: int = 0
    frozen: bool = False

    @property
    def sound(self) -> bool:
        """Whether a generator can be made so."""
        return self.width > 0 <= min(self.candidates, self.decoder_rank) and 0 <= self.dropout < 1


def uniform_(inputs: int, *parameters: Tensor) -> None:
    """Start parameters of a linear map of so many inputs as `nn.Linear` does."""
    for parameter in parameters:
        nn.init.uniform_(parameter, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))


class ViewProjection(nn.Module):
    """A linear map of its own for each view of a history: `A_k v_k + a_k`.

    Args:
        views: K.
        in_width: D, all views together.
        out_width: of what each view gives.

    Raises:
        ValueError: the vector does not divide into the views.
    """

    def __init__(self, views: int, in_width: int, out_width: int) -> None:
        super().__init__()
        if in_width % views:
            raise ValueError(f"an encoder's vector of {in_width} values does not divide into {views} views")
        self.views = views
        self.weight = nn.Parameter(torch.empty(views, in_width // views, out_width))
        self.bias = nn.Parameter(torch.empty(views * out_width))
        uniform_(in_width // views, self.weight, self.bias)

    def forward(self, vector_D: Tensor) -> Tensor:
        """Views side by side [*, D] to [*, K, out]."""
        view_KNE = vector_D.reshape(-1, self.views, self.weight.shape[1]).transpose(0, 1)
        found_KNO = torch.baddbmm(self.bias.view(self.views, 1, -1), view_KNE, self.weight)
        return found_KNO.transpose(0, 1).reshape(*vector_D.shape[:-1], self.views, self.weight.shape[2])


class LayerGenerator(nn.Module):
    """Generates one layer's slice of theta: `e_g = tanh(A_g v_g + a_g)`, blended, then `K = D_l e`.

    With the Stable Weight Adapter each candidate reads one view of the history alone; without, the only one reads all.

    Args:
        in_width: D.
        views: K.
        size: P_l.
        config: see `GeneratorConfig`.

    Raises:
        ValueError: the candidates are not as many for each view.
    """

    def __init__(self, in_width: int, views: int, size: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.config, self.count = config, config.candidates or views
        if self.count > 1 and self.count % views:
            raise ValueError(f"{self.count} candidate parameter sets are not as many for each of {views} views")
        read = views if self.count > 1 else 1
        self.project = ViewProjection(read, in_width, self.count // read * config.width)
        self.stabiliser = StableWeightAdapter(config.width) if self.count > 1 else None
        self.narrow = nn.Linear(config.width, config.decoder_rank, bias=False) if config.decoder_rank else None
        rank = config.decoder_rank or config.width
        self.decoder = nn.Linear(rank, size)
        # tanh of the projection has a variance near 1/3 for inputs of unit scale.
        nn.init.normal_(self.decoder.weight, std=config.decoder_scale * (3 / rank) ** 0.5)
        nn.init.zeros_(self.decoder.bias)
        if self.narrow is not None:
            nn.init.normal_(self.narrow.weight, std=config.width**-0.5)

    def candidates(self, vector_D: Tensor) -> Tensor:
        """Embeddings of the G candidate parameter sets: [*, D] to [*, G, H]."""
        embedded = torch.tanh(self.project(vector_D))
        return embedded.reshape(*vector_D.shape[:-1], self.count, self.config.width)

    def forward(self, vector_D: Tensor) -> Tensor:
        """The layer's slice of theta: [*, D] to [*, P_l]."""
        candidates_GH = self.candidates(vector_D)
        return self.decode(self.stabiliser(candidates_GH) if self.stabiliser is not None else candidates_GH.squeeze(-2))

    def decode(self, blend_H: Tensor) -> Tensor:
        """The slice of theta that an embedding [*, H] stands for: [*, P_l]."""
        if self.narrow is not None:
            blend_H = self.narrow(blend_H)
        slice_P: Tensor = self.decoder(blend_H)
        return slice_P


class ParameterGenerator(nn.Module):
    """Head encoder, one linear map a layer, and decoders: a device's history to its theta.

    Args:
        encoder: the head encoder.
        layout: what theta holds; `Personal(module).layout`.
        config: see `GeneratorConfig`.
    """

    def __init__(self, encoder: Encoder, layout: ParameterLayout, config: GeneratorConfig | None = None) -> None:
        super().__init__()
        self.config = config or GeneratorConfig()
        self.encoder, self.layout = encoder, layout
        self.dropout = nn.Dropout(self.config.dropout)
        self.layers = nn.ModuleList(
            LayerGenerator(encoder.width, encoder.views, size, self.config) for _, size in layout.layers.values()
        )

    @classmethod
    def joined(
        cls,
        encoder: Encoder,
        layout: ParameterLayout,
        config: GeneratorConfig | None,
        origin_P: Tensor,
        trained: Iterable[nn.Parameter],
    ) -> Self:
        """The generator of a model, whose training starts from that model layer by layer.

        Args:
            encoder: reads a history.
            layout: what theta holds.
            config: of the generator; a frozen one is never trained.
            origin_P: the theta that is the global model, see `Personal.origin`.
            trained: parameters of the model: those that the encoder shares are trained, frozen or not.
        """
        generator = cls(encoder, layout, config)
        generator.start_from(origin_P)
        if generator.config.frozen:
            kept = {id(parameter) for parameter in trained}
            for parameter in generator.parameters():
                parameter.requires_grad_(parameter.requires_grad and id(parameter) in kept)
        return generator

    def start_from(self, theta_P: Tensor) -> None:
        """Let training start from `theta_P` [P] for every device: the replacing form starts from the global layers."""
        slices = self.layout.layers.values()
        with torch.no_grad():
            for layer, (offset, size) in zip(self.layers, slices, strict=True):
                assert isinstance(layer, LayerGenerator)
                layer.decoder.bias.copy_(theta_P[offset : offset + size])

    def constant(self) -> Tensor:
        """What of theta is the same for every device, before any history counts: [P]."""
        parts = tuple(layer.decoder.bias for layer in self.layers if isinstance(layer, LayerGenerator))
        return torch.cat(parts).detach()

    def decode(self, vector_D: Tensor) -> Tensor:
        """The encoder's vectors [*, D], one a device or a position, to theta [*, P]."""
        vector_D = self.dropout(vector_D)
        layers = [layer for layer in self.layers if isinstance(layer, LayerGenerator)]
        if torch.compiler.is_exporting() and vector_D.dim() == 2:
            found = blends(layers, vector_D)
            return torch.cat([layer.decode(blend) for layer, blend in zip(layers, found, strict=True)], dim=-1)
        return torch.cat([layer(vector_D) for layer in layers], dim=-1)

    def forward(self, history_BLx: Tensor) -> Tensor:
        """Histories [B, L] (oldest first, right-padded) to theta [B, P]."""
        return self.decode(self.encoder(history_BLx))


def blends(layers: list[LayerGenerator], vector_BD: Tensor) -> tuple[Tensor, ...]:
    """What each layer decodes, [B, H], from products that all layers share: in a graph each operator costs a start of
    its own.
    """
    width, count, views = layers[0].config.width, layers[0].count, layers[0].project.views
    weight_KEX = torch.cat([layer.project.weight for layer in layers], dim=2)
    bias_KX = torch.cat([layer.project.bias.view(views, -1) for layer in layers], dim=1)
    adapters = [layer.stabiliser for layer in layers if layer.stabiliser is not None]
    if not adapters:
        alone: tuple[Tensor, ...] = torch.tanh(vector_BD @ weight_KEX[0] + bias_KX[0]).split(width, 1)
        return alone
    view_KBE = vector_BD.unflatten(1, (views, -1)).transpose(0, 1)
    embedded_KBX = torch.tanh(view_KBE @ weight_KEX + bias_KX.unsqueeze(1))
    candidates_BLKX = embedded_KBX.unflatten(2, (len(layers), -1)).permute(1, 2, 0, 3)
    if count > views:
        candidates_BLKX = candidates_BLKX.reshape(-1, len(layers), count, width)
    joint: tuple[Tensor, ...] = blended(adapters, candidates_BLKX).flatten(1).split(width, 1)
    return joint
