"""`personalise`: layers of any model made personal by their names, the model itself unedited.

Shapes: P values in theta.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

import torch
from torch import nn

from duetgen.core.changes import KINDS, Change
from duetgen.core.duet import Duet
from duetgen.core.encoders import Encoder
from duetgen.core.encoders.encoder import InvalidArgumentError
from duetgen.core.generator import GeneratorConfig
from duetgen.core.layers import SITES, LinearSite, NotPersonalisableError, site_of
from duetgen.core.personal import Personal
from duetgen.errors import DuetError, did_you_mean

Layers: TypeAlias = str | Iterable[str] | Mapping[str, str]
"""Names or patterns of layers; a mapping gives each its kind."""
ALL_LINEAR: Final = "all-linear"
"""Every linear layer but the last one of the model."""
BYTES_A_VALUE: Final = 2
"""On the wire, in the usual float16."""
EXAMPLE: Final = '"8 kB"'
UNITS: Final = {"B": 1, "kB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2}


class OverBudgetError(DuetError):
    """Theta of the layers that were named would be larger than the budget."""

    code = "over-budget"


@dataclass(frozen=True)
class Share:
    """What one layer has of theta.

    Attributes:
        layer: its name.
        type: its class.
        kind: of the change.
        values: of theta.
    """

    layer: str
    type: str
    kind: str
    values: int

    @property
    def bytes(self) -> int:
        """On the wire, as float16."""
        return self.values * BYTES_A_VALUE

    def __str__(self) -> str:
        return f"{self.layer} ({self.type}, {self.kind}): {self.values:,} values, {self.bytes:,} bytes"


def shares(personal: Personal) -> list[Share]:
    """Theta layer by layer."""
    return [Share(name, type(layer).__name__, change.kind, change.size) for name, layer, change in personal.by_name()]


def personalise(
    model: nn.Module,
    layers: Layers,
    *,
    encoder: Encoder,
    kind: str = "scale",
    rank: int = 8,
    residual: bool = True,
    budget: int | str | None = None,
    batch_dim: int | Mapping[str, int] = 0,
    generator: GeneratorConfig | None = None,
    weight: float = 0.5,
    keep: bool = True,
) -> Duet:
    """Make some layers of a model personal: `duet(history, *inputs)` is the model with each device's own theta.

    The model's code, weights, dtype and device stay as they are, and `model(*inputs)` computes what it did.

    Args:
        model: any module.
        layers: a name or several, as in `named_modules`; the end of a name is enough (`fc` for `head.fc`), `*` stands
            for anything, and `all-linear` for every linear layer but the last. A mapping gives each its kind.
        encoder: reads a device's history, see `encoders`.
        kind: `scale`, each feature of the layer's output is scaled and shifted; `full`, all its parameters are
            generated; `low-rank`, a small core between two shared matrices; `prefix`, a few vectors that each row looks
            at; `concat`, a vector that is appended to its input.
        rank: of a core; number of vectors of a prefix; size of an appended vector.
        residual: theta shifts the layers, so that 0 is the model (True); or replaces their parameters, for `full`.
        budget: the most that theta may have: values, or bytes as in "8 kB" (as float16).
        batch_dim: where the devices lie in inputs and outputs, 0 for the first dimension; by layer where that differs,
            as in `{"encoder.*": 1}`. Convolutions, batch and group norms, `nn.MultiheadAttention` know it themselves.
        generator: see `GeneratorConfig`.
        weight: λ of the joint objective, where the model is trained too.
        keep: the model is finished: it is not trained, stays in evaluation mode, and theta = 0 is that model.

    Raises:
        InvalidArgumentError: an argument is of another type, or out of its range.
        NotPersonalisableError: a layer cannot take theta, or not of this kind; or no layer has this name.
        OverBudgetError: theta would be larger than the budget, with what each layer has of it.
    """
    config = generator or GeneratorConfig()
    check("model", model, isinstance(model, nn.Module), "a torch.nn.Module")
    check(
        "encoder", encoder, isinstance(encoder, Encoder), "one of duetgen.core.ENCODERS, or a subclass of core.Encoder"
    )
    check("generator", config, isinstance(config, GeneratorConfig) and config.sound, "a core.GeneratorConfig in range")
    check("rank", rank, is_whole(rank), "a whole number from 1")
    check("weight", weight, isinstance(weight, int | float) and 0 <= weight < math.inf, "a number from 0")
    kinds = choose(model, named(layers, kind))
    changes = {name: make_change(model, name, kind, rank, residual) for name, kind in kinds.items()}
    personal = Personal(model, changes, spread(batch_dim, changes))
    check_budget(personal, budget)
    duet = Duet(personal, encoder, generator, weight, keep=keep)
    duet.generator.to(next(model.parameters()).device)
    return duet


def check(name: str, value: object, right: bool, wanted: str) -> None:
    """Refuse an argument that is not right.

    Raises:
        InvalidArgumentError: with what it is and should be.
    """
    if not right:
        shown = repr(value) if isinstance(value, str | int | float | Mapping) else f"a {type(value).__name__}"
        raise InvalidArgumentError(f"{name} is {shown:.200}", f"give {wanted}")


def is_whole(value: object) -> bool:
    """Whether it is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def named(layers: Layers, kind: str) -> dict[str, str]:
    """Layers by name with their kinds, in whichever form they are told.

    Raises:
        InvalidArgumentError: a name or a kind is no text.
    """
    listed = [layers] if isinstance(layers, str) or not isinstance(layers, Iterable) else layers
    found: dict[str, str] = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(listed, kind)
    for name, own_kind in found.items():
        check("layers", name, isinstance(name, str), "names of layers, see model.named_modules()")
        check("kind", own_kind, isinstance(own_kind, str), f"one of {', '.join(KINDS)}")
    return found


def choose(model: nn.Module, wanted: Mapping[str, str]) -> dict[str, str]:
    """Names of the layers that patterns mean, in the order of the model, and their kinds; the first pattern counts.

    Raises:
        NotPersonalisableError: a pattern means nothing that theta can change.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise NotPersonalisableError("the model is scripted or traced", "personalise the model that it was made from")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            unsized = name.rpartition(".")[0]
            raise NotPersonalisableError(f"{unsized} has no size yet", "run the model once before it is made personal")
    # A layer that has two names is meant by both, and has the first one.
    modules = dict(model.named_modules(remove_duplicate=False))
    first = {module: name for name, module in reversed(modules.items())}
    inside = {f"{name}.out_proj": name for name, module in modules.items() if isinstance(module, nn.MultiheadAttention)}
    chosen: dict[str, str] = {}
    for pattern, kind in wanted.items():
        if pattern == ALL_LINEAR:
            found = [
                name
                for name, module in modules.items()
                if first[module] == name and is_linear(module) and name not in inside
            ]
            found = found[:-1]
        else:
            found = [name for name in modules if name and matches(name, pattern)] or [""] * (pattern == "")
            if "*" in pattern:
                found = [name for name in found if can_take(modules[name]) and name not in inside]
        if not found:
            otherwise = (
                "it leaves out the last one" if pattern == ALL_LINEAR else "see model.named_modules() for the names"
            )
            raise NotPersonalisableError(
                f"no layer of {type(model).__name__} that theta can change is named {pattern!r}",
                did_you_mean(pattern, modules, otherwise),
            )
        for name in found:
            if name in inside:
                raise NotPersonalisableError(
                    f"{name} is never called: its attention reads its weights",
                    f"name the attention itself, {inside[name]}, whose projections it changes",
                )
            chosen.setdefault(first[modules[name]], kind)
    return {name: chosen[name] for name in modules if name in chosen}


def matches(name: str, pattern: str) -> bool:
    """Whether a layer's name is a pattern's, or ends with it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def can_take(module: nn.Module) -> bool:
    """Whether a layer is of a type that takes theta and has parameters, as a norm need not."""
    return site_of(module) is not None and next(module.parameters(recurse=False), None) is not None


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, of torch or of GPT-style models."""
    return isinstance(module, nn.Linear) or isinstance(site_of(module), LinearSite)


def make_change(model: nn.Module, name: str, kind: str, rank: int = 8, residual: bool = True) -> Change:
    """What theta does to a layer, on its device and in its dtype.

    Raises:
        NotPersonalisableError: the layer cannot take theta, or not of this kind.
    """
    layer = model.get_submodule(name)
    site, known = site_of(layer), KINDS.get(kind)
    if known is None:
        hint = did_you_mean(kind, KINDS, f"it is one of {', '.join(KINDS)}")
        raise NotPersonalisableError(f"there is no kind {kind!r}", hint)
    if site is None:
        inside = [own for own, module in layer.named_modules(prefix=name) if site_of(module) is not None]
        known_layers = "name linear layers, convolutions, embeddings, norms, or nn.MultiheadAttention"
        raise NotPersonalisableError(
            f"{name or 'the model'} is a {called(layer)}, which cannot take theta",
            f"name a layer inside of it, as {inside[0]}" if inside else known_layers,
        )
    if rank < 1:
        raise NotPersonalisableError(f"a rank of {rank} is none", "give 1 or more")
    computed = [part for owner in layer.modules() for part in computed_parts(owner)]
    if computed:
        raise NotPersonalisableError(
            f"the {computed[0]} of {name} is computed from other parameters",
            "remove the parametrization first: torch.nn.utils.parametrize.remove_parametrizations",
        )
    parameter = next(layer.parameters(recurse=False), None)
    if parameter is None:
        raise NotPersonalisableError(f"{name} has no parameters of its own", "name a layer that has")
    if not parameter.is_floating_point():
        raise NotPersonalisableError(f"{name} is quantised to {parameter.dtype}", "personalise the model before that")
    if not residual and kind != "full":
        raise NotPersonalisableError(f"the kind {kind} has no replacing form", "leave residual at True")
    change = known(layer, site, rank)
    change.residual = residual
    return change.to(parameter.device, parameter.dtype)


def called(layer: nn.Module) -> str:
    """What the type of a layer is called, with its module where a type that takes theta is called so too."""
    own = type(layer)
    known = any(own.__name__ == kind.__name__ for kind in SITES)
    return f"{own.__module__}.{own.__name__}" if known else own.__name__


def computed_parts(module: nn.Module) -> list[str]:
    """Parameters of a module that are computed from others at each call, by a parametrization or its older form."""
    parametrized = getattr(module, "parametrizations", ())
    older = [part for part in ("weight", "bias") if not isinstance(getattr(module, part, None), nn.Parameter | None)]
    return [*parametrized, *older]


def spread(batch_dim: int | Mapping[str, int], names: Iterable[str]) -> int | dict[str, int]:
    """The batch dimension by layer, where patterns give it.

    Raises:
        InvalidArgumentError: it is no dimension, or a pattern means no layer that theta changes.
    """
    given: Mapping[str, int] = batch_dim if isinstance(batch_dim, Mapping) else {"": batch_dim}
    for dim in given.values():
        check("batch_dim", dim, is_whole(dim) and dim >= 0, "a dimension from 0, or one for each layer by name")
    if not isinstance(batch_dim, Mapping):
        return batch_dim
    found, names = {"": given.get("", 0)}, list(names)
    for pattern, dim in given.items():
        meant = [name for name in names if pattern and matches(name, pattern)]
        check("batch_dim", pattern, bool(meant) or not pattern, f"names of personal layers: {', '.join(names)}")
        found |= dict.fromkeys(meant, dim)
    return found


def check_budget(personal: Personal, budget: int | str | None) -> None:
    """Refuse a theta above the budget.

    Raises:
        OverBudgetError: with what each layer has of it.
        InvalidArgumentError: the budget is no number of values or bytes.
    """
    if budget is None:
        return
    size = personal.layout.size
    most = to_bytes(budget) // BYTES_A_VALUE if isinstance(budget, str) else budget
    check("budget", budget, is_whole(most) and most > 0, f"a whole number of values, or bytes as in {EXAMPLE}")
    if size > most:
        listed = "; ".join(map(str, sorted(shares(personal), key=lambda share: -share.values)))
        raise OverBudgetError(
            f"theta would have {size:,} values, {size * BYTES_A_VALUE:,} bytes; the budget is {budget}: {listed}",
            "name fewer layers, or give the largest ones the kind scale or low-rank",
        )


def to_bytes(text: str) -> int:
    """A number of bytes, as in `8 kB`.

    Raises:
        InvalidArgumentError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMi]*B)\s*", text)
    if match is None or match[2] not in UNITS:
        wanted = (
            f"bytes with a unit of {', '.join(UNITS)}, as in {EXAMPLE}; or a whole number of values, which is no text"
        )
        raise InvalidArgumentError(f"budget is {text!r}"[:200], f"give {wanted}")
    return int(float(match[1]) * UNITS[match[2]])
