"""The canary: one made-up device, its theta and scores, by which any runtime proves that it computes what was exported.

Its history is drawn by the items' popularity; it is nobody's.

Shapes: B devices (one), L history length, C candidates, P weights in theta, J opinions, K items of one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnxruntime

from duetgen.data.store import FIRST_ITEM, Dataset
from duetgen.evaluation.inputs import random_items
from duetgen.export.parity import Float32, run
from duetgen.wire.bias import ItemBias
from duetgen.wire.bundle import Canary, CanaryOpinion

EVENTS: Final = 50
CANDIDATES: Final = 20
SEED: Final = 20_220_912


def shortest(values: Float32) -> list[float]:
    """Numbers that JSON writes in as few digits as give the same float32 back."""
    return [float(str(value)) for value in values.ravel()]


def make_canary(
    dataset: Dataset,
    device: onnxruntime.InferenceSession,
    generator: onnxruntime.InferenceSession,
    window: int,
    history: int,
) -> Canary:
    """Run both graphs on a made-up history of at most L_g events."""
    history_BL = random_items(dataset, (1, min(history, EVENTS)), SEED).astype(np.int64)
    rng = np.random.default_rng(SEED)
    known = dataset.vocabulary - FIRST_ITEM
    candidates_BC = FIRST_ITEM + rng.choice(known, (1, min(CANDIDATES, known)), replace=False)
    theta_BP, *opinions = run(generator, history=history_BL)
    inputs = {"history": history_BL[:, -window:], "candidates": candidates_BC}
    biases = [ItemBias.of(items_K, values_K) for items_K, values_K in zip(*(part_BJK[0] for part_BJK in opinions))]
    (scores_BC,), (fallback_BC,) = (run(device, theta=theta, **inputs) for theta in (theta_BP, np.zeros_like(theta_BP)))
    return Canary(
        history=history_BL[0].tolist(),
        candidates=candidates_BC[0].tolist(),
        theta=shortest(theta_BP),
        scores=shortest(scores_BC),
        fallback_scores=shortest(fallback_BC),
        opinions=[CanaryOpinion(one.items.tolist(), shortest(one.values)) for one in biases],
    )
