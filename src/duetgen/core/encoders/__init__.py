"""Head encoders: a history of payloads to one vector, one file each.

`ENCODERS` is the table of names that configuration and commands accept; a further encoder is a file and a line here.
Those of a sequence know the order of payloads and give a vector after each; those of a set know no order.
"""

from duetgen.core.encoders.attention import AttentionEncoder
from duetgen.core.encoders.attention_pool import AttentionPoolEncoder
from duetgen.core.encoders.average import AverageEncoder
from duetgen.core.encoders.encoder import Encoder, SequenceEncoder
from duetgen.core.encoders.features import Features
from duetgen.core.encoders.gru import GRUEncoder
from duetgen.core.encoders.pooled import PooledEncoder
from duetgen.core.encoders.state import StateEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "average": AverageEncoder,
    "gru": GRUEncoder,
    "attention": AttentionEncoder,
    "cloud": StateEncoder,
    "pooled": PooledEncoder,
    "attention-pool": AttentionPoolEncoder,
}

__all__ = [
    "ENCODERS",
    "AttentionEncoder",
    "AttentionPoolEncoder",
    "AverageEncoder",
    "Encoder",
    "Features",
    "GRUEncoder",
    "PooledEncoder",
    "SequenceEncoder",
    "StateEncoder",
]
