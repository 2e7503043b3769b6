"""The gate of every export: ONNX Runtime must compute what torch computes, at any length, batch and theta.

Shapes: B devices, L history length (L_d device, L_g generator), C candidates, P weights in theta, J opinions, K items
of an opinion, V items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from duetgen.data.store import FIRST_ITEM, Int64
from duetgen.export.errors import ParityFailedError

TOLERANCE: Final = 1e-4
"""Largest difference, relative to the largest value compared where that is above 1."""
BATCHES: Final = (1, 2, 5)
CANDIDATES: Final = (1, 7, 150)

Float32 = npt.NDArray[np.float32]


def session(content: bytes) -> onnxruntime.InferenceSession:
    """A graph, ready to run on one thread.

    Raises:
        ParityFailedError: ONNX Runtime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # its errors have no common base
        raise ParityFailedError(f"ONNX Runtime refuses the graph: {cause}", HINT) from cause


HINT: Final = "nothing was written; report it with the versions of torch, onnxscript and onnxruntime"


def run(graph: onnxruntime.InferenceSession, **inputs: npt.NDArray[np.generic]) -> list[npt.NDArray[Any]]:
    """The outputs of a graph.

    Raises:
        ParityFailedError: ONNX Runtime fails.
    """
    try:
        found: list[npt.NDArray[Any]] = graph.run(None, inputs)
    except Exception as cause:
        shapes = {name: array.shape for name, array in inputs.items()}
        raise ParityFailedError(f"ONNX Runtime fails on {shapes}: {cause}", HINT) from cause
    return found


def difference(expected: Float32, found: Float32) -> float:
    """The largest difference, relative to the largest expected value where that is above 1; infinite if not finite."""
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return float(np.abs(expected - found).max(initial=0)) / scale


def dense(opinions: Sequence[npt.NDArray[Any]], vocabulary: int) -> Float32:
    """Items and values [B, J, K] over the catalogue: [B, J, V]; items that tie for the last place have no value."""
    items_BJK, values_BJK = opinions
    rows_BJV = np.zeros((*items_BJK.shape[:2], vocabulary), dtype=np.float32)
    real_BJK = (items_BJK >= FIRST_ITEM) & ~(values_BJK <= 0)
    row, opinion, _ = place = np.nonzero(real_BJK)
    np.add.at(rows_BJV, (row, opinion, items_BJK[place]), values_BJK[place])
    return rows_BJV


def draw_histories(rng: np.random.Generator, batch: int, length: int, vocabulary: int) -> Int64:
    """Histories of random lengths up to `length`, right-padded, the first as long as possible: [B, L]."""
    length_B = rng.integers(0, length + 1, batch)
    length_B[0] = length
    history_BL = rng.integers(1, vocabulary, (batch, length))
    history_BL[np.arange(length) >= length_B[:, None]] = 0
    return history_BL


def lengths(longest: int) -> tuple[int, ...]:
    """Lengths of history to try: the extremes and some between."""
    return tuple(sorted({1, min(2, longest), max(1, longest // 2), max(1, longest - 1), longest}))


class Gate:
    """Compares what torch and ONNX Runtime compute.

    Attributes:
        worst: the largest difference so far.
    """

    def __init__(self) -> None:
        self.worst = 0.0

    def compare(self, what: str, expected: Float32, found: Float32) -> None:
        """Compare one array.

        Raises:
            ParityFailedError: the difference is above `TOLERANCE`.
        """
        off = difference(expected, found)
        self.worst = max(self.worst, off)
        if not off <= TOLERANCE:
            raise ParityFailedError(
                f"torch and ONNX Runtime differ by {off:.2g} in {what}; {TOLERANCE:g} is allowed", HINT
            )


def check(
    device: tuple[nn.Module, onnxruntime.InferenceSession],
    generator: tuple[nn.Module, onnxruntime.InferenceSession],
    *,
    window: int,
    history: int,
    vocabulary: int,
    bounds_P: Float32,
    seed: int = 0,
) -> float:
    """Compare torch modules and graphs on random inputs.

    Args:
        device: module and graph of (theta, history, candidates).
        generator: module and graph of history, with or without opinions.
        window: L_d.
        history: L_g.
        vocabulary: V.
        bounds_P: plausible magnitudes of theta; random ones are drawn within.
        seed: of what is drawn.

    Returns:
        The largest difference found, see `difference`.

    Raises:
        ParityFailedError: it is above `TOLERANCE`.
    """
    rng = np.random.default_rng(seed)
    gate = Gate()
    compare = gate.compare
    with torch.inference_mode():
        for number, length in enumerate(lengths(history)):
            batch = BATCHES[number % len(BATCHES)]
            history_BL = draw_histories(rng, batch, length, vocabulary)
            theta_BP, *opinions = (part.numpy() for part in generator[0](torch.from_numpy(history_BL)))
            # The same histories, padded to the longest: nothing may change.
            padded_BL = np.pad(history_BL, ((0, 0), (0, history - length)))
            for given_BL in (history_BL, padded_BL):
                found_BP, *found_opinions = run(generator[1], history=given_BL)
                compare(f"theta of histories {given_BL.shape}", theta_BP, found_BP)
                if opinions:
                    expected_BJV, found_BJV = (dense(one, vocabulary) for one in (opinions, found_opinions))
                    compare(f"opinions of histories {given_BL.shape}", expected_BJV, found_BJV)
            random_BP = rng.uniform(-1, 1, theta_BP.shape).astype(np.float32) * bounds_P
            for theta in (theta_BP, np.zeros_like(random_BP), random_BP):
                short = lengths(window)[number % len(lengths(window))]
                window_BL = draw_histories(rng, batch, short, vocabulary)
                candidates_BC = rng.integers(1, vocabulary, (batch, CANDIDATES[int(rng.integers(len(CANDIDATES)))]))
                tensors = (torch.from_numpy(array) for array in (theta, window_BL, candidates_BC))
                scores_BC = device[0](*tensors).numpy()
                for given_BL in (window_BL, np.pad(window_BL, ((0, 0), (0, window - short)))):
                    (found_BC,) = run(device[1], theta=theta, history=given_BL, candidates=candidates_BC)
                    compare(f"scores of windows {given_BL.shape}", scores_BC, found_BC)
    return gate.worst
