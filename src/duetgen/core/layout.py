"""What `theta`, one flat vector of a device's parameters, holds and where.

Shapes: P parameters in `theta`; `*` any leading dimensions (devices, rows, positions).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, cat

from duetgen.errors import DuetError


class LayoutMismatchError(DuetError):
    """Parameters that do not fit the layout they are used with."""

    code = "layout-mismatch"


@dataclass(frozen=True)
class LayoutEntry:
    """One parameter of one personal layer: `theta[offset : offset + size]`, in row-major order of `shape`."""

    layer: str
    parameter: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """`layer.parameter`, as torch names it; the parameter alone where the module is itself the layer."""
        return f"{self.layer}.{self.parameter}" if self.layer else self.parameter


@dataclass(frozen=True)
class ParameterLayout:
    """The order, names and shapes of the parameters in `theta`.

    Every value of `theta` belongs to exactly one entry and entries follow one another without gaps, so a layout is
    fully told by its names and shapes; `digest` is what two sides compare.
    """

    entries: tuple[LayoutEntry, ...]

    @classmethod
    def of(cls, shapes: Iterable[tuple[str, str, tuple[int, ...]]]) -> ParameterLayout:
        """A layout of (layer, parameter, shape) in the given order."""
        entries, offset = [], 0
        for layer, parameter, shape in shapes:
            entries.append(LayoutEntry(layer, parameter, tuple(shape), offset))
            offset += math.prod(shape)
        return cls(tuple(entries))

    @cached_property
    def size(self) -> int:
        """P, the number of values in `theta`."""
        return sum(entry.size for entry in self.entries)

    @cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Layer name to its slice of `theta`: (offset, size), in order."""
        slices: dict[str, tuple[int, int]] = {}
        for entry in self.entries:
            offset, size = slices.get(entry.layer, (entry.offset, 0))
            slices[entry.layer] = (offset, size + entry.size)
        return slices

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over names and shapes: equal exactly for layouts that are interchangeable."""
        lines = (f"{entry.name} {'x'.join(map(str, entry.shape))}\n" for entry in self.entries)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def split(self, theta: Tensor) -> dict[str, Tensor]:
        """Views into `theta` [*, P] by entry name, each [*, *shape].

        Raises:
            LayoutMismatchError: the last dimension of `theta` is not P.
        """
        if theta.shape[-1] != self.size:
            raise LayoutMismatchError(
                f"theta holds {theta.shape[-1]} values, this layout {self.size}",
                "theta and model must come from the same version of a bundle",
            )
        lead = theta.shape[:-1]
        return {e.name: theta[..., e.offset : e.offset + e.size].reshape(*lead, *e.shape) for e in self.entries}

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `split`: tensors [*, *shape] by entry name to `theta` [*, P].

        Raises:
            LayoutMismatchError: a name is missing or unknown, or a shape does not fit.
        """
        wanted = {entry.name: entry for entry in self.entries}
        if wanted.keys() != parameters.keys():
            odd = sorted(wanted.keys() ^ parameters.keys())
            raise LayoutMismatchError(f"parameters {odd} are not on both sides", "give exactly the layout's parameters")
        flat = []
        for name, entry in wanted.items():
            tensor = parameters[name]
            lead = tensor.shape[: tensor.dim() - len(entry.shape)]
            if tuple(tensor.shape[len(lead) :]) != entry.shape:
                raise LayoutMismatchError(
                    f"{name} has shape {tuple(tensor.shape)}, the layout says {entry.shape}",
                    "leading dimensions come first, the layout's shape last",
                )
            flat.append(tensor.reshape(*lead, entry.size))
        return cat(flat, dim=-1)
