"""Publishing: a run becomes a bundle that a cloud serves and devices run.

`bundle`        makes, checks, signs and writes it
`graphs`        the two ONNX graphs
`recurrent`     a GRU as one ONNX operator
`quantisation`  int8 item embeddings
`parity`        the gate: ONNX Runtime computes what torch computes
`plausible`     bounds of theta
`canary`        proof for any runtime
`items`         ids and titles
`quality`       what the manifest says about quality
`keys`          Ed25519 keys
`errors`        refusals
"""

from duetgen.export.bundle import export_bundle
from duetgen.export.keys import load_key, new_key, public_hex

__all__ = ["export_bundle", "load_key", "new_key", "public_hex"]
