"""What theta does to a linear layer, by hand and against one layer a row, kind by kind."""

import pytest
import torch
from tests.core.making import fill, personal
from torch import nn
from torch.nn import functional

from duetgen.core import KINDS, Duet, GeneratorConfig, GRUEncoder, Personal, make_change
from duetgen.core.changes.full import MERGED_ROWS
from duetgen.core.layout import LayoutMismatchError

LEADS = [
    ((3,), ()),
    ((3,), (5,)),
    ((3, 5), ()),
    ((3, 5), (2,)),
    ((3,), (5, 2)),
    ((), (4,)),
    ((1,), (6,)),
    ((3,), (MERGED_ROWS,)),
    ((2, 3), (2, MERGED_ROWS // 2)),
]


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    fill(layer.weight, weight)
    if bias is not None:
        fill(layer.bias, bias)
    return layer


def test_full_adds_to_weights_and_bias_by_hand() -> None:
    # (1 + 0.5) * 3 + (2 - 1) * 4 + 10 + 100
    output = personal(linear([[1.0, 2.0]], [10.0]))(torch.tensor([[0.5, -1.0, 100.0]]), torch.tensor([[3.0, 4.0]]))
    assert output.tolist() == [[118.5]]


def test_the_replacing_form_ignores_the_global_parameters_by_hand() -> None:
    model = personal(linear([[1.0, 2.0]], [10.0]), residual=False)
    assert model(torch.tensor([[0.5, -1.0, 100.0]]), torch.tensor([[3.0, 4.0]])).tolist() == [[97.5]]


def test_without_bias_theta_is_the_weight_alone() -> None:
    model = personal(linear([[1.0, 2.0]]))
    assert model.layout.size == 2
    assert model(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0]])).tolist() == [[18.0]]
    many = model(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 4.0]]).expand(1, MERGED_ROWS, 2))
    assert many.tolist() == [[[18.0]] * MERGED_ROWS]


def test_low_rank_by_hand() -> None:
    model = personal(linear([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0]), "low-rank", rank=1)
    fill(model.get_parameter("changes.0.left"), [[1.0], [-1.0]])
    fill(model.get_parameter("changes.0.right"), [[2.0, 3.0]])
    # W + U 0.5 V = [[1 + 1, 2 + 3/2], [3 - 1, 4 - 3/2]]; with x = (1, 2) and Δb = (100, 200).
    output = model(torch.tensor([[0.5, 100.0, 200.0]]), torch.tensor([[1.0, 2.0]]))
    assert output.tolist() == [[2 + 2 * 7 / 2 + 110, 2 + 2 * 5 / 2 + 220]]


def test_scale_by_hand() -> None:
    model = personal(linear([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0]), "scale")
    # x = (1, 2) gives (15, 31); γ = (1/2, -1), β = (100, 200).
    output = model(torch.tensor([[0.5, -1.0, 100.0, 200.0]]), torch.tensor([[1.0, 2.0]]))
    assert output.tolist() == [[15 * 3 / 2 + 100, 200.0]]


def test_prefix_by_hand() -> None:
    model = personal(linear([[1.0]], [10.0]), "prefix")
    fill(model.get_parameter("changes.0.keys"), [[0.0], [0.0]])
    # Keys that are alike share the row's look between the two vectors: 3 + 10 and (4 + 6) / 2.
    assert model(torch.tensor([[4.0, 6.0]]), torch.tensor([[3.0]])).tolist() == [[18.0]]


def test_concat_by_hand() -> None:
    model = personal(linear([[1.0, 2.0]], [10.0]), "concat", rank=3)
    fill(model.get_parameter("changes.0.of_vector"), [[1.0, 0.5, -1.0]])
    # 1 * 3 + 2 * 4 + 10, and 1 * 2 + 4/2 - 1 * 6.
    assert model(torch.tensor([[2.0, 4.0, 6.0]]), torch.tensor([[3.0, 4.0]])).tolist() == [[21 - 2]]


def test_concat_is_a_static_layer_on_a_longer_input() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    model, x, z = personal(layer, "concat"), torch.randn(5, 4), torch.randn(5, 2)
    of_vector = model.get_parameter("changes.0.of_vector")
    longer = functional.linear(torch.cat([x, z], 1), torch.cat([layer.weight, of_vector], 1), layer.bias)
    torch.testing.assert_close(model(z, x), longer)


@pytest.mark.parametrize(
    ("kind", "size"),
    [("full", 4 * 3 + 3), ("low-rank", 2 * 2 + 3), ("scale", 2 * 3), ("prefix", 2 * 3), ("concat", 2)],
)
def test_size_of_theta(kind: str, size: int) -> None:
    assert personal(nn.Linear(4, 3), kind).layout.size == size


def test_many_rows_a_theta_give_the_gradients_of_few() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    model = personal(layer)
    theta, x = torch.randn(2, 15, requires_grad=True), torch.randn(2, MERGED_ROWS, 4, requires_grad=True)
    inputs = (theta, x, layer.weight, layer.bias)
    merged = torch.autograd.grad(model(theta, x).square().sum(), inputs)
    few = torch.cat([model(theta, part) for part in x.split(MERGED_ROWS // 2, dim=1)], dim=1)
    for one, other in zip(merged, torch.autograd.grad(few.square().sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_many_rows_of_theta_zero_are_the_layer_bit_for_bit() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(33, 17), torch.randn(3, MERGED_ROWS, 33)
    model = personal(layer)
    theta = torch.randn(3, model.layout.size)
    theta[1] = 0
    with torch.no_grad():
        assert torch.equal(model(theta, x)[1], layer(x)[1])
        assert not torch.allclose(model(theta, x)[2], layer(x)[2], atol=0.1)


@pytest.mark.parametrize(("lead", "rest"), LEADS)
def test_replacing_parameters_equal_one_linear_each(lead: tuple[int, ...], rest: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    theta, x = torch.randn(*lead, 15), torch.randn(*lead, *rest, 4)
    output = personal(nn.Linear(4, 3), residual=False)(theta, x)
    flat = zip(theta.reshape(-1, 15), x.reshape(-1, *rest, 4), output.reshape(-1, *rest, 3), strict=True)
    for row_theta, row_x, row in flat:
        torch.testing.assert_close(row, functional.linear(row_x, row_theta[:12].reshape(3, 4), row_theta[12:]))


@pytest.mark.parametrize("kind", KINDS)
class TestKind:
    def test_theta_zero_is_the_global_layer_bit_for_bit(self, kind: str) -> None:
        layer, x = nn.Linear(4, 3), torch.randn(7, 4)
        model = personal(layer, kind)
        for theta in (None, torch.zeros(7, model.layout.size), torch.zeros(model.layout.size)):
            assert torch.equal(model(theta, x), layer(x))

    @pytest.mark.parametrize(("lead", "rest"), LEADS)
    def test_theta_of_a_device_a_row_and_a_position_equals_one_layer_each(
        self, kind: str, lead: tuple[int, ...], rest: tuple[int, ...]
    ) -> None:
        torch.manual_seed(0)
        model = personal(nn.Linear(4, 3), kind)
        size = model.layout.size
        theta, x = torch.randn(*lead, size), torch.randn(*lead, *rest, 4)
        output = model(theta, x)
        assert output.shape == (*lead, *rest, 3)
        flat = zip(theta.reshape(-1, size), x.reshape(-1, *rest, 4), output.reshape(-1, *rest, 3), strict=True)
        for row_theta, row_x, row in flat:
            torch.testing.assert_close(row, model(row_theta, row_x))

    @pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 4)])
    def test_theta_whose_leading_dimensions_do_not_fit_is_refused(self, kind: str, shape: tuple[int, ...]) -> None:
        model = personal(nn.Linear(4, 3), kind)
        with pytest.raises(LayoutMismatchError, match="does not fit an input"):
            model(torch.zeros(*shape, model.layout.size), torch.zeros(2, 4))

    @pytest.mark.parametrize("options", [{}, {"candidates": 3}, {"decoder_rank": 2}])
    def test_every_parameter_of_model_and_generator_receives_a_gradient(
        self, kind: str, options: dict[str, int]
    ) -> None:
        torch.manual_seed(0)
        model = personal(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), kind, "0,2")
        encoder = GRUEncoder(nn.Embedding(9, 5, padding_idx=0), 5, 6)
        duet = Duet(model, encoder, GeneratorConfig(width=7, **options))
        history = torch.tensor([[3, 4, 5], [1, 2, 0]])
        duet.loss(lambda output: output.square().sum(), history, torch.randn(2, 4)).backward()
        for name, parameter in duet.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_kinds_mix_in_one_layout() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(3, 3))
    kinds = {"0": "full", "1": "low-rank", "2": "scale"}
    mixed = Personal(model, {name: make_change(model, name, kind, rank=2) for name, kind in kinds.items()})
    names = [entry.name for entry in mixed.layout.entries]
    assert names == ["0.weight", "0.bias", "1.core", "1.bias", "2.scale", "2.shift"]
    x = torch.randn(2, 4)
    assert torch.equal(mixed(torch.zeros(2, mixed.layout.size), x), model(x))


def test_residual_and_replacing_layers_side_by_side_start_from_the_global_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 2))
    changes = {
        "0": make_change(model, "0", "full"),
        "2": make_change(model, "2", "scale"),
        "3": make_change(model, "3", "full", residual=False),
    }
    mixed = Personal(model, changes)
    assert mixed.origin()[: 15 + 6].tolist() == [0.0] * 21
    assert torch.equal(mixed.origin()[21:], torch.cat([model[3].weight.flatten(), model[3].bias]).detach())
    duet = Duet(mixed, GRUEncoder(nn.Embedding(9, 5, padding_idx=0), 5, 6))
    x = torch.randn(2, 4)
    torch.testing.assert_close(duet(torch.tensor([[3, 4], [1, 0]]), x), model(x), atol=0.02, rtol=0)
