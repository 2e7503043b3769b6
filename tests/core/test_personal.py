"""Running a module with theta: nothing is left behind, and nothing goes by in silence."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.core.making import personal
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from duetgen.core import Personal, make_change
from duetgen.core.layers import NotPersonalisableError
from duetgen.core.layout import LayoutMismatchError
from duetgen.core.personal import NotCalledError, NothingDynamicError, WrongBatchDimensionError


def toy() -> Personal:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    return personal(model, "full", "2,4")


def test_theta_zero_is_the_global_model_bit_for_bit() -> None:
    model, x = toy(), torch.randn(9, 3)
    assert torch.equal(model(torch.zeros(9, model.layout.size), x), model.module(x))
    assert torch.equal(model(None, x), model.module(x))


def test_no_device_has_no_rows() -> None:
    model = toy()
    assert model(torch.zeros(0, model.layout.size), torch.zeros(0, 3)).shape == (0, 2)
    with pytest.raises(LayoutMismatchError, match="of no device"):
        model(torch.zeros(0, model.layout.size), torch.zeros(4, 3))


def test_a_call_leaves_no_trace() -> None:
    model, x = toy(), torch.randn(2, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model.module(x)
    model(torch.randn(2, model.layout.size), x)
    assert torch.equal(model.module(x), plain)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_call_that_fails_leaves_no_trace_either() -> None:
    model = toy()
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, model.layout.size), torch.randn(2, 9))
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_gradients_reach_theta_and_the_global_parameters() -> None:
    model = toy()
    theta = torch.randn(2, model.layout.size, requires_grad=True)
    model(theta, torch.randn(2, 3)).square().sum().backward()
    assert theta.grad is not None
    assert theta.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.parameters())


def test_a_module_without_a_layer_to_change_is_refused() -> None:
    with pytest.raises(NothingDynamicError, match="no layer of Linear is personal"):
        Personal(nn.Linear(2, 2), {})


def test_theta_of_another_model_is_refused() -> None:
    with pytest.raises(LayoutMismatchError, match="this model takes 30"):
        toy()(torch.zeros(2, 29), torch.zeros(2, 3))


class ReadsWeights(nn.Module):
    """Computes its layer's product itself: nobody calls the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.inner.weight, self.inner.bias)


@pytest.mark.parametrize("shape", [(2,), ()])
def test_a_layer_whose_weights_are_read_and_that_is_not_called_is_refused(shape: tuple[int, ...]) -> None:
    model = personal(ReadsWeights(), "scale", "inner")
    with pytest.raises(NotCalledError, match="did not call inner"):
        model(torch.zeros(*shape, model.layout.size), torch.randn(2, 3))


@pytest.mark.parametrize("theta", [np.zeros((2, 30)), [0.0] * 30, torch.tensor(0.0)])
def test_a_theta_that_is_no_tensor_of_values_is_refused(theta: Any) -> None:
    with pytest.raises(LayoutMismatchError, match="not a tensor of 30 values"):
        toy()(theta, torch.zeros(2, 3))


class Partly(nn.Module):
    """Computes a layer without gradients: within `torch.no_grad`, or again in the backward pass."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.inner, self.head, self.again = nn.Linear(3, 3), nn.Linear(3, 2), again

    def forward(self, x: Tensor) -> Tensor:
        if self.again:
            inner = checkpoint(self.inner, x.requires_grad_(), use_reentrant=True)
        else:
            with torch.no_grad():
                inner = self.inner(x)
        output: Tensor = self.head(inner)
        return output


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("lead", [(2,), ()])
def test_theta_that_would_not_be_trained_is_refused(again: bool, lead: tuple[int, ...]) -> None:
    model = personal(Partly(again), "scale", "inner")
    theta = torch.zeros(*lead, model.layout.size, requires_grad=True)
    with pytest.raises(NotPersonalisableError, match="inner is computed without gradients"):
        model(theta, torch.randn(2, 3))
    with torch.no_grad():
        assert model(theta, torch.randn(2, 3)).shape == (2, 2)


class Stepwise(nn.Module):
    """A recurrent network that has time first, and looks as if it had rows there."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gru, self.head = nn.Linear(3, 3), nn.GRU(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.gru(self.inner(x))[0])
        return output


def test_theta_for_other_steps_is_refused_however_little_it_does() -> None:
    torch.manual_seed(0)
    theta, x = torch.zeros(3, 10), torch.randn(6, 3, 3)  # six steps of three devices
    with pytest.raises(WrongBatchDimensionError):
        personal(Stepwise(), "scale", "inner,head")(theta, x)
    module = Stepwise()
    changes = {name: make_change(module, name, "scale") for name in ("inner", "head")}
    assert Personal(module, changes, batch_dim=1)(theta, x).shape == (6, 3, 2)


class Noisy(nn.Module):
    """Draws random numbers, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.inner(x) + torch.randn(len(x), 2)
        return output


def test_what_a_model_draws_is_not_taken_for_another_devices_theta() -> None:
    model = personal(Noisy(), "scale", "inner")
    model(torch.zeros(2, 4), torch.randn(2, 3))
    assert model.proved


class TimeFirst(nn.Module):
    """Takes devices first and has them second inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.inner(x.transpose(0, 1)).transpose(0, 1)
        return output


@pytest.mark.parametrize("kind", ["full", "low-rank", "scale", "prefix", "concat"])
class TestTimeFirst:
    def test_as_many_devices_as_steps_in_the_wrong_place_are_refused(self, kind: str) -> None:
        model = personal(TimeFirst(), kind, "inner")
        with pytest.raises(WrongBatchDimensionError, match="for another device"):
            model(torch.zeros(4, model.layout.size), torch.randn(4, 4, 3))

    def test_told_where_they_are_each_has_its_own(self, kind: str) -> None:
        module = TimeFirst()
        model = Personal(module, {"inner": make_change(module, "inner", kind, 2)}, batch_dim={"": 0, "inner": 1})
        theta, x = torch.randn(4, model.layout.size), torch.randn(4, 4, 3)
        output = model(theta, x)
        for device in range(4):
            torch.testing.assert_close(output[device], model(theta[device], x)[device])
        assert model.proved


def test_several_rows_a_device_lie_device_by_device() -> None:
    model = toy()
    theta, x = torch.randn(2, model.layout.size), torch.randn(6, 3)
    output = model(theta, x)
    torch.testing.assert_close(output[:3], model(theta[0], x[:3]))
    torch.testing.assert_close(output[3:], model(theta[1], x[3:]))


def test_an_input_that_all_devices_share_becomes_each_ones_own() -> None:
    model = personal(nn.Embedding(5, 2), "scale")
    theta = torch.randn(3, 4)
    output = model(theta, torch.arange(5)[None])
    assert output.shape == (3, 5, 2)
    torch.testing.assert_close(output[1], model(theta[1], torch.arange(5)))


def test_the_proof_leaves_modes_statistics_and_random_numbers_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model = personal(module, "scale", "0,3").train()
    module[1].eval()
    state, statistics = torch.get_rng_state(), module[1].running_mean
    model.prove((2,), torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    assert model.proved
    assert [child.training for child in module] == [True, False, True, True]
    assert torch.equal(state, torch.get_rng_state())
    assert statistics is not None
    assert torch.equal(statistics, torch.zeros(4))


class Named(nn.Module):
    """Takes its input by name and gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, *, x: Tensor) -> dict[str, Any]:
        return {"y": self.inner(input=x), "note": "text"}


def test_inputs_by_name_and_outputs_of_any_shape() -> None:
    model, x = personal(Named(), "scale", "inner"), torch.randn(2, 3)
    theta = torch.randn(2, 4)
    assert torch.equal(model(torch.zeros(2, 4), x=x)["y"], model.module(x=x)["y"])
    torch.testing.assert_close(model(theta, x=x)["y"][1], model(theta[1], x=x)["y"][1])
