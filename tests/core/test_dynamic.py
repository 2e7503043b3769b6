"""The dynamic layer against numbers worked out by hand and against plain torch, layer by layer and row by row."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from duetgen.core import DynamicLayer, DynamicLinear, Personal
from duetgen.core.dynamic import MERGED_ROWS
from duetgen.core.layout import LayoutMismatchError
from duetgen.core.personal import NothingDynamicError


def set_parameters(layer: DynamicLinear, weight: list[list[float]], bias: list[float] | None) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(torch.tensor(bias))


def test_residual_adds_to_weights_and_bias_by_hand() -> None:
    layer = DynamicLinear(2, 1)
    set_parameters(layer, [[1.0, 2.0]], [10.0])
    # (1 + 0.5) * 3 + (2 - 1) * 4 + 10 + 100
    output = Personal(layer)(torch.tensor([[0.5, -1.0, 100.0]]), torch.tensor([[3.0, 4.0]]))
    assert output.tolist() == [[118.5]]


def test_replacing_ignores_the_global_parameters_by_hand() -> None:
    layer = DynamicLinear(2, 1, residual=False)
    set_parameters(layer, [[1.0, 2.0]], [10.0])
    output = Personal(layer)(torch.tensor([[0.5, -1.0, 100.0]]), torch.tensor([[3.0, 4.0]]))
    assert output.tolist() == [[97.5]]


def test_without_bias_theta_is_the_weight_alone() -> None:
    layer = DynamicLinear(2, 1, bias=False)
    set_parameters(layer, [[1.0, 2.0]], None)
    assert layer.dynamic_size() == 2
    assert Personal(layer)(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0]])).tolist() == [[18.0]]
    many = Personal(layer)(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0]]).expand(1, MERGED_ROWS, 2))
    assert many.tolist() == [[[18.0]] * MERGED_ROWS]


def test_many_rows_a_theta_give_the_gradients_of_few() -> None:
    torch.manual_seed(0)
    layer = DynamicLinear(4, 3)
    theta, x = torch.randn(2, 15, requires_grad=True), torch.randn(2, MERGED_ROWS, 4, requires_grad=True)
    inputs = (theta, x, layer.weight, layer.bias)
    merged = torch.autograd.grad(Personal(layer)(theta, x).square().sum(), inputs)
    few = torch.cat([Personal(layer)(theta, part) for part in x.split(MERGED_ROWS // 2, dim=1)], dim=1)
    for one, other in zip(merged, torch.autograd.grad(few.square().sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(
    ("lead", "rest"),
    [
        ((3,), ()),
        ((3,), (5,)),
        ((3, 5), ()),
        ((3, 5), (2,)),
        ((3,), (5, 2)),
        ((), (4,)),
        ((1,), (6,)),
        ((3,), (MERGED_ROWS,)),
        ((2, 3), (2, MERGED_ROWS // 2)),
    ],
)
def test_theta_of_a_device_a_row_and_a_position_equals_one_linear_each(
    residual: bool, lead: tuple[int, ...], rest: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer = DynamicLinear(4, 3, residual=residual)
    theta, x = torch.randn(*lead, 15), torch.randn(*lead, *rest, 4)
    output = Personal(layer)(theta, x)
    assert output.shape == (*lead, *rest, 3)
    flat_theta, flat_x, flat = theta.reshape(-1, 15), x.reshape(-1, *rest, 4), output.reshape(-1, *rest, 3)
    for row_theta, row_x, row in zip(flat_theta, flat_x, flat, strict=True):
        weight, bias = row_theta[:12].reshape(3, 4), row_theta[12:]
        if residual:
            weight, bias = weight + layer.weight, bias + layer.bias
        torch.testing.assert_close(row, functional.linear(row_x, weight, bias))


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 4)])
def test_theta_whose_leading_dimensions_do_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutMismatchError):
        Personal(DynamicLinear(4, 3))(torch.zeros(*shape, 15), torch.zeros(2, 4))


class ToyScale(DynamicLayer):
    """A further layer type: a learnt factor a feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (self.factor + self.theta if self.theta.numel() else self.factor)


def test_another_layer_type_joins_the_layout() -> None:
    personal = Personal(nn.Sequential(DynamicLinear(2, 2), ToyScale(2)))
    assert [entry.name for entry in personal.layout.entries] == ["0.weight", "0.bias", "1.factor"]
    theta = torch.zeros(1, 8)
    theta[0, 6:] = torch.tensor([1.0, -1.0])
    x = torch.randn(1, 2)
    plain = personal(None, x)
    torch.testing.assert_close(personal(theta, x), plain * torch.tensor([2.0, 0.0]))


def toy_model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), DynamicLinear(4, 4), nn.ReLU(), DynamicLinear(4, 2))


def test_theta_zero_is_the_global_model_bit_for_bit() -> None:
    personal = Personal(toy_model())
    x = torch.randn(9, 3)
    assert torch.equal(personal(torch.zeros(9, personal.layout.size), x), personal.module(x))
    assert torch.equal(personal(None, x), personal.module(x))


def test_the_replacing_form_with_the_global_parameters_is_the_global_model() -> None:
    model = nn.Sequential(DynamicLinear(3, 3, residual=False), nn.ReLU(), DynamicLinear(3, 1, residual=False))
    personal, x = Personal(model), torch.randn(5, 3)
    torch.testing.assert_close(personal(personal.global_theta().expand(5, -1), x), model(x))


def test_a_call_leaves_no_trace() -> None:
    personal = Personal(toy_model())
    before = {name: tensor.clone() for name, tensor in personal.state_dict().items()}
    x = torch.randn(2, 3)
    plain = personal.module(x)
    personal(torch.randn(2, personal.layout.size), x)
    assert torch.equal(personal.module(x), plain)
    assert before.keys() == personal.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in personal.state_dict().items())
    assert not any("theta" in name for name in before)


def test_gradients_reach_theta_and_the_global_parameters() -> None:
    personal = Personal(toy_model())
    theta = torch.randn(2, personal.layout.size, requires_grad=True)
    personal(theta, torch.randn(2, 3)).square().sum().backward()
    assert theta.grad is not None
    assert theta.grad.abs().sum() > 0
    assert all(p.grad is not None for p in personal.parameters())


def test_a_module_without_dynamic_layer_is_refused() -> None:
    with pytest.raises(NothingDynamicError, match="no dynamic layer"):
        Personal(nn.Linear(2, 2))


def test_theta_of_another_model_is_refused() -> None:
    personal = Personal(toy_model())
    with pytest.raises(LayoutMismatchError, match="this model takes 30"):
        personal(torch.zeros(2, 29), torch.zeros(2, 3))
