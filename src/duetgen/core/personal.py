"""Running a module as one device's own: theta goes in with the call and leaves no trace in the module.

While a call lasts, the layers that theta changes compute what their changes say, each from its slice of theta; nothing
is written into them. Whoever reads a layer's weights and does not call it would leave theta out: such a layer is
refused, at the first call at the latest.

Shapes: P values in theta; `*` its leading dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from duetgen.core.changes import Change
from duetgen.core.layers import Call, NotPersonalisableError, Rows
from duetgen.core.layout import LayoutMismatchError, ParameterLayout
from duetgen.errors import DuetError

TRIED: Final = 0.1
"""Standard deviation of the theta that `Personal.prove` tries."""
ALIKE: Final = 0.3
"""How far a device's output may be from what it is alone, as a share of what another device's theta does to it: far
above what rounding does, bfloat16's too, and below what theta on wrong rows mostly does."""
ROUNDED: Final = 1e-4
"""The same as a share of the output's norm, where all is computed in float32 or better: theta on the wrong steps of a
sequence may do no more than a hundredth of what it does on its own."""
EXACT: Final = (torch.float32, torch.float64)


class NothingDynamicError(LayoutMismatchError):
    """A module was to be made personal, and no layer of it."""

    code = "nothing-dynamic"


class NotCalledError(DuetError):
    """A layer was not called, so theta did nothing to it: what is around it reads its weights, or left it out."""

    code = "layer-not-called"


class WrongBatchDimensionError(DuetError):
    """A device's theta was used for rows of another: a layer sees devices in another dimension than was told."""

    code = "wrong-batch-dimension"


class Personal(nn.Module):
    """Wraps any module: `personal(theta, *inputs)` is the module with that theta in the layers that are changed.

    The module's own parameters are never written, two calls with different theta do not meet, and gradients flow to
    both the global parameters and theta. With `theta=None` it is the global model itself, bit for bit.

    Args:
        module: the module to personalise; see `personalise` for layers by name.
        changes: of its layers, by name; in this order they make up the layout.
        batch_dim: where the devices lie: in the input of every layer that does not say itself, by its name where
            layers differ, and under the empty name in the module's output.
        proved: whether it is known that each device's theta meets that device's rows; else the first call tries it.

    Raises:
        NothingDynamicError: no layer is changed.
    """

    def __init__(
        self,
        module: nn.Module,
        changes: Mapping[str, Change],
        batch_dim: int | Mapping[str, int] = 0,
        proved: bool = False,
    ) -> None:
        super().__init__()
        if not changes:
            raise NothingDynamicError(
                f"no layer of {type(module).__name__} is personal", "name the layers that theta shall change"
            )
        self.module, self.changes = module, nn.ModuleList(changes.values())
        self.names, self.proved = tuple(changes), proved
        self._layers = {name: module.get_submodule(name) for name in changes}
        dims = batch_dim if isinstance(batch_dim, Mapping) else dict.fromkeys(("", *changes), batch_dim)
        self.batch_dim = dims.get("", 0)
        self._axes = {
            name: change.site.axis(self._layers[name], dims.get(name, self.batch_dim))
            for name, change in changes.items()
        }
        self.layout = ParameterLayout.of(
            (name, parameter, shape) for name, change in changes.items() for parameter, shape in change.shapes.items()
        )

    def by_name(self) -> Iterator[tuple[str, nn.Module, Change]]:
        """Name, layer and change of each layer that theta changes, in the order of the layout."""
        for name, change in zip(self.names, self.changes):
            assert isinstance(change, Change)
            yield name, self._layers[name], change

    @property
    def residual(self) -> bool:
        """Whether theta shifts the global model everywhere, and replaces no parameters."""
        return all(change.residual for _, _, change in self.by_name())

    @property
    def reads_input(self) -> bool:
        """Whether theta is put together with what a layer reads, and not with its output alone."""
        return any(change.reads_input for _, _, change in self.by_name())

    def origin(self) -> Tensor:
        """The theta that is the global model, layer by layer: zeros where theta shifts a layer, the layer's own
        parameters where it replaces them: [P].
        """
        return torch.cat([change.origin(layer) for _, layer, change in self.by_name()])

    def forward(self, theta: Tensor | None, *inputs: Any, **options: Any) -> Any:
        """The module's own output for `inputs`, with theta in its layers, or the global ones for None.

        Args:
            theta: [P], for all rows of the inputs; or [*, P], one for each device, or position, along the batch
                dimension, which may have as many rows for each device, device by device.
            inputs: of the module.
            options: of the module.

        Raises:
            LayoutMismatchError: theta does not fit the layout or the inputs.
            NotCalledError: a layer was not called, so that theta did nothing to it.
            NotPersonalisableError: theta is to be trained, and a layer is computed without gradients.
            WrongBatchDimensionError: a device's theta meets rows of another device.
        """
        if theta is None:
            return self.module(*inputs, **options)
        if not isinstance(theta, Tensor) or not theta.dim():
            raise LayoutMismatchError(
                f"theta is a {type(theta).__name__}, not a tensor of {self.layout.size} values",
                "give what `generate` returns, or one row of it",
            )
        if theta.shape[-1] != self.layout.size:
            raise LayoutMismatchError(
                f"theta holds {theta.shape[-1]} values, this model takes {self.layout.size}",
                "theta and model must come from the same version of a bundle",
            )
        if 0 in theta.shape[:-1]:
            return self._of_nobody(*inputs, **options)
        if not self.proved and theta.dim() > 1 and not torch.compiler.is_compiling():
            self.prove(theta.shape[:-1], *inputs, **options)
        return self._run(theta, *inputs, **options)

    def _of_nobody(self, *inputs: Any, **options: Any) -> Any:
        """The output of no device, which is the module's own, of no rows."""
        output = self.module(*inputs, **options)
        for found in pytree.tree_leaves(output):
            if isinstance(found, Tensor) and found.dim() > self.batch_dim and found.shape[self.batch_dim]:
                raise LayoutMismatchError(
                    "theta is of no device, and the inputs have rows", "give each device along the batch dimension one"
                )
        return output

    def _run(self, theta: Tensor, *inputs: Any, **options: Any) -> Any:
        called: set[str] = set()
        with contextlib.ExitStack() as stack:
            stack.enter_context(without_shortcuts())
            for name, layer, change in self.by_name():
                offset, size = self.layout.layers[name]
                run = self._changed(name, layer, change, theta[..., offset : offset + size], called)
                stack.enter_context(replaced(layer, run))
            output = self.module(*inputs, **options)
        if len(called) < len(self.names):
            left = [name for name in self.names if name not in called]
            raise NotCalledError(
                f"the model did not call {', '.join(left)}: theta does nothing there",
                "what is around it reads its weights, or leaves it out; name another layer",
            )
        return output

    def _changed(
        self, name: str, layer: nn.Module, change: Change, theta: Tensor, called: set[str]
    ) -> Callable[..., Any]:
        original, lead = layer.forward, tuple(theta.shape[:-1])
        parameter = next(layer.parameters())
        own = change.split(theta.reshape(-1, theta.shape[-1]).to(parameter.dtype))
        rows = Rows(lead, self._axes[name], change.site.trailing)
        trained = theta.requires_grad and torch.is_grad_enabled()

        def forward(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            if trained and not torch.is_grad_enabled():
                raise NotPersonalisableError(
                    f"{name or 'the model'} is computed without gradients: theta would not be trained there",
                    "the model has torch.no_grad() or activation checkpointing around it: switch that off",
                )
            call = Call(layer, original, args, kwargs, rows)
            return call.returned(change(call, own))

        return forward

    def _run_alike(self, theta: Tensor, *inputs: Any, **options: Any) -> Any:
        """A run in which the module draws the random numbers that it draws in any other one."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return self._run(theta, *inputs, **options)

    @torch.no_grad()
    def prove(self, lead: tuple[int, ...], *inputs: Any, **options: Any) -> None:
        """Compare the last device among others with what it is alone, where one theta serves all rows.

        Raises:
            WrongBatchDimensionError: they differ.
        """
        if len(lead) != 1 or lead[0] < 2:
            return
        training = [module for module in self.module.modules() if module.training]
        self.module.eval()
        try:
            reference = next(self.module.parameters())
            random = torch.Generator().manual_seed(0)
            theta_BP = (torch.randn(*lead, self.layout.size, generator=random) * TRIED).to(reference.device)
            if not self.residual:
                theta_BP += self.origin()
            among, alone, other = (
                pytree.tree_leaves(self._run_alike(theta, *inputs, **options))
                for theta in (theta_BP, theta_BP[-1], theta_BP[0])
            )
        finally:
            for module in training:
                module.training = True
        exact = (
            reference.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and all(parameter.dtype in EXACT for parameter in self.module.parameters())
        )
        for found, *single in zip(among, alone, other, strict=True):
            if not isinstance(found, Tensor) or found.dim() <= self.batch_dim or not found.is_floating_point():
                continue
            each, left = divmod(found.shape[self.batch_dim], lead[0])
            if left or not each:
                continue
            own, wanted, foreign = (x.movedim(self.batch_dim, 0)[-each:].float() for x in (found, *single))
            effect, off = (foreign - wanted).norm(), (own - wanted).norm()
            allowed = ALIKE * effect
            if exact:
                allowed = allowed.clamp(max=ROUNDED * wanted.norm())
            if bool(torch.isfinite(effect)) and not bool(off <= allowed):
                raise WrongBatchDimensionError(
                    "a device's theta changes what the model computes for another device",
                    "tell where the devices lie, by layer where they differ: batch_dim={'encoder.*': 1}",
                )
        self.proved = True


@contextlib.contextmanager
def replaced(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """A layer that computes something else."""
    own = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if own is not None:
            layer.forward = own


@contextlib.contextmanager
def without_shortcuts() -> Iterator[None]:
    """torch's transformer layers call their parts, where they would else compute all at once from the weights."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
