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

from duetgen.core.changes import Change
from duetgen.core.layers import Call, NotPersonalisableError, Rows
from duetgen.core.layout import LayoutMismatchError, ParameterLayout
from duetgen.core.proof import TRIED, copied, proof, restored, sizes, tells, tensors
from duetgen.errors import DuetError

ONE_CALL: Final = threading.RLock()
"""While a call with theta lasts, no other thread's changes layers, which two models may share."""


class NothingDynamicError(LayoutMismatchError):
    """A module was to be made personal, and no layer of it."""

    code = "nothing-dynamic"


class NotCalledError(DuetError):
    """A layer was not called, so theta did nothing to it: what is around it reads its weights, or left it out."""

    code = "layer-not-called"


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
        self._open: set[tuple[torch.Size, ...]] = set()  # sizes of inputs that a proof could tell nothing of
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
        given = None
        if not self.proved and theta.dim() == 2 and len(theta) > 1 and not torch.compiler.is_compiling():
            # The module may change what it is given, as it does the cache of a sequence that it goes on with.
            given = copied((inputs, options)) if sizes((inputs, options)) not in self._open else None
        output = self._run(theta, *inputs, **options)
        if given is not None and tells(output, len(theta), self.batch_dim):
            self.proved = self.prove(len(theta), *given)
            if not self.proved:
                self._open.add(sizes(given))
        return output

    def prove(self, devices: int, inputs: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Whether each of so many devices meets its own theta, by what comes out of these inputs: see `proof`.

        Raises:
            WrongBatchDimensionError: it meets another's.
        """
        reference = next(self.module.parameters())
        random = torch.Generator().manual_seed(0)
        theta_BP = (torch.randn(devices, self.layout.size, generator=random) * TRIED).to(reference.device)
        if not self.residual:
            theta_BP += self.origin()

        def run(theta: Tensor) -> Any:
            with ONE_CALL, restored(self.module):
                given, chosen = copied((inputs, options))
                return self._run(theta, *given, **chosen)

        return proof(run, self.module, theta_BP, self.batch_dim)

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


def is_computed_again() -> bool:
    """Whether activation checkpointing, in its form that keeps gradients, computes again what is computed now."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


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
