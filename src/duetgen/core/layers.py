"""The layers that theta can change, by type: what each is to theta, whatever the model around it.

A kind of change (see `changes`) asks a layer's `Site` which parameters it has, where the features of its output lie,
and what it computes with parameters of each device's own.

Shapes: N thetas of a call, M rows of the layer's input that share one, R all positions of these; `*` dimensions of a
parameter, `...` those of an input.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from duetgen.core.layout import LayoutMismatchError
from duetgen.errors import DuetError

Shape: TypeAlias = tuple[int, ...]
Own: TypeAlias = Mapping[str, Tensor]
"""Parameters of a layer by name, one for each theta: [N, *]."""


class NotPersonalisableError(DuetError):
    """A layer was to be made personal that cannot take theta, or not of this kind."""

    code = "not-personalisable"


@dataclass(frozen=True)
class Rows:
    """Which rows of a layer's input belong to which theta.

    Attributes:
        lead: theta's leading dimensions; none for one theta that serves all rows.
        axis: where the devices lie in the input and the output.
        trailing: how many dimensions of the input, its last ones, hold no rows.
    """

    lead: Shape
    axis: int = 0
    trailing: int = 1

    def split(self, x: Tensor) -> Tensor:
        """Rows by theta: [N, M, ...].

        Raises:
            LayoutMismatchError: theta's leading dimensions are not the input's.
        """
        if not self.lead:
            return x.unsqueeze(0)
        count = len(self.lead)
        if x.dim() >= self.axis + count + self.trailing:
            first = x.movedim(self.axis, 0) if self.axis else x
            if first.shape[:count] == self.lead:
                return first.flatten(0, count - 1).unsqueeze(1)
            if count == 1 and first.shape[0] == 1:
                return first.expand(self.lead[0], *first.shape[1:]).unsqueeze(1)
            if count == 1 and first.shape[0] % self.lead[0] == 0:
                rows: Tensor = first.unflatten(0, (self.lead[0], -1))
                return rows
        raise LayoutMismatchError(
            f"theta for {list(self.lead)} does not fit an input of {list(x.shape)} with devices at {self.axis}",
            "theta needs one entry for each device along the batch dimension, or for so many rows each; see batch_dim",
        )

    def join(self, y: Tensor) -> Tensor:
        """The inverse of `split`, for an output [N, M, ...]."""
        if not self.lead:
            return y.squeeze(0)
        y = y.flatten(0, 1)
        if len(self.lead) > 1:
            y = y.unflatten(0, self.lead)
        return y.movedim(0, self.axis) if self.axis else y


@dataclass
class Call:
    """One call of a layer, as a change of it sees that.

    Attributes:
        layer: the layer.
        forward: what the layer itself computes.
        args: of the call.
        kwargs: of the call.
        rows: which of them belong to which theta.
    """

    layer: nn.Module
    forward: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: Rows
    rest: tuple[Any, ...] | None = field(default=None, init=False)
    """What the layer returns besides its output."""

    @property
    def input(self) -> Tensor:
        """What the layer reads: the first argument of its `forward`, by position or by name."""
        found: Tensor = self.args[0] if self.args else self.kwargs[self.first]
        return found

    @property
    def first(self) -> str:
        """The name of that argument, where it is given by name."""
        known = inspect.signature(type(self.layer).forward).parameters
        return next((name for name in known if name in self.kwargs), next(iter(self.kwargs)))

    def on(self, x: Tensor) -> Tensor:
        """The layer's output for another input."""
        if self.args:
            return self.keep(self.forward(x, *self.args[1:], **self.kwargs))
        return self.keep(self.forward(**{**self.kwargs, self.first: x}))

    def output(self) -> Tensor:
        """What the layer itself gives."""
        return self.keep(self.forward(*self.args, **self.kwargs))

    def output_with(self, own: Own) -> Tensor:
        """What the layer gives with other parameters, the same for all rows: [1, *] each."""
        with swapped(self.layer, {name: value[0] for name, value in own.items()}):
            return self.output()

    def keep(self, found: Any) -> Tensor:
        """The layer's output, of all that it returns."""
        if isinstance(found, tuple):
            found, *rest = found
            self.rest = tuple(rest)
        output: Tensor = found
        return output

    def returned(self, output: Tensor) -> Any:
        """All that the layer returns, with another output."""
        return output if self.rest is None else (output, *self.rest)


@contextlib.contextmanager
def swapped(layer: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """A layer with other tensors in place of some parameters, which stay what they are."""
    kept = []
    for name, value in parameters.items():
        owner, _, own_name = name.rpartition(".")
        held = layer.get_submodule(owner)._parameters
        kept.append((held, own_name, held[own_name]))
        held[own_name] = value  # type: ignore[assignment]
    try:
        yield
    finally:
        for held, own_name, parameter in kept:
            held[own_name] = parameter


def parameter_of(layer: nn.Module, name: str) -> Tensor:
    """A layer's parameter, or what stands in its place, as in `torch.func.functional_call`."""
    found: Tensor = attrgetter(name)(layer)
    return found


def narrowed(part: Tensor, output: Tensor) -> Tensor:
    """Values in the dtype of an output, which under autocast is narrower than that of the parameters."""
    return part if part.dtype == output.dtype else part.to(output.dtype)


class Site(ABC):
    """What a type of layer is to theta."""

    linear: ClassVar[bool] = True
    """Whether the output is linear in the parameters, so that what is generated can be computed apart and added."""
    whole: ClassVar[bool] = True
    """Whether one theta for all rows goes into the layer's own parameters, rather than beside it."""
    batch_first: ClassVar[bool] = False
    """Whether the layer's input has the devices first, however the model lays them out."""
    trailing: ClassVar[int] = 1
    """See `Rows`."""

    def axis(self, layer: nn.Module, batch_dim: int) -> int:
        """Where the devices lie in the layer's input."""
        return 0 if self.batch_first else batch_dim

    def parameters(self, layer: nn.Module) -> dict[str, Shape]:
        """The parameters that theta can hold values for, in the order of the layout."""
        names = [name for name in ("weight", "bias") if isinstance(getattr(layer, name, None), Tensor)]
        return {name: tuple(parameter_of(layer, name).shape) for name in names}

    def matrices(self, layer: nn.Module) -> dict[str, tuple[int, int]]:
        """Those of them that are matrices, or lie in memory as one: rows and columns."""
        shapes = {name: shape for name, shape in self.parameters(layer).items() if len(shape) > 1}
        return {name: (shape[0], int(torch.Size(shape[1:]).numel())) for name, shape in shapes.items()}

    @abstractmethod
    def features(self, layer: nn.Module) -> Shape:
        """Sizes of the dimensions of the output that hold its features."""

    def behind(self, output: Tensor) -> int:
        """How many dimensions of an output [N, M, ...] come after its features."""
        return 0

    def beside(self, part: Tensor, output: Tensor) -> Tensor:
        """Values for each feature [N, *] with the dimensions and the dtype of an output [N, M, ..., *, ...]."""
        behind = self.behind(output)
        ones = output.dim() - part.dim() - behind
        return narrowed(part, output).reshape(part.shape[0], *(1,) * ones, *part.shape[1:], *(1,) * behind)

    def reads(self, layer: nn.Module) -> int | None:
        """Width of the input's last dimension; None where this is no row of features."""
        return None

    def shown(self, call: Call, part: Tensor) -> Tensor:
        """Of what theta makes of an output, or of each of its features: what counts, by rows [N, M, ...]."""
        return part

    @abstractmethod
    def own(self, call: Call, own: Own) -> Tensor:
        """What the layer computes with each theta's own parameters, by rows: [N, M, ...]."""


class LinearSite(Site):
    """`nn.Linear`, or with `transposed` the `Conv1D` of GPT-style models, whose weight is [in, out]."""

    def __init__(self, transposed: bool = False) -> None:
        self.transposed = transposed

    def features(self, layer: nn.Module) -> Shape:
        """The last dimension."""
        return (parameter_of(layer, "weight").shape[1 if self.transposed else 0],)

    def reads(self, layer: nn.Module) -> int | None:
        """The size of a row."""
        return parameter_of(layer, "weight").shape[0 if self.transposed else 1]

    def own(self, call: Call, own: Own) -> Tensor:
        """One batch of products."""
        x = call.rows.split(call.input)
        weight = own["weight"] if self.transposed else own["weight"].transpose(1, 2)
        found = torch.bmm(x.reshape(weight.shape[0], -1, weight.shape[1]), weight)
        if "bias" in own:
            found = found + narrowed(own["bias"], found).unsqueeze(1)
        return found.reshape(*x.shape[:-1], weight.shape[2])


class ConvSite(Site):
    """Convolutions in one to three dimensions, grouped and depthwise ones too."""

    batch_first = True

    def __init__(self, dimensions: int) -> None:
        self.convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
        self.trailing = 1 + dimensions  # type: ignore[misc]

    def features(self, layer: nn.Module) -> Shape:
        """The channels."""
        return (parameter_of(layer, "weight").shape[0],)

    def behind(self, output: Tensor) -> int:
        """Those that are convolved."""
        return self.trailing - 1

    def own(self, call: Call, own: Own) -> Tensor:
        """One grouped convolution: the channels of all thetas side by side."""
        layer, weight = call.layer, own["weight"]
        assert isinstance(layer, nn.modules.conv._ConvNd)
        x = call.rows.split(call.input)
        count = weight.shape[0]
        found = self.convolve(
            x.transpose(0, 1).flatten(1, 2),
            weight.flatten(0, 1),
            own["bias"].flatten() if "bias" in own else None,
            layer.stride,
            layer.padding,
            layer.dilation,
            count * layer.groups,
        )
        by_theta: Tensor = found.unflatten(1, (count, -1)).transpose(0, 1)
        return by_theta


class EmbeddingSite(Site):
    """`nn.Embedding`; what theta holds for its padding is not used."""

    whole = False
    trailing = 0

    def features(self, layer: nn.Module) -> Shape:
        """The last dimension."""
        return (parameter_of(layer, "weight").shape[1],)

    def own(self, call: Call, own: Own) -> Tensor:
        """Rows of each theta's own table."""
        ids, table = call.rows.split(call.input), own["weight"]
        first = torch.arange(table.shape[0], device=ids.device) * table.shape[1]
        own_ids = ids + first.view(-1, *(1,) * (ids.dim() - 1))
        return self.shown(call, functional.embedding(own_ids, table.flatten(0, 1)))

    def shown(self, call: Call, part: Tensor) -> Tensor:
        """Zeros for padding."""
        assert isinstance(call.layer, nn.Embedding)
        if call.layer.padding_idx is None:
            return part
        return part * (call.rows.split(call.input) != call.layer.padding_idx).unsqueeze(-1)


class NormSite(Site):
    """Normalisations: their factor and shift of each feature."""

    def __init__(self, normalise: Callable[[Any, Tensor], Tensor]) -> None:
        self.normalise = normalise

    def matrices(self, layer: nn.Module) -> dict[str, tuple[int, int]]:
        """None: a factor for each feature, however these lie."""
        return {}

    def features(self, layer: nn.Module) -> Shape:
        """As the layer's own weight."""
        return next(iter(self.parameters(layer).values()))

    def own(self, call: Call, own: Own) -> Tensor:
        """What is normalised, with each theta's own factor and shift."""
        found = call.rows.split(self.normalise(call.layer, call.input))
        found = found * self.beside(own["weight"], found)
        return found + self.beside(own["bias"], found) if "bias" in own else found


class ChannelNormSite(NormSite):
    """Those of channels, which follow the rows.

    Args:
        normalise: see `NormSite`.
        dimensions: after the channels; all that there are by default, of layers that always read a batch.
    """

    batch_first = True

    def __init__(self, normalise: Callable[[Any, Tensor], Tensor], dimensions: int | None = None) -> None:
        super().__init__(normalise)
        self.dimensions, self.trailing = dimensions, 1 + (dimensions or 0)  # type: ignore[misc]

    def behind(self, output: Tensor) -> int:
        """All that follow the channels."""
        return output.dim() - 3 if self.dimensions is None else self.dimensions


def _layer_norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)


def _rms_norm(layer: nn.RMSNorm, x: Tensor) -> Tensor:
    return functional.rms_norm(x, layer.normalized_shape, eps=layer.eps)


def _group_norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    return functional.group_norm(x, layer.num_groups, eps=layer.eps)


def _batch_norm(layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    of_batch = layer.training or layer.running_mean is None
    statistics = (None, None) if of_batch else (layer.running_mean, layer.running_var)
    return functional.batch_norm(x, *statistics, training=of_batch, momentum=0.0, eps=layer.eps)


def _instance_norm(layer: nn.modules.instancenorm._InstanceNorm, x: Tensor) -> Tensor:
    of_instance = layer.training or layer.running_mean is None
    return functional.instance_norm(
        x, layer.running_mean, layer.running_var, use_input_stats=of_instance, momentum=0.0, eps=layer.eps
    )


ATTENTION_ARGUMENTS = tuple(inspect.signature(nn.MultiheadAttention.forward).parameters)[1:]


class AttentionSite(Site):
    """`nn.MultiheadAttention`: the projections of queries, keys and values, and of the output."""

    linear = False

    def axis(self, layer: nn.Module, batch_dim: int) -> int:
        """As the layer was made."""
        assert isinstance(layer, nn.MultiheadAttention)
        return 0 if layer.batch_first else 1

    def parameters(self, layer: nn.Module) -> dict[str, Shape]:
        """All of them, but biases that are appended to keys and values."""
        found = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
        return {name: shape for name, shape in found.items() if name not in ("bias_k", "bias_v")}

    def features(self, layer: nn.Module) -> Shape:
        """The last dimension."""
        assert isinstance(layer, nn.MultiheadAttention)
        return (layer.embed_dim,)

    def reads(self, layer: nn.Module) -> int | None:
        """The size of a query."""
        return self.features(layer)[0]

    def own(self, call: Call, own: Own) -> Tensor:
        """The attention of each theta by itself, all at once."""
        layer, rows = call.layer, call.rows
        assert isinstance(layer, nn.MultiheadAttention)
        given = dict(zip(ATTENTION_ARGUMENTS, call.args)) | call.kwargs
        # The same tensor for two of them stays the same: attention of a sequence to itself has one product for all.
        tensors: dict[int, Tensor] = {}
        places: dict[str, int] = {}
        for name in ("query", "key", "value", "key_padding_mask", "attn_mask"):
            tensor = given.pop(name, None)
            if isinstance(tensor, Tensor) and (name != "attn_mask" or tensor.dim() == 3):
                first = name in ("key_padding_mask", "attn_mask")
                places[name] = id(tensor)
                tensors[id(tensor)] = (Rows(rows.lead) if first else rows).split(tensor)
            else:
                given[name] = tensor
        axis = rows.axis

        def one(parameters: Own, given_tensors: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
            moved = {
                key: tensor.movedim(0, axis) if key in (places["query"], places["key"], places["value"]) else tensor
                for key, tensor in given_tensors.items()
            }
            with swapped(layer, parameters):
                output, weights = call.forward(**{name: moved[key] for name, key in places.items()}, **given)
            return output.movedim(axis, 0), output.new_zeros(()) if weights is None else weights

        # The other kernels would run one theta after the other.
        with sdpa_kernel(SDPBackend.MATH):
            output, weights = torch.func.vmap(one, randomness="different")(dict(own), tensors)
        call.rest = (None if weights.dim() == 1 else weights.flatten(0, 1),)
        kind = output.device.type  # what is mapped over thetas knows nothing of autocast
        return output.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else output


class OwnForwardSite(Site):
    """A layer of a known type that computes in another way: a subclass with a `forward` of its own (a masked weight, a
    position in place of an id), or a convolution that pads with other than zeros. It is asked device by device. A class
    whose attribute `as_its_type` is true says that it computes as its type does, and is faster.

    Args:
        site: of the type.
    """

    linear = False

    def __init__(self, site: Site) -> None:
        self.site, self.trailing = site, site.trailing  # type: ignore[misc]

    def axis(self, layer: nn.Module, batch_dim: int) -> int:
        """As of the type."""
        return self.site.axis(layer, batch_dim)

    def parameters(self, layer: nn.Module) -> dict[str, Shape]:
        """As of the type."""
        return self.site.parameters(layer)

    def matrices(self, layer: nn.Module) -> dict[str, tuple[int, int]]:
        """As of the type."""
        return self.site.matrices(layer)

    def features(self, layer: nn.Module) -> Shape:
        """As of the type."""
        return self.site.features(layer)

    def reads(self, layer: nn.Module) -> int | None:
        """As of the type."""
        return self.site.reads(layer)

    def behind(self, output: Tensor) -> int:
        """As of the type."""
        return self.site.behind(output)

    def beside(self, part: Tensor, output: Tensor) -> Tensor:
        """As of the type, where the output has its features there."""
        found = super().beside(part, output)
        if any(own not in (1, size) for own, size in zip(found.shape[1:], output.shape[1:], strict=True)):
            raise NotPersonalisableError(
                f"a layer with a forward of its own gives rows of {list(output.shape[2:])}, and has its "
                f"{part.shape[1]} features in another dimension than its type",
                "give it the kind full",
            )
        return found

    def own(self, call: Call, own: Own) -> Tensor:
        """The layer itself, with one theta after the other."""
        axis, found = call.rows.axis, []
        for number, x in enumerate(call.rows.split(call.input)):
            with swapped(call.layer, {name: value[number] for name, value in own.items()}):
                found.append(call.on(x.movedim(0, axis)).movedim(axis, 0))
        others = [*call.args[1:], *call.kwargs.values(), *(call.rest or ())]
        if sum(isinstance(other, Tensor) for other in others) > (not call.args):
            raise NotPersonalisableError(
                f"a {type(call.layer).__name__} reads or gives several tensors in a forward of its own",
                "give it the kind scale, or theta of one device at a time",
            )
        return torch.stack(found)


SITES: dict[type[nn.Module], Site] = {
    nn.Linear: LinearSite(),
    nn.Conv1d: ConvSite(1),
    nn.Conv2d: ConvSite(2),
    nn.Conv3d: ConvSite(3),
    nn.Embedding: EmbeddingSite(),
    nn.LayerNorm: NormSite(_layer_norm),
    nn.RMSNorm: NormSite(_rms_norm),
    nn.GroupNorm: ChannelNormSite(_group_norm),
    nn.modules.batchnorm._BatchNorm: ChannelNormSite(_batch_norm),
    nn.InstanceNorm1d: ChannelNormSite(_instance_norm, 1),
    nn.InstanceNorm2d: ChannelNormSite(_instance_norm, 2),
    nn.InstanceNorm3d: ChannelNormSite(_instance_norm, 3),
    nn.MultiheadAttention: AttentionSite(),
}
"""What can be made personal; a further type of layer is a `Site` and a line here."""
GPT_CONV1D = LinearSite(transposed=True)


def site_of(layer: nn.Module) -> Site | None:
    """What a layer is to theta; None where it cannot take any."""
    for kind, site in SITES.items():
        if isinstance(layer, kind):
            same = type(layer).forward is kind.forward or getattr(layer, "as_its_type", False)
            same = same and "forward" not in vars(layer) and getattr(layer, "padding_mode", "zeros") == "zeros"
            return site if same else OwnForwardSite(site)
    # Known by its looks: the library that has it need not be there.
    weight = getattr(layer, "weight", None)
    if type(layer).__name__ != "Conv1D" or not isinstance(weight, nn.Parameter) or weight.dim() != 2:
        return None
    return GPT_CONV1D if getattr(layer, "nf", None) == weight.shape[1] else None
