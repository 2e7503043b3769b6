"""Every type of layer with every kind of change: each device's rows as one device alone has them."""

from collections.abc import Callable

import pytest
import torch
from tests.core.making import personal
from torch import Tensor, nn
from torch.nn import functional

from duetgen.core import KINDS, Personal, make_change
from duetgen.core.layers import NotPersonalisableError

N = 3


class Conv1D(nn.Module):
    """The linear layer of GPT-style models: its weight is [in, out]."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.nf)


class SelfAttention(nn.Module):
    """An attention of a sequence to itself, padding left out."""

    def __init__(self, batch_first: bool = True, weights: bool = False) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        batch, length = (x.shape[0], x.shape[1]) if self.attention.batch_first else (x.shape[1], x.shape[0])
        hidden = torch.arange(length) >= torch.arange(batch)[:, None] % 2 + length - 1
        output: Tensor = self.attention(x, x, x, key_padding_mask=hidden, need_weights=self.weights)[0]
        return output


class Masked(nn.Linear):
    """A linear layer, some of whose weights count for nothing."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.arange(self.weight.numel()).view_as(self.weight) % 3 > 0
        return functional.linear(x, self.weight * mask, self.bias)


def patched() -> nn.Linear:
    """A linear layer that was given another `forward`, as what moves weights between devices does."""
    layer = nn.Linear(4, 3)
    layer.forward = lambda x: torch.tanh(functional.linear(x, layer.weight, layer.bias))  # type: ignore[method-assign]
    return layer


class Positions(nn.Embedding):
    """The embedding of where an id stands, as the models of a library have it."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(torch.arange(ids.shape[1]).expand(ids.shape))


class SamePadded(nn.Conv2d):
    """A convolution that pads its input itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (0, 1, 0, 1)))


class ChannelLayerNorm(nn.LayerNorm):
    """The norm of a ConvNeXt: over the channels, which come first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


LAYERS: dict[str, Callable[[], tuple[nn.Module, Tensor, str]]] = {
    "linear": lambda: (nn.Linear(4, 3), torch.randn(N, 5, 4), ""),
    "linear without bias": lambda: (nn.Linear(4, 3, bias=False), torch.randn(N, 5, 4), ""),
    "gpt conv1d": lambda: (Conv1D(3, 4), torch.randn(N, 5, 4), ""),
    "conv1d": lambda: (nn.Conv1d(2, 4, 3, stride=2, padding=1), torch.randn(N, 2, 9), ""),
    "conv2d": lambda: (nn.Conv2d(2, 4, 3, padding=1), torch.randn(2 * N, 2, 5, 6), ""),
    "conv3d": lambda: (nn.Conv3d(2, 3, 2), torch.randn(N, 2, 3, 3, 3), ""),
    "depthwise": lambda: (nn.Conv2d(4, 8, 3, groups=4, bias=False), torch.randn(N, 4, 5, 5), ""),
    "circular": lambda: (nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"), torch.randn(N, 2, 9), ""),
    "reflecting": lambda: (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), torch.randn(N, 2, 5, 5), ""),
    "same": lambda: (nn.Conv1d(2, 4, 4, padding="same", dilation=2), torch.randn(N, 2, 9), ""),
    "forward of its own, linear": lambda: (Masked(4, 3), torch.randn(N, 5, 4), ""),
    "forward of its own, of one layer": lambda: (patched(), torch.randn(N, 5, 4), ""),
    "forward of its own, convolution": lambda: (SamePadded(2, 4, 2), torch.randn(2 * N, 2, 5, 6), ""),
    "forward of its own, embedding": lambda: (Positions(7, 4), torch.randint(0, 7, (N, 5)), ""),
    "embedding": lambda: (nn.Embedding(7, 4, padding_idx=0), torch.randint(0, 7, (N, 5)), ""),
    "layer norm": lambda: (nn.LayerNorm(4), torch.randn(N, 5, 4), ""),
    "layer norm of two dimensions": lambda: (nn.LayerNorm((5, 4)), torch.randn(N, 5, 4), ""),
    "rms norm": lambda: (nn.RMSNorm(4), torch.randn(N, 5, 4), ""),
    "group norm": lambda: (nn.GroupNorm(2, 4), torch.randn(N, 4, 5), ""),
    "instance norm": lambda: (nn.InstanceNorm2d(4, affine=True), torch.randn(N, 4, 3, 3), ""),
    "instance norm with statistics": lambda: (
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        torch.randn(N, 4, 5),
        "",
    ),
    "batch norm 1d": lambda: (nn.BatchNorm1d(4), torch.randn(2 * N, 4), ""),
    "batch norm 2d": lambda: (nn.BatchNorm2d(4), torch.randn(N, 4, 3, 3), ""),
    "attention": lambda: (SelfAttention(), torch.randn(2 * N, 5, 4), "attention"),
    "attention with weights": lambda: (SelfAttention(weights=True), torch.randn(N, 5, 4), "attention"),
}
REFUSED = {
    "low-rank": {"depthwise"} | {name for name in LAYERS if "norm" in name},
    "prefix": {
        name
        for name in LAYERS
        if not name.startswith(
            ("linear", "gpt", "attention", "forward of its own, linear", "forward of its own, of one")
        )
    },
}
CASES = [(kind, name) for kind in KINDS for name in LAYERS if name not in REFUSED.get(kind, ())]


def made(kind: str, name: str) -> tuple[Personal, Tensor]:
    torch.manual_seed(0)
    module, x, layer = LAYERS[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return personal(module.eval(), kind, layer), x


@pytest.mark.parametrize(("kind", "name"), CASES)
class TestLayer:
    def test_each_device_has_what_it_has_alone(self, kind: str, name: str) -> None:
        model, x = made(kind, name)
        theta = 0.3 * torch.randn(N, model.layout.size)
        output, plain = model(theta, x), model(None, x)
        each = len(x) // N
        for device in range(N):
            rows = slice(device * each, (device + 1) * each)
            torch.testing.assert_close(output[rows], model(theta[device], x)[rows])
            assert not torch.allclose(output[rows], plain[rows], atol=1e-3)

    def test_theta_zero_is_the_layer(self, kind: str, name: str) -> None:
        model, x = made(kind, name)
        plain = model(None, x)
        assert torch.equal(model(torch.zeros(model.layout.size), x), plain)
        theta = torch.zeros(N, model.layout.size)
        assert torch.equal(model(theta, x), plain)
        # Beside a device that has one.
        theta[1] = 0.3
        output, rows = model(theta, x), slice(len(x) // N, 2 * (len(x) // N))
        assert not torch.allclose(output[rows], plain[rows], atol=1e-3)
        output[rows] = plain[rows]
        assert torch.equal(output, plain)

    def test_gradients_reach_theta_in_training(self, kind: str, name: str) -> None:
        model, x = made(kind, name)
        theta = torch.zeros(N, model.layout.size, requires_grad=True)
        model.train()(theta, x).square().sum().backward()
        assert theta.grad is not None
        assert (theta.grad.abs().sum(1) > 0).all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_stays_what_it_is(self, kind: str, name: str, dtype: torch.dtype) -> None:
        module, x, layer = LAYERS[name]()
        model = personal(module.to(dtype).eval(), kind, layer)
        half = x.to(dtype) if x.is_floating_point() else x
        theta = 0.1 * torch.randn(N, model.layout.size)
        output = model(theta, half)
        assert output.dtype == dtype
        assert all(parameter.dtype == dtype for parameter in model.parameters())
        assert torch.equal(model(torch.zeros(model.layout.size), half), model(None, half))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in REFUSED.items() for name in sorted(names)])
def test_a_kind_that_does_not_fit_is_refused_when_it_is_made(kind: str, name: str) -> None:
    with pytest.raises(NotPersonalisableError, match=f"takes no {kind}"):
        made(kind, name)


@pytest.mark.parametrize("kind", ["full", "scale", "concat"])
def test_a_norm_with_a_forward_of_its_own_has_its_features_elsewhere(kind: str) -> None:
    model, x = personal(ChannelLayerNorm(4), kind), torch.randn(N, 4, 5, 6)
    theta = torch.randn(N, model.layout.size)
    if kind != "full":
        with pytest.raises(NotPersonalisableError, match=r"rows of \[4, 5, 6\]") as refusal:
            model(theta, x)
        assert "full" in refusal.value.hint
        return
    output, plain = model(theta, x), model(None, x)
    scale, shift = theta[:, :4, None, None], theta[:, 4:, None, None]
    torch.testing.assert_close(output, plain * (1 + scale) + shift)  # the norm's own weights are 1 and 0


def test_a_layer_that_reads_several_tensors_in_a_forward_of_its_own() -> None:
    class Gated(nn.Linear):
        def forward(self, x: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x) * gate

    x, gate = torch.randn(N, 4), torch.rand(N, 3)
    full, scale = personal(Gated(4, 3), "full"), personal(Gated(4, 3), "scale")
    assert not torch.allclose(full(torch.randn(15), x, gate), full(None, x, gate))
    with pytest.raises(NotPersonalisableError, match="several tensors"):
        full(torch.randn(N, 15), x, gate)
    theta = torch.randn(N, 6)
    torch.testing.assert_close(scale(theta, x, gate=gate)[1], scale(theta[1], x, gate=gate)[1])


@pytest.mark.parametrize("kind", ["full", "scale", "concat"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 4, 1), (3, 4)),
        (nn.Conv2d(3, 4, 1), (3, 4, 4)),
        (nn.Conv3d(3, 4, 1), (3, 2, 2, 4)),
        (nn.InstanceNorm1d(4, affine=True), (4, 4)),
        (nn.InstanceNorm2d(4, affine=True), (4, 4, 4)),
        (nn.Linear(3, 4), (3,)),
    ],
)
def test_a_single_input_without_a_batch_dimension(kind: str, layer: nn.Module, shape: tuple[int, ...]) -> None:
    model, x = personal(layer, kind), torch.randn(shape)
    theta = torch.randn(model.layout.size)
    torch.testing.assert_close(model(theta, x), model(theta, x[None])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_thetas_of_devices_without_rows(kind: str) -> None:
    model = personal(nn.Linear(4, 3), kind)
    assert model(torch.randn(N, model.layout.size), torch.zeros(0, 4)).shape == (0, 3)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", ["full", "scale", "concat"])
def test_under_autocast_the_dtype_is_the_layers_own(kind: str, name: str) -> None:
    model, x = made(kind, name)
    theta = torch.randn(N, model.layout.size)
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(None, x)
        for given in (theta, theta[0]):
            assert model(given, x).dtype == plain.dtype


def test_an_attention_that_is_given_its_query_by_name() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, query: Tensor, memory: Tensor, named: bool) -> Tensor:
            if named:
                return self.attention(key=memory, value=memory, query=query)[0]  # type: ignore[no-any-return]
            return self.attention(query, memory, memory)[0]  # type: ignore[no-any-return]

    for kind in KINDS:
        model, query, memory = personal(ByName(), kind, "attention"), torch.randn(N, 5, 4), torch.randn(N, 5, 4)
        theta = torch.randn(N, model.layout.size)
        torch.testing.assert_close(model(theta, query, memory, True), model(theta, query, memory, False))


def test_a_batch_norm_in_training_keeps_the_statistics_of_the_whole_batch() -> None:
    model, x = made("full", "batch norm 2d")
    alone = nn.BatchNorm2d(4).train()
    alone(x)
    norm = model.module.train()
    model.proved = True
    model(torch.randn(N, 8), x)
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.running_mean, alone.running_mean)
    torch.testing.assert_close(norm.running_var, alone.running_var)


def test_padding_of_an_embedding_stays_zero() -> None:
    for kind in ("full", "low-rank", "scale", "concat"):
        model, _ = made(kind, "embedding")
        embedding = model.module
        assert isinstance(embedding, nn.Embedding)
        nn.init.zeros_(embedding.weight[0].detach())
        for shape in ((2,), ()):
            output = model(torch.randn(*shape, model.layout.size), torch.tensor([[0, 3], [4, 0]]))
            assert output[0, 0].tolist() == output[1, 1].tolist() == [0.0] * 4


def test_a_table_that_is_replaced_keeps_its_row_of_padding() -> None:
    embedding = nn.Embedding(4, 2, padding_idx=0)
    nn.init.ones_(embedding.weight.detach())  # as a table that was loaded may have it
    model, ids = personal(embedding, "full", residual=False), torch.tensor([[0, 3], [1, 0]])
    for shape in ((2, 1), (1,)):
        assert torch.equal(model(model.origin().repeat(shape), ids), embedding(ids))
        output = model(torch.full((*shape[:-1], 8), 0.25), ids)
        assert output[..., 0].tolist() == [[1, 0.25], [0.25, 1]]


@pytest.mark.parametrize("kind", ["scale", "full", "low-rank"])
@pytest.mark.parametrize("training", [True, False])
def test_a_time_first_attention_knows_where_the_devices_are(kind: str, training: bool) -> None:
    torch.manual_seed(0)
    module = SelfAttention(batch_first=False).train(training)
    model = Personal(module, {"attention": make_change(module, "attention", kind, 2)}, batch_dim=1)
    theta, x = 0.3 * torch.randn(N, model.layout.size), torch.randn(N, N, 4)
    output = model(theta, x)
    for device in range(N):
        torch.testing.assert_close(output[:, device], model(theta[device], x)[:, device])


def test_an_attention_to_another_sequence_with_masks() -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(4, 2, batch_first=True, kdim=3, vdim=3)
    model, other = personal(module, "full"), torch.randn(N, 6, 3)
    theta, x = 0.3 * torch.randn(N, model.layout.size), torch.randn(N, 5, 4)
    for mask in (torch.rand(5, 6) < 0.3, torch.rand(2 * N, 5, 6) < 0.3):
        output, weights = model(theta, x, other, other, attn_mask=mask)
        for device in range(N):
            own_output, own_weights = model(theta[device], x, other, other, attn_mask=mask)
            torch.testing.assert_close(output[device], own_output[device])
            torch.testing.assert_close(weights[device], own_weights[device])
