"""`personalise`: layers of any model made personal by their names, the model itself unedited.

Shapes: P values in theta.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from torch import nn

from duetgen.core.changes import KINDS, Change
from duetgen.core.duet import Duet
from duetgen.core.encoders import Encoder
from duetgen.core.generator import GeneratorConfig
from duetgen.core.layers import LinearSite, NotPersonalisableError, site_of
from duetgen.core.personal import Personal
from duetgen.errors import DuetError, did_you_mean

Layers: TypeAlias = str | Iterable[str] | Mapping[str, str]
"""Names or patterns of layers; a mapping gives each its kind."""
ALL_LINEAR: Final = "all-linear"
"""Every linear layer but the last one of the model."""
BYTES_A_VALUE: Final = 2
"""On the wire, in the usual float16."""
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
        NotPersonalisableError: a layer cannot take theta, or not of this kind; or no layer has this name.
        OverBudgetError: theta would be larger than the budget, with what each layer has of it.
    """
    if not isinstance(layers, Mapping):
        layers = dict.fromkeys([layers] if isinstance(layers, str) else layers, kind)
    kinds = choose(model, layers)
    changes = {name: make_change(model, name, kind, rank, residual) for name, kind in kinds.items()}
    personal = Personal(model, changes, spread(batch_dim, changes))
    check_budget(personal, budget)
    duet = Duet(personal, encoder, generator, weight, keep=keep)
    duet.generator.to(next(model.parameters()).device)
    return duet


def choose(model: nn.Module, wanted: Mapping[str, str]) -> dict[str, str]:
    """Names of the layers that patterns mean, in the order of the model, and their kinds; the first pattern counts.

    Raises:
        NotPersonalisableError: a pattern means nothing that theta can change.
    """
    modules = dict(model.named_modules())
    inside = {f"{name}.out_proj": name for name, module in modules.items() if isinstance(module, nn.MultiheadAttention)}
    chosen: dict[str, str] = {}
    for pattern, kind in wanted.items():
        if pattern == ALL_LINEAR:
            found = [name for name, module in modules.items() if is_linear(module) and name not in inside][:-1]
        else:
            found = [name for name in modules if name and matches(name, pattern)] or [""] * (pattern == "")
            if "*" in pattern:
                found = [name for name in found if site_of(modules[name]) is not None and name not in inside]
        if not found:
            raise NotPersonalisableError(
                f"no layer of {type(model).__name__} that theta can change is named {pattern!r}",
                did_you_mean(pattern, modules, "see model.named_modules() for the names"),
            )
        for name in found:
            if name in inside:
                raise NotPersonalisableError(
                    f"{name} is never called: its attention reads its weights",
                    f"name the attention itself, {inside[name]}, whose projections it changes",
                )
            chosen.setdefault(name, kind)
    return {name: chosen[name] for name in modules if name in chosen}


def matches(name: str, pattern: str) -> bool:
    """Whether a layer's name is a pattern's, or ends with it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, of torch or of GPT-style models."""
    return isinstance(site_of(module), LinearSite)


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
        raise NotPersonalisableError(
            f"{name} is a {type(layer).__name__}, which cannot take theta",
            "name linear layers, convolutions, embeddings, norms, or nn.MultiheadAttention inside of it",
        )
    if rank < 1:
        raise NotPersonalisableError(f"a rank of {rank} is none", "give 1 or more")
    computed = [part for part in ("weight", "bias") if not isinstance(getattr(layer, part, None), nn.Parameter | None)]
    if computed:
        raise NotPersonalisableError(
            f"the {computed[0]} of {name} is computed from other parameters",
            "remove the parametrization first: torch.nn.utils.parametrize.remove_parametrizations",
        )
    parameter = next(layer.parameters(recurse=False), None)
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise NotPersonalisableError(f"{name} has no size yet", "run the model once before it is made personal")
    if parameter is None:
        raise NotPersonalisableError(f"{name} has no parameters of its own", "name a layer that has")
    if not parameter.is_floating_point():
        raise NotPersonalisableError(f"{name} is quantised to {parameter.dtype}", "personalise the model before that")
    if not residual and kind != "full":
        raise NotPersonalisableError(f"the kind {kind} has no replacing form", "leave residual at True")
    change = known(layer, site, rank)
    change.residual = residual
    return change.to(parameter.device, parameter.dtype)


def spread(batch_dim: int | Mapping[str, int], names: Iterable[str]) -> int | dict[str, int]:
    """The batch dimension by layer, where patterns give it."""
    if isinstance(batch_dim, int):
        return batch_dim
    found = {"": batch_dim.get("", 0)}
    for name in names:
        for pattern, dim in batch_dim.items():
            if pattern and matches(name, pattern):
                found[name] = dim
    return found


def check_budget(personal: Personal, budget: int | str | None) -> None:
    """Refuse a theta above the budget.

    Raises:
        OverBudgetError: with what each layer has of it.
        ValueError: the budget is no number of values or bytes.
    """
    if budget is None:
        return
    size = personal.layout.size
    most = budget if isinstance(budget, int) else to_bytes(budget) // BYTES_A_VALUE
    if size > most:
        listed = "; ".join(map(str, sorted(shares(personal), key=lambda share: -share.values)))
        raise OverBudgetError(
            f"theta would have {size:,} values, {size * BYTES_A_VALUE:,} bytes; the budget is {budget}: {listed}",
            "name fewer layers, or give the largest ones the kind scale or low-rank",
        )


def to_bytes(text: str) -> int:
    """A number of bytes, as in `8 kB`.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMi]*B)\s*", text)
    if match is None or match[2] not in UNITS:
        raise ValueError(f"a budget is a number of values, or bytes with a unit of {', '.join(UNITS)}; not {text!r}")
    return int(float(match[1]) * UNITS[match[2]])
