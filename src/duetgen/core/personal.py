"""Running a module as one device's own: theta goes in with the call and leaves no trace in the module.

While a call lasts, the layers that theta changes compute what their changes say, each from its slice of theta; nothing
is written into them. Whoever reads a layer's weights and does not call it would leave theta out: such a layer is
refused, at the first call at the latest.

Shapes: P values in theta; `*` its leading dimensions.
"""

from __future__ import annotations

import contextlib
import threading
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
WHOLE: Final = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""What outputs may be that tell nothing of how far they are from others."""
ONE_CALL: Final = threading.RLock()
"""While a call with theta lasts, no other thread's changes layers, which two models may share."""


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
            NotPersonalisableError: theta is to be trained, and a layer is computed without gradients, or again.
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
        for found in tensors(output):
            if found.dim() > self.batch_dim and found.shape[self.batch_dim]:
                raise LayoutMismatchError(
                    "theta is of no device, and the inputs have rows", "give each device along the batch dimension one"
                )
        return output

    def _run(self, theta: Tensor, *inputs: Any, **options: Any) -> Any:
        called: set[str] = set()
        with contextlib.ExitStack() as stack:
            stack.enter_context(ONE_CALL)
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
        thread = None if torch.compiler.is_compiling() else threading.get_ident()
        parameter = next(layer.parameters())
        own = change.split(theta.reshape(-1, theta.shape[-1]).to(parameter.dtype))
        rows = Rows(lead, self._axes[name], change.site.trailing)
        trained = theta.requires_grad and torch.is_grad_enabled()

        def forward(*args: Any, **kwargs: Any) -> Any:
            # What torch compiles it computes in this thread, and again as it was.
            eager = not torch.compiler.is_compiling()
            if eager and thread not in (None, threading.get_ident()):  # another one runs the model without theta
                return original(*args, **kwargs)
            called.add(name)
            if (trained and not torch.is_grad_enabled()) or (eager and is_computed_again()):
                raise NotPersonalisableError(
                    f"{name or 'the model'} is computed without gradients, or again without theta in the backward pass",
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
                list(tensors(self._run_alike(theta, *inputs, **options)))
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

        def fits(three: tuple[Tensor, Tensor, Tensor], dim: int) -> bool | None:
            """Whether a device's rows lie there, None where theta does not tell."""
            size = three[0].shape[dim] if three[0].dim() > dim else 0
            alike = three[0].shape == three[1].shape == three[2].shape
            if not size or size % lead[0] or not alike or three[0].dtype in WHOLE:
                return None
            rows = (x.detach().movedim(dim, 0)[-(size // lead[0]) :] for x in three)
            own, wanted, foreign = (torch.view_as_real(x) if x.is_complex() else x.float() for x in rows)
            # Infinite values, as of what is masked, are so for all.
            own, wanted, foreign = (x.nan_to_num(0, 0, 0) for x in (own, wanted, foreign))
            effect, off = (foreign - wanted).norm(), (own - wanted).norm()
            allowed = ALIKE * effect
            if exact:
                allowed = allowed.clamp(max=ROUNDED * wanted.norm())
            return bool(off <= allowed) if bool(effect) or bool(off) else None

        outputs = list(zip(among, alone, other))
        found = [fits(three, self.batch_dim) for three in outputs]
        # Beside an output of the devices there may be others that have them elsewhere, as states of several layers.
        elsewhere = True in found
        for three, right in zip(outputs, found):
            dims = range(three[0].dim()) if elsewhere else ()
            if right is False and not any(fits(three, dim) for dim in dims):
                raise WrongBatchDimensionError(
                    "a device's theta changes what the model computes for another device",
                    "tell where the devices lie, by layer where they differ: batch_dim={'encoder.*': 1}",
                )
        self.proved = True


def is_computed_again() -> bool:
    """Whether activation checkpointing, in its form that keeps gradients, computes again what is computed now."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


def tensors(output: Any) -> Iterator[Tensor]:
    """All that are in an output, or in what an object of it holds, as a dataclass or a distribution."""
    for found in pytree.tree_leaves(output):
        if isinstance(found, Tensor):
            yield found
        elif hasattr(found, "__dict__") and not isinstance(found, type | nn.Module):
            yield from tensors(list(vars(found).values()))


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
