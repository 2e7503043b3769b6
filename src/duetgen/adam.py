"""Adam and AdamW that start at once.

Those of torch import its compiler with their first parameters and at their first step, which takes as long as importing
torch; nothing of a training is compiled.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import Optimizer


class Uncompiled(Optimizer):
    """The methods that torch keeps out of its compiler, as they are without it."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


class Adam(Uncompiled, torch.optim.Adam):
    """See `torch.optim.Adam`."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(Uncompiled, torch.optim.AdamW):
    """See `torch.optim.AdamW`."""

    step: Any = Adam.step
