"""Whether each device's theta meets that device's rows: what the first call of a personal module tries.

Shapes: B devices, P values in theta.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from duetgen.errors import DuetError

TRIED: Final = 0.1
"""Standard deviation of the theta that is tried."""
ALIKE: Final = 0.3
"""How far a device's output may be from what it is alone, as a share of what another device's theta does to it: far
above what rounding does, bfloat16's too, and below what theta on wrong rows mostly does."""
ROUNDED: Final = 1e-4
"""The same as a share of the output's norm, where all is computed in float32 or better: theta on the wrong steps of a
sequence may do no more than a hundredth of what it does on its own."""
EXACT: Final = (torch.float32, torch.float64)
WHOLE: Final = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""What outputs may be that tell nothing of how far they are from others."""


class WrongBatchDimensionError(DuetError):
    """A device's theta was used for rows of another: a layer sees devices in another dimension than was told."""

    code = "wrong-batch-dimension"


def tells(output: Any, devices: int, batch_dim: int) -> bool:
    """Whether something in an output may show which rows a theta met."""

    def shows(found: Tensor) -> bool:
        size = found.shape[batch_dim] if found.dim() > batch_dim else 0
        return size > 0 and size % devices == 0 and found.dtype not in WHOLE

    return any(map(shows, tensors(output)))


@torch.no_grad()
def proof(run: Callable[[Tensor], Any], module: nn.Module, theta_BP: Tensor, batch_dim: int) -> bool:
    """Compare the first and the last device among others with what each is alone, where one theta serves all rows.

    Args:
        run: the personal module's output, of the same inputs each time, for thetas [B, P] or for one [P].
        module: that runs; in evaluation mode meanwhile.
        theta_BP: to try.
        batch_dim: of the output.

    Returns:
        Whether the outputs told anything.

    Raises:
        WrongBatchDimensionError: they differ.
    """
    devices = len(theta_BP)
    modes = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        among, first, last = (list(tensors(alike(run, theta))) for theta in (theta_BP, theta_BP[0], theta_BP[-1]))
    finally:
        # In their own words: a module may do more than note its mode, as to take apart what it has merged.
        for part, mode in modes:
            if part.training != mode:
                part.train(mode)
    on_cpu = theta_BP.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    exact = on_cpu and all(parameter.dtype in EXACT for parameter in module.parameters())
    outputs = list(zip(among, first, last)) if len(among) == len(first) == len(last) else []
    found = [fits(*three, devices, batch_dim, exact) for three in outputs]
    # What each device has may come in a list, as what is detected: of any size, and that of one device alone.
    apart = [three for three in outputs if three[0].dim() and three[0].shape[0] != devices]
    listed = all(any(has_own(exact, *(x[n] for n in order)) for x in apart) for order in ((0, 1, 2), (0, 2, 1)))
    # Beside an output of the devices there may be others that have them elsewhere, as states of several layers.
    elsewhere = True in found
    for three, right in zip(outputs, found):
        dims = range(three[0].dim()) if elsewhere else ()
        if right is False and not listed and not any(fits(*three, devices, dim, exact) for dim in dims):
            raise WrongBatchDimensionError(
                "a device's theta changes what the model computes for another device",
                "tell where the devices lie, by layer where they differ: batch_dim={'encoder.*': 1}; where a layer "
                "has rows in an order of its own, as sorted or joined ones, name layers around it",
            )
    return listed or True in found


def alike(run: Callable[[Tensor], Any], theta: Tensor) -> Any:
    """A run with the random numbers that any other one has."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return run(theta)


def has_own(exact: bool, among: Tensor, alone: Tensor, other: Tensor) -> bool | None:
    """Whether a device's rows are among others what they are alone, and not what another theta makes of them; None
    where theta does not tell.
    """
    if not among.shape == alone.shape == other.shape or among.dtype in WHOLE:
        return None
    own, wanted, foreign = (torch.view_as_real(x) if x.is_complex() else x.float() for x in (among, alone, other))
    # Infinite values, as of what is masked, are so for all.
    own, wanted, foreign = (x.nan_to_num(0, 0, 0) for x in (own, wanted, foreign))
    effect, off = (foreign - wanted).norm(), (own - wanted).norm()
    allowed = ALIKE * effect
    if exact:
        allowed = allowed.clamp(max=ROUNDED * wanted.norm())
    return bool(off <= allowed) if bool(effect) or bool(off) else None


def fits(among: Tensor, first: Tensor, last: Tensor, devices: int, dim: int, exact: bool) -> bool | None:
    """Whether the first and the last device have their rows along a dimension; None where theta does not tell."""
    size = among.shape[dim] if among.dim() > dim else 0
    if not size or size % devices or not among.shape == first.shape == last.shape:
        return None
    each, rows = size // devices, [x.detach().movedim(dim, 0) for x in (among, first, last)]
    first_own = has_own(exact, *(x[:each] for x in rows))
    last_own = has_own(exact, *(rows[n][-each:] for n in (0, 2, 1)))
    return None if first_own is last_own is None else False not in (first_own, last_own)


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
