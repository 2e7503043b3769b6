"""Device models for sequential recommendation, one file each behind one interface (`backbone.Backbone`).

`recommender.Recommender` joins a backbone with the generator of its head's parameters: what is trained, measured and
exported. `BACKBONES` is the table of names that commands accept.
"""

from duetgen.backbones.backbone import Backbone, BackboneConfig, PairwiseBackbone, SequenceBackbone, windows
from duetgen.backbones.din import DIN
from duetgen.backbones.gru4rec import GRU4Rec
from duetgen.backbones.recommender import BACKBONES, HistoryConfig, ModelConfig, Recommender
from duetgen.backbones.sasrec import SASRec

__all__ = [
    "BACKBONES",
    "DIN",
    "Backbone",
    "BackboneConfig",
    "GRU4Rec",
    "HistoryConfig",
    "ModelConfig",
    "PairwiseBackbone",
    "Recommender",
    "SASRec",
    "SequenceBackbone",
    "windows",
]
