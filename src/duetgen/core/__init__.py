"""The method (DUET, WWW 2023) for any torch module; no recommendation in it.

The flow, one file each:

- `layout`: what `theta` holds and where
- `layers`: the types of layer that `theta` can change
- `changes`: what it does to one: all parameters, a low-rank core, a scale and shift, a prefix
- `personal`: runs a module with a given `theta`, without writing it into the module
- `personalise`: the same for layers of any model by their names
- `encoders`: a history of payloads, a sequence or a set, to one vector
- `stabiliser`: blends candidate parameter sets (Stable Weight Adapter)
- `generator`: history to `theta` (Personalized Parameters Generator)
- `theta`: a device's parameters whole, weights and item bias, and how much each counts with age
- `duet`: global model and generator joined, with the joint objective
"""

from duetgen.core.changes import KINDS, Change
from duetgen.core.duet import Duet, freeze, joint_loss
from duetgen.core.encoders import (
    ENCODERS,
    AttentionEncoder,
    AttentionPoolEncoder,
    AverageEncoder,
    Encoder,
    Features,
    GRUEncoder,
    PooledEncoder,
    SequenceEncoder,
    StateEncoder,
)
from duetgen.core.generator import GeneratorConfig, ParameterGenerator
from duetgen.core.layout import LayoutEntry, ParameterLayout
from duetgen.core.personal import Personal
from duetgen.core.personalise import make_change, personalise, shares
from duetgen.core.stabiliser import StableWeightAdapter
from duetgen.core.theta import AGES, ItemBias, Theta, Trust

__all__ = [
    "AGES",
    "ENCODERS",
    "KINDS",
    "AttentionEncoder",
    "AttentionPoolEncoder",
    "AverageEncoder",
    "Change",
    "Duet",
    "Encoder",
    "Features",
    "GRUEncoder",
    "GeneratorConfig",
    "ItemBias",
    "LayoutEntry",
    "ParameterGenerator",
    "ParameterLayout",
    "Personal",
    "PooledEncoder",
    "SequenceEncoder",
    "StableWeightAdapter",
    "StateEncoder",
    "Theta",
    "Trust",
    "freeze",
    "joint_loss",
    "make_change",
    "personalise",
    "shares",
]
