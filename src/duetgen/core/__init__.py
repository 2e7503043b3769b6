"""The method (DUET, WWW 2023) for any torch module; no recommendation in it.

The flow, one file each:

- `layout`: what `theta` holds and where
- `dynamic`: layers whose parameters `theta` shifts or replaces
- `variants`: further such layers: low-rank, scaling, concatenating
- `personal`: runs a module with a given `theta`, without writing it into the module
- `encoders`: a history of behaviour to one vector
- `stabiliser`: blends candidate parameter sets (Stable Weight Adapter)
- `generator`: history to `theta` (Personalized Parameters Generator)
- `theta`: a device's parameters whole, weights and item bias, and how much each counts with age
- `duet`: global model and generator joined, with the joint objective
"""

from duetgen.core.duet import Duet, joint_loss
from duetgen.core.dynamic import DynamicLayer, DynamicLinear
from duetgen.core.encoders import AverageEncoder, Encoder, GRUEncoder
from duetgen.core.generator import GeneratorConfig, ParameterGenerator
from duetgen.core.layout import LayoutEntry, ParameterLayout
from duetgen.core.personal import Personal
from duetgen.core.stabiliser import StableWeightAdapter
from duetgen.core.theta import AGES, ItemBias, Theta, Trust
from duetgen.core.variants import ConcatLinear, LowRankDynamicLinear, ScaledLinear

__all__ = [
    "AGES",
    "AverageEncoder",
    "ConcatLinear",
    "Duet",
    "DynamicLayer",
    "DynamicLinear",
    "Encoder",
    "GRUEncoder",
    "GeneratorConfig",
    "ItemBias",
    "LayoutEntry",
    "LowRankDynamicLinear",
    "ParameterGenerator",
    "ParameterLayout",
    "Personal",
    "ScaledLinear",
    "StableWeightAdapter",
    "Theta",
    "Trust",
    "joint_loss",
]
