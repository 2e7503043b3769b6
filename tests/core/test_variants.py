"""The further dynamic layers against numbers worked out by hand and against one plain linear layer a row."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from duetgen.core import (
    ConcatLinear,
    Duet,
    DynamicLayer,
    DynamicLinear,
    GeneratorConfig,
    GRUEncoder,
    LowRankDynamicLinear,
    Personal,
    ScaledLinear,
)
from duetgen.core.layout import LayoutMismatchError

KINDS = ["low-rank", "scale", "concat"]
LEADS = [((3,), ()), ((3,), (5,)), ((3, 5), ()), ((3, 5), (2,)), ((3,), (5, 2)), ((), (4,)), ((1,), (6,))]


def make(kind: str, inputs: int = 4, outputs: int = 3) -> DynamicLayer:
    torch.manual_seed(0)
    if kind == "low-rank":
        return LowRankDynamicLinear(inputs, outputs, rank=2)
    return ScaledLinear(inputs, outputs) if kind == "scale" else ConcatLinear(inputs, outputs, vector=2)


def fill(parameter: nn.Parameter, values: list[list[float]] | list[float]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.tensor(values))


def test_low_rank_by_hand() -> None:
    layer = LowRankDynamicLinear(2, 2, rank=1)
    fill(layer.weight, [[1.0, 2.0], [3.0, 4.0]])
    fill(layer.bias, [10.0, 20.0])
    fill(layer.left, [[1.0], [-1.0]])
    fill(layer.right, [[2.0, 3.0]])
    # W + U 0.5 V = [[1 + 1, 2 + 3/2], [3 - 1, 4 - 3/2]]; with x = (1, 2) and Δb = (100, 200).
    output = Personal(layer)(torch.tensor([[0.5, 100.0, 200.0]]), torch.tensor([[1.0, 2.0]]))
    assert output.tolist() == [[2 + 2 * 7 / 2 + 110, 2 + 2 * 5 / 2 + 220]]


def test_scale_by_hand() -> None:
    layer = ScaledLinear(2, 2)
    fill(layer.weight, [[1.0, 2.0], [3.0, 4.0]])
    fill(layer.bias, [10.0, 20.0])
    # x = (1, 2) gives (15, 31); γ = (1/2, -1), β = (100, 200).
    output = Personal(layer)(torch.tensor([[0.5, -1.0, 100.0, 200.0]]), torch.tensor([[1.0, 2.0]]))
    assert output.tolist() == [[15 * 3 / 2 + 100, 200.0]]


def test_concat_by_hand() -> None:
    layer = ConcatLinear(2, 1, vector=3)
    fill(layer.weight, [[1.0, 2.0]])
    fill(layer.bias, [10.0])
    fill(layer.of_vector, [[1.0, 0.5, -1.0]])
    # 1 * 3 + 2 * 4 + 10, and 1 * 2 + 4/2 - 1 * 6.
    output = Personal(layer)(torch.tensor([[2.0, 4.0, 6.0]]), torch.tensor([[3.0, 4.0]]))
    assert output.tolist() == [[21 - 2]]


def test_concat_is_a_static_layer_on_a_longer_input() -> None:
    layer = make("concat")
    assert isinstance(layer, ConcatLinear)
    x, z = torch.randn(5, 4), torch.randn(5, 2)
    longer = functional.linear(torch.cat([x, z], 1), torch.cat([layer.weight, layer.of_vector], 1), layer.bias)
    torch.testing.assert_close(Personal(layer)(z, x), longer)


@pytest.mark.parametrize(("kind", "size"), [("low-rank", 2 * 2 + 3), ("scale", 2 * 3), ("concat", 2)])
def test_size_of_theta(kind: str, size: int) -> None:
    assert make(kind).dynamic_size() == size
    assert Personal(make(kind)).layout.size == size


@pytest.mark.parametrize("kind", KINDS)
class TestVariant:
    def test_theta_zero_is_the_global_layer_bit_for_bit(self, kind: str) -> None:
        layer, x = make(kind), torch.randn(7, 4)
        plain = functional.linear(x, layer.get_parameter("weight"), layer.get_parameter("bias"))
        assert torch.equal(Personal(layer)(torch.zeros(7, layer.dynamic_size()), x), plain)
        assert torch.equal(Personal(layer)(None, x), plain)

    @pytest.mark.parametrize(("lead", "rest"), LEADS)
    def test_theta_of_a_device_a_row_and_a_position_equals_one_layer_each(
        self, kind: str, lead: tuple[int, ...], rest: tuple[int, ...]
    ) -> None:
        personal = Personal(make(kind))
        size = personal.layout.size
        theta, x = torch.randn(*lead, size), torch.randn(*lead, *rest, 4)
        output = personal(theta, x)
        assert output.shape == (*lead, *rest, 3)
        flat = zip(theta.reshape(-1, size), x.reshape(-1, *rest, 4), output.reshape(-1, *rest, 3), strict=True)
        for row_theta, row_x, row in flat:
            torch.testing.assert_close(row, personal(row_theta[None], row_x[None])[0])

    def test_theta_whose_leading_dimensions_do_not_fit_is_refused(self, kind: str) -> None:
        personal = Personal(make(kind))
        with pytest.raises(LayoutMismatchError, match="does not fit an input"):
            personal(torch.zeros(3, personal.layout.size), torch.zeros(2, 4))

    @pytest.mark.parametrize("options", [{}, {"candidates": 3}, {"decoder_rank": 2}])
    def test_every_parameter_of_model_and_generator_receives_a_gradient(
        self, kind: str, options: dict[str, int]
    ) -> None:
        model = nn.Sequential(make(kind), nn.Tanh(), make(kind, 3, 2))
        encoder = GRUEncoder(nn.Embedding(9, 5, padding_idx=0), 5, 6)
        duet = Duet(model, encoder, GeneratorConfig(width=7, **options))
        history = torch.tensor([[3, 4, 5], [1, 2, 0]])
        duet.loss(lambda output: output.square().sum(), history, torch.randn(2, 4)).backward()
        for name, parameter in duet.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_kinds_mix_in_one_layout() -> None:
    personal = Personal(nn.Sequential(DynamicLinear(4, 4), make("low-rank"), make("scale", 3, 3)))
    names = [entry.name for entry in personal.layout.entries]
    assert names == ["0.weight", "0.bias", "1.core", "1.bias", "2.scale", "2.shift"]
    x = torch.randn(2, 4)
    assert torch.equal(personal(torch.zeros(2, personal.layout.size), x), personal(None, x))
