"""Running a module with theta: nothing is left behind, and nothing goes by in silence."""

import copy
import io
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from duetgen.core.personal import NotCalledError, NothingDynamicError
from duetgen.core.proof import WrongBatchDimensionError


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


class Checkpointed(nn.Module):
    """Keeps gradients, and computes a layer again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(checkpoint(lambda x: torch.tanh(self.inner(x)), x, use_reentrant=False))
        return output


@pytest.mark.parametrize("kind", ["full", "scale"])
@pytest.mark.parametrize("lead", [(2,), ()])
def test_a_layer_that_is_computed_again_without_theta_is_refused(kind: str, lead: tuple[int, ...]) -> None:
    model = personal(Checkpointed(), kind, "inner")
    for trained in (True, False):  # the global parameters would get wrong gradients too
        theta = torch.zeros(*lead, model.layout.size, requires_grad=trained)
        with pytest.raises(NotPersonalisableError, match="again without theta in the backward pass"):
            model(theta, torch.randn(2, 3))
    with torch.no_grad():
        assert model(theta, torch.randn(2, 3)).shape == (2, 2)
    with torch.autograd.graph.save_on_cpu():
        outside = personal(Checkpointed(), kind, "head")
        assert outside(torch.zeros(outside.layout.size), torch.randn(2, 3)).shape == (2, 2)


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


def test_a_call_that_tells_nothing_proves_nothing() -> None:
    torch.manual_seed(0)
    model = personal(Stepwise(), "scale", "inner,head")
    model(torch.randn(3, 10), torch.randn(1, 3, 3))  # one step, as if all devices shared a row
    with pytest.raises(WrongBatchDimensionError):
        model(torch.randn(3, 10), torch.randn(6, 3, 3))


class Sorted(nn.Module):
    """Computes rows by their lengths, the longest first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        order = lengths.argsort(descending=True)
        output: Tensor = self.inner(x[order])[order.argsort()]
        return output


@pytest.mark.parametrize("lengths", [[2, 4, 3, 1], [4, 1, 2, 3]])
def test_devices_in_another_order_are_refused_where_one_stays_in_its_place(lengths: list[int]) -> None:
    with pytest.raises(WrongBatchDimensionError):
        personal(Sorted(), "scale", "inner")(torch.randn(4, 4), torch.randn(4, 3), torch.tensor(lengths))


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


class WithLoss(TimeFirst):
    """Gives a loss in training, and else what it is of."""

    def forward(self, x: Tensor) -> Tensor:
        output = super().forward(x)
        return output.square().mean() if self.training else output


def test_a_loss_proves_nothing() -> None:
    model = personal(WithLoss(), "scale", "inner").train()
    model(torch.zeros(4, 4), torch.randn(4, 4, 3))
    with pytest.raises(WrongBatchDimensionError):
        model.eval()(torch.zeros(4, 4), torch.randn(4, 4, 3))


@dataclass
class Output:
    """What a model gives, in a class of its own."""

    logits: Tensor


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "dataclass": Output,
    "distribution": lambda y: torch.distributions.Normal(y, 1.0),
    "in lists": lambda y: {"all": [{"logits": y}]},
    "masked": lambda y: torch.cat([y, torch.full_like(y, -torch.inf)], dim=-1),
    "complex": lambda y: torch.complex(y, y),
}


@pytest.mark.parametrize("made", OUTPUTS.values(), ids=OUTPUTS)
def test_devices_in_the_wrong_place_are_refused_whatever_the_model_gives(made: Callable[[Tensor], Any]) -> None:
    class Given(TimeFirst):
        def forward(self, x: Tensor) -> Any:
            return made(super().forward(x))

    module = Given()
    with pytest.raises(WrongBatchDimensionError):
        personal(module, "scale", "inner")(torch.zeros(4, 4), torch.randn(4, 4, 3))
    told = Personal(module, {"inner": make_change(module, "inner", "scale")}, batch_dim={"": 0, "inner": 1})
    told(torch.zeros(4, 4), torch.randn(4, 4, 3))
    assert told.proved


class WithStates(nn.Module):
    """A recurrent network that gives its states too: [layers, devices, H], as many layers as devices."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.lstm = nn.Linear(3, 3), nn.LSTM(3, 4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.lstm(self.inner(x))


def test_states_of_as_many_layers_as_devices_are_no_wrong_place() -> None:
    model, x = personal(WithStates(), "scale", "inner"), torch.randn(2, 5, 3)
    theta = torch.randn(2, 6)
    output, (state, _) = model(theta, x)
    alone, (state_alone, _) = model(theta[1], x)
    torch.testing.assert_close(output[1], alone[1])
    torch.testing.assert_close(state[:, 1], state_alone[:, 1])


class Detector(nn.Module):
    """Gives what it finds, as much as there is: with another theta, more or less."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [found[found[:, 0] > 0] for found in self.inner(x)] + [row for row in self.inner(x).flatten() if row > 0]


def test_outputs_of_sizes_that_theta_changes() -> None:
    torch.manual_seed(0)
    assert personal(Detector(), "full", "inner")(torch.randn(2, 8), torch.randn(2, 9, 3))


def test_as_many_findings_of_each_device_are_no_rows_of_devices() -> None:
    class Ranked(nn.Module):
        """The best of each device's rows, in a list."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            return [{"score": rows.sort(0)[0][:6], "place": rows.argsort(0)[:6]} for rows in self.inner(x)]

    for devices in (2, 3):
        model = personal(Ranked(), "full", "inner")
        model(torch.randn(devices, 8), torch.randn(devices, 9, 3))
        assert model.proved


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
    model, calls = personal(nn.Embedding(5, 2), "scale"), []
    model.module.register_forward_hook(lambda *call: calls.append(call))
    theta = torch.randn(3, 4)
    for _ in range(2):
        output = model(theta, torch.arange(5)[None])
    assert len(calls) == 4 + 1  # no second proof of what the first one could not tell
    assert output.shape == (3, 5, 2)
    torch.testing.assert_close(output[1], model(theta[1], torch.arange(5)))


def test_the_proof_leaves_modes_statistics_and_random_numbers_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model = personal(module, "scale", "0,3").train()
    module[1].eval()
    state, statistics = torch.get_rng_state(), module[1].running_mean
    assert model.prove(2, (torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),), {})
    assert [child.training for child in module] == [True, False, True, True]
    assert torch.equal(state, torch.get_rng_state())
    assert statistics is not None
    assert torch.equal(statistics, torch.zeros(4))


class Past:
    """What a model keeps of a sequence between its calls."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.owner = self


class Continued(nn.Module):
    """Changes what it is given, its own state, and what hangs on its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.part = nn.Linear(3, 3), nn.Parameter(torch.randn(3, 3))
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))
        self.calls, self.merged = 0, False

    def train(self, mode: bool = True) -> "Continued":
        super().train(mode)
        if self.merged == mode:
            with torch.no_grad():
                self.inner.weight += -self.part if mode else self.part
            self.merged = not mode
        return self

    def forward(self, x: Tensor, past: Past) -> Tensor:
        self.calls += 1
        self.seen = self.seen + 1
        self.total += 1
        past.keys.append(self.inner(x.sub_(1)))
        found = torch.stack(past.keys).sum(0) + (0 if self.merged else x @ self.part.T)
        return found * self.seen * self.total


@pytest.mark.parametrize("training", [True, False])
def test_the_proof_leaves_no_trace_in_the_model_or_what_it_is_given(training: bool) -> None:
    module = Continued().train(training)
    model, x, past = personal(module, "full", "inner"), torch.randn(3, 3), Past()
    theta, weight = torch.randn(3, 12), module.inner.weight.clone()
    alone = [model(own, x.clone(), Past())[row] / (row + 1) ** 2 for row, own in enumerate(theta)]
    module.calls, module.seen, module.total = 0, torch.zeros(()), torch.zeros(())
    torch.testing.assert_close(model(theta, x, past), torch.stack(alone))
    assert (model.proved, len(past.keys), module.calls) == (True, 1, 1)
    assert (module.seen, module.total, module.merged) == (1, 1, not training)
    torch.testing.assert_close(module.inner.weight.detach(), weight)


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


def test_threads_have_their_own_theta_and_leave_no_trace() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2)).eval()
    model, x = personal(module, "scale", "0,2"), torch.randn(8, 4)
    thetas = [None, None, *torch.randn(3, model.layout.size)]
    wanted = [model(theta, x) for theta in thetas]
    wrong: list[int] = []

    def run(number: int) -> None:
        for _ in range(100):
            theta = thetas[number]
            found = model(theta, x) if number else module(x)  # the first one knows nothing of theta
            if not torch.equal(found, wanted[number]):
                wrong.append(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(len(thetas)) as pool:
            list(pool.map(run, range(len(thetas))))
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert not any("forward" in vars(part) for part in module.modules())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("kind", ["full", "low-rank", "scale", "prefix", "concat"])
def test_other_parameters_in_place_of_the_models(kind: str) -> None:
    model, x = personal(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), kind, "0"), torch.randn(2, 3)
    theta = torch.randn(2, model.layout.size)
    others = {name: parameter * 2 for name, parameter in model.named_parameters()}
    found = torch.func.functional_call(model, others, (theta, x))
    model.load_state_dict(others)
    torch.testing.assert_close(found, model(theta, x))


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(4, 4), torch.randn(2, 4)),
        (nn.Conv1d(4, 4, 1), torch.randn(2, 4, 3)),
        (nn.Embedding(3, 4), torch.tensor([[1], [2]])),
        (nn.LayerNorm(4), torch.randn(2, 4)),
        (nn.RMSNorm(4), torch.randn(2, 4)),
        (nn.GroupNorm(2, 4), torch.randn(2, 4, 3)),
        (nn.BatchNorm1d(4), torch.randn(2, 4)),
        (nn.InstanceNorm1d(4, affine=True), torch.randn(2, 4, 3)),
        (nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"), torch.randn(2, 4, 3)),
    ],
)
def test_a_personal_model_is_saved_and_copied_whole(layer: nn.Module, x: Tensor) -> None:
    model = personal(layer.eval(), "full")
    theta, file = torch.randn(2, model.layout.size), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for again in (torch.load(file, weights_only=False), copy.deepcopy(model)):
        assert torch.equal(again(theta, x), model(theta, x))
