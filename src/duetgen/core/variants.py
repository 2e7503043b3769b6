"""Further dynamic layers: other ways for a few generated values to change what a linear layer computes.

Each is a linear layer with a global weight W and bias b, and gives exactly that layer at theta = 0.

Shapes: P_l values of theta that belong to the layer, K rank or size of the generated vector; `*` leading dimensions
shared by theta and input, `...` further dimensions of the input that share one theta.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from duetgen.core.dynamic import DynamicLayer, uniform_


class LinearVariant(DynamicLayer):
    """A linear layer whose global part is static once trained: base of the layers below.

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        uniform_(in_features, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        return f"{self.in_features}, {self.out_features}, generated={self.dynamic_size()}"

    def forward(self, input: Tensor) -> Tensor:
        """Input [*, ..., in] to output [*, ..., out]; theta, if any, is [*, P_l].

        Raises:
            LayoutMismatchError: theta's leading dimensions are not the input's first ones.
        """
        output: Tensor = functional.linear(input, self.weight, self.bias)
        if self.theta.numel() == 0:
            return output
        self.check_lead(input)
        return self.changed(input, output)

    def changed(self, input: Tensor, output: Tensor) -> Tensor:
        """What theta makes of the global layer's input and output."""
        raise NotImplementedError

    def beside(self, part: Tensor, input: Tensor) -> Tensor:
        """A part of theta [*, n] with the dimensions of the input: [*, 1..., n]."""
        for _ in range(input.dim() - part.dim()):
            part = part.unsqueeze(-2)
        return part


class LowRankDynamicLinear(LinearVariant):
    """Computes `x (W + U ΔS V)ᵀ + b + Δb` with U [out, K] and V [K, in] shared by all devices and (ΔS, Δb) from theta.

    The low-rank form of adaptive parameter generation (APG, NeurIPS 2022, section 3.2), as a shift of a global layer
    where the paper generates the whole of it. Theta has K² + out values instead of out (in + 1).

    Args:
        in_features: see `LinearVariant`.
        out_features: see `LinearVariant`.
        rank: K.
    """

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__(in_features, out_features)
        self.rank = rank
        self.left = nn.Parameter(torch.empty(out_features, rank))
        self.right = nn.Parameter(torch.empty(rank, in_features))
        nn.init.normal_(self.left, std=rank**-0.5)
        nn.init.normal_(self.right, std=in_features**-0.5)

    def dynamic_shapes(self) -> dict[str, tuple[int, ...]]:
        """The core ΔS and the bias."""
        return {"core": (self.rank, self.rank), "bias": (self.out_features,)}

    def changed(self, input: Tensor, output: Tensor) -> Tensor:
        """Adds `x Vᵀ ΔSᵀ Uᵀ + Δb`; no matrix of the layer's full size is made."""
        core = self.theta[..., : self.rank**2].reshape(-1, self.rank, self.rank)
        narrow = functional.linear(input, self.right)
        turned = torch.bmm(narrow.reshape(core.shape[0], -1, self.rank), core.transpose(1, 2))
        shift = functional.linear(turned.reshape(*input.shape[:-1], self.rank), self.left)
        return output + shift + self.beside(self.theta[..., self.rank**2 :], input)


class ScaledLinear(LinearVariant):
    """Computes `(x Wᵀ + b) (1 + γ) + β` with (γ, β) from theta: feature-wise modulation (FiLM, AAAI 2018, section 2.1).

    Theta has 2 out values.
    """

    def dynamic_shapes(self) -> dict[str, tuple[int, ...]]:
        """The scale γ and the shift β."""
        return {"scale": (self.out_features,), "shift": (self.out_features,)}

    def changed(self, input: Tensor, output: Tensor) -> Tensor:
        """Scales and shifts each feature of the output."""
        scale, shift = self.theta[..., : self.out_features], self.theta[..., self.out_features :]
        return output * (1 + self.beside(scale, input)) + self.beside(shift, input)


class ConcatLinear(LinearVariant):
    """Computes `[x, z] [W, U]ᵀ + b = x Wᵀ + z Uᵀ + b` with the vector z [K] from theta: what a static layer makes of an
    input to which a description of the device is appended.

    U is shared by all devices, so theta has K values whatever the layer's size, and personalises the bias alone.

    Args:
        in_features: see `LinearVariant`.
        out_features: see `LinearVariant`.
        vector: K.
    """

    def __init__(self, in_features: int, out_features: int, vector: int) -> None:
        super().__init__(in_features, out_features)
        self.vector = vector
        self.of_vector = nn.Parameter(torch.empty(out_features, vector))
        uniform_(vector, self.of_vector)

    def dynamic_shapes(self) -> dict[str, tuple[int, ...]]:
        """The vector z."""
        return {"vector": (self.vector,)}

    def changed(self, input: Tensor, output: Tensor) -> Tensor:
        """Adds `z Uᵀ`."""
        return output + self.beside(functional.linear(self.theta, self.of_vector), input)
