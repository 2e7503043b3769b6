"""The kinds of change that theta can make to a layer, one file each.

`KINDS` is the table of names; a further kind is a file with a `Change` and a line here.
"""

from duetgen.core.changes.change import Change
from duetgen.core.changes.concat import Concat
from duetgen.core.changes.full import Full
from duetgen.core.changes.low_rank import LowRank
from duetgen.core.changes.prefix import Prefix
from duetgen.core.changes.scale import Scale

KINDS: dict[str, type[Change]] = {kind.kind: kind for kind in (Full, LowRank, Scale, Prefix, Concat)}

__all__ = ["KINDS", "Change", "Concat", "Full", "LowRank", "Prefix", "Scale"]
