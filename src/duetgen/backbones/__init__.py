"""Device models for sequential recommendation, one file each behind one interface (`backbone.Backbone`).

`BACKBONES` is the table of names that configuration and commands accept; a further backbone is a file and a line of it.
`recommender.Recommender` joins one with what makes it personal.
"""

from duetgen.backbones.backbone import Backbone, BackboneConfig, PairwiseBackbone, SequenceBackbone, windows
from duetgen.backbones.din import DIN
from duetgen.backbones.gru4rec import GRU4Rec
from duetgen.backbones.sasrec import SASRec

BACKBONES: dict[str, type[Backbone]] = {"sasrec": SASRec, "gru4rec": GRU4Rec, "din": DIN}

__all__ = [
    "BACKBONES",
    "DIN",
    "Backbone",
    "BackboneConfig",
    "GRU4Rec",
    "PairwiseBackbone",
    "SASRec",
    "SequenceBackbone",
    "windows",
]
