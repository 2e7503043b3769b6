"""Running a module as one device's own: theta goes in with the call and leaves no trace in the module.

While a call lasts, the layers that theta changes compute what their changes say, each from its slice of theta; nothing
is written into them. Whoever reads a layer's weights and does not call it would leave theta out: such a layer is
refused, at the first call at the latest.

Shapes: P values in theta; `*` its leading dimensions.
"""

from __future__ import annotations

import contextlib
import copy
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
        if given is not None and any(self._tells(found, len(theta)) for found in tensors(output)):
            self.prove(len(theta), *given)
        return output

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

    def _tells(self, output: Tensor, devices: int) -> bool:
        """Whether an output may show which rows a theta met."""
        size = output.shape[self.batch_dim] if output.dim() > self.batch_dim else 0
        return size > 0 and size % devices == 0 and output.dtype not in WHOLE

    def _run_alike(self, theta: Tensor, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A run with what any other one has: random numbers, inputs, buffers and attributes of the module."""
        with ONE_CALL, torch.random.fork_rng(devices=[]), restored(self.module):
            torch.default_generator.manual_seed(0)
            inputs, options = copied((inputs, options))
            return self._run(theta, *inputs, **options)

    @torch.no_grad()
    def prove(self, devices: int, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Compare the first and the last device among others with what each is alone, where one theta serves all rows.

        Raises:
            WrongBatchDimensionError: they differ.
        """
        modes = [(module, module.training) for module in self.module.modules()]
        try:
            self.module.eval()
            reference = next(self.module.parameters())
            random = torch.Generator().manual_seed(0)
            theta_BP = (torch.randn(devices, self.layout.size, generator=random) * TRIED).to(reference.device)
            if not self.residual:
                theta_BP += self.origin()
            thetas = (theta_BP, theta_BP[0], theta_BP[-1])
            among, first, last = (list(tensors(self._run_alike(theta, inputs, options))) for theta in thetas)
        finally:
            # In their own words: a module may do more than note its mode, as to take apart what it has merged.
            for module, mode in modes:
                if module.training != mode:
                    module.train(mode)
        exact = (
            reference.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and all(parameter.dtype in EXACT for parameter in self.module.parameters())
        )

        def has_own(*rows: Tensor) -> bool | None:
            """Whether a device's rows are among others what they are alone, and not what another theta makes of them;
            None where theta does not tell.
            """
            if not rows[0].shape == rows[1].shape == rows[2].shape or rows[0].dtype in WHOLE:
                return None
            own, wanted, foreign = (torch.view_as_real(x) if x.is_complex() else x.float() for x in rows)
            # Infinite values, as of what is masked, are so for all.
            own, wanted, foreign = (x.nan_to_num(0, 0, 0) for x in (own, wanted, foreign))
            effect, off = (foreign - wanted).norm(), (own - wanted).norm()
            allowed = ALIKE * effect
            if exact:
                allowed = allowed.clamp(max=ROUNDED * wanted.norm())
            return bool(off <= allowed) if bool(effect) or bool(off) else None

        def fits(among: Tensor, first: Tensor, last: Tensor, dim: int) -> bool | None:
            """Whether the first and the last device have their rows along a dimension."""
            size = among.shape[dim] if among.dim() > dim else 0
            if not size or size % devices or not among.shape == first.shape == last.shape:
                return None
            each, rows = size // devices, [x.detach().movedim(dim, 0) for x in (among, first, last)]
            ends = has_own(*(x[:each] for x in rows)), has_own(*(rows[n][-each:] for n in (0, 2, 1)))
            return None if ends == (None, None) else False not in ends

        outputs = list(zip(among, first, last)) if len(among) == len(first) == len(last) else []
        found = [fits(*three, self.batch_dim) for three in outputs]
        # What each device has may come in a list, as what is detected: of any size, and that of one device alone.
        apart = [three for three in outputs if three[0].dim() and three[0].shape[0] != devices]
        listed = all(any(has_own(*(x[n] for n in order)) for x in apart) for order in ((0, 1, 2), (0, 2, 1)))
        # Beside an output of the devices there may be others that have them elsewhere, as states of several layers.
        elsewhere = True in found
        for three, right in zip(outputs, found):
            dims = range(three[0].dim()) if elsewhere else ()
            if right is False and not listed and not any(fits(*three, dim) for dim in dims):
                raise WrongBatchDimensionError(
                    "a device's theta changes what the model computes for another device",
                    "tell where the devices lie, by layer where they differ: batch_dim={'encoder.*': 1}; where a layer "
                    "has rows in an order of its own, as sorted or joined ones, name layers around it",
                )
        self.proved = listed or True in found
        if not self.proved:
            self._open.add(sizes((inputs, options)))


def is_computed_again() -> bool:
    """Whether activation checkpointing, in its form that keeps gradients, computes again what is computed now."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"


def tensors(output: Any, seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """All that are in an output, or in what an object of it holds, as a dataclass or a distribution."""
    for found in pytree.tree_leaves(output):
        if isinstance(found, Tensor):
            yield found
        elif hasattr(found, "__dict__") and not isinstance(found, type | nn.Module) and id(found) not in seen:
            yield from tensors(list(vars(found).values()), seen | {id(found)})


def sizes(arguments: Any) -> tuple[torch.Size, ...]:
    """Of all tensors of a call."""
    return tuple(tensor.shape for tensor in tensors(arguments))


def copied(arguments: Any) -> Any:
    """Arguments of a call that may be changed in their place; as they are, where one of them has no copy."""
    try:
        return copy.deepcopy(arguments, {id(tensor): tensor.detach().clone() for tensor in tensors(arguments)})
    except Exception:  # whatever an object of another library raises
        return arguments


@contextlib.contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """A module whose attributes and buffers are again, after it, what they were."""
    held: list[dict[str, Any]] = [names for part in module.modules() for names in (vars(part), part._buffers)]
    kept = [dict(names) for names in held]
    values = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for names, before in zip(held, kept):
            names.update(before)
            for name in names.keys() - before.keys():
                del names[name]
        for buffer, value in values:
            if not torch.equal(buffer, value):
                buffer.copy_(value)


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
