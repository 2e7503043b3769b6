"""Cloud models: recommenders that read a long history, score the whole catalogue, and never leave the cloud.

What each of them thinks of a device's best items is its *opinion*, a short list that travels to the device beside the
weights and is added to its scores.

- `config`: which models, and their sizes
- `member`: what all of them have in common
- `sequence`: a wide sequence model
- `table`: for each item its nearest ones, of EASE or of item-based neighbours
- `graph`: the user's own ONNX graph; `graph_file` reads and refuses it
- `model`: several of them, their opinions, and their ranking on the cloud
"""

from duetgen.cloudmodel.config import KINDS, CloudConfig, Member
from duetgen.cloudmodel.model import CloudList, CloudModel

__all__ = ["KINDS", "CloudConfig", "CloudList", "CloudModel", "Member"]
