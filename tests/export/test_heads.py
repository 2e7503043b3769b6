"""Every kind of head goes into the device's graph as the full one does, theta being its input."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from duetgen.backbones import BackboneConfig
from duetgen.core import GeneratorConfig, Theta
from duetgen.export import graphs, parity
from duetgen.recommender import HistoryConfig, ModelConfig, Recommender

PLAIN = ("kernels", "operators")
BROWSER = Path(__file__).parent.parent.parent / "web/src"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("din", "low-rank"),
        ("din", "prefix"),
        pytest.param("din", "window-prefix", marks=pytest.mark.slow),
        ("sasrec", "scale"),
        pytest.param("sasrec", "prefix", marks=pytest.mark.slow),
        ("sasrec", "window-prefix"),
        ("gru4rec", "window-prefix"),
    ],
)
def test_the_device_graph_is_the_model(name: str, head: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        name=name,  # type: ignore[arg-type]
        backbone=BackboneConfig(width=8, window=4, head=head),  # type: ignore[arg-type]
        history=HistoryConfig(length=12, width=8, embedding_width=8),
        generator=GeneratorConfig(width=8, decoder_scale=0.1, decoder_rank=3),
    )
    model = Recommender(60, config).eval()
    content = graphs.export_device(model)
    session = parity.session(content)
    window, candidates = np.array([[3, 4, 5, 0], [7, 8, 9, 10], [0] * 4]), np.array([[1, 2, 3]] * 3)
    with torch.inference_mode():
        own_BP = model.generate(torch.from_numpy(window)).weights_BP
        assert own_BP is not None
        for theta_BP in (own_BP, torch.zeros_like(own_BP)):
            expected = model.score(torch.from_numpy(window), torch.from_numpy(candidates), Theta(theta_BP))
            (found,) = parity.run(session, theta=theta_BP.numpy(), history=window, candidates=candidates)
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    # What a page runs without ONNX Runtime.
    tables = [(BROWSER / f"{name}.ts").read_text().split("const " + name.upper(), 1)[1] for name in PLAIN]
    known = {name for table in tables for name in re.findall(r"^  ([A-Z]\w+)[,:]", table, re.M)}
    assert {node.op_type for node in onnx.load_from_string(content).graph.node} <= known
