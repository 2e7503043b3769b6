"""Publishing: a run becomes a bundle that a cloud serves and devices run.

- `bundle`: makes and checks it
- `model`: the same for any model that was made personal
- `folder`: signs and writes it
- `parts`: which parts of theta are published
- `graphs`: the two ONNX graphs
- `recurrent`: a GRU as one ONNX operator
- `quantisation`: int8 item embeddings
- `parity`: the gate: ONNX Runtime computes what torch computes
- `plausible`: bounds of theta
- `canary`: proof for any runtime
- `items`: ids and titles
- `quality`: what the manifest says about quality
- `keys`: Ed25519 keys; needs no torch
- `errors`: refusals
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from duetgen.late import late

if TYPE_CHECKING:
    from duetgen.export.bundle import export_bundle
    from duetgen.export.model import export_model

__all__ = ["export_bundle", "export_model"]


# Late, so that who only handles keys does not wait for torch.
__getattr__ = late(__name__, {"export_bundle": "bundle", "export_model": "model"})
