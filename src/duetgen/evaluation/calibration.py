"""Log loss of candidates: scores become probabilities by two numbers that the validation part fits (Platt, 1999).

Scores of a ranking model are not probabilities of a click among drawn candidates; p = σ(a s + b) makes them so, with
(a, b) fitted once for each model, on the validation part with fresh parameters, and kept for every condition, as one
would ship them. s is the score less the log-normaliser of the device's trained softmax, so that devices compare.

Shapes: R rows.
"""

from __future__ import annotations

import msgspec
import numpy as np

from duetgen.evaluation.metrics import LAST, Float32, Float64

MAX_STEPS = 100
TOLERANCE = 1e-10


class Calibration(msgspec.Struct, frozen=True):
    """p = σ(slope · s + intercept), and on how many rows of the validation part it was fitted."""

    slope: float
    intercept: float
    rows: int


def log_losses(calibration: Calibration, score_R: Float32, label: int) -> Float64:
    """Binary log loss, in nats, of rows that all have the label 0 or 1: [R]; 0 for what has no score of its own,
    padding (-inf) and the unknown item (`LAST`).
    """
    scored_R = score_R > LAST
    logit_R = calibration.slope * np.where(scored_R, score_R.astype(np.float64), 0) + calibration.intercept
    loss_R: Float64 = np.logaddexp(0, -logit_R if label else logit_R)
    return np.where(scored_R, loss_R, 0.0)


def fit(positive_P: Float32, negative_M: Float32) -> Calibration | None:
    """Slope and intercept that minimise the mean log loss, by Newton's method with step halving (Lin et al., 2007).

    Labels are softened as in Platt (1999), to (P + 1)/(P + 2) and 1/(M + 2), so that rows that a line separates still
    have a finite optimum. None where a class has no row.
    """
    if not len(positive_P) or not len(negative_M):
        return None
    score_R = np.concatenate([positive_P, negative_M]).astype(np.float64)
    # Newton's method does not mind the scale, but its linear equations do.
    centre, scale = float(score_R.mean()), float(score_R.std()) or 1.0
    x_R = (score_R - centre) / scale
    label_R = np.full(len(x_R), 1 / (len(negative_M) + 2))
    label_R[: len(positive_P)] = (len(positive_P) + 1) / (len(positive_P) + 2)

    def loss(w: Float64) -> float:
        logit_R = w[0] * x_R + w[1]
        return float(np.mean(np.logaddexp(0, logit_R) - label_R * logit_R))

    w = np.array([0.0, np.log((len(positive_P) + 1) / (len(negative_M) + 1))])
    before = loss(w)
    for _ in range(MAX_STEPS):
        p_R = 1 / (1 + np.exp(-np.clip(w[0] * x_R + w[1], -500, 500)))
        residual_R, weight_R = p_R - label_R, p_R * (1 - p_R)
        gradient = np.array([np.mean(residual_R * x_R), np.mean(residual_R)])
        cross = np.mean(weight_R * x_R)
        hessian = np.array([[np.mean(weight_R * x_R * x_R), cross], [cross, np.mean(weight_R)]])
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        length, after = 1.0, loss(w - step)
        while after > before and length > TOLERANCE:
            length /= 2
            after = loss(w - length * step)
        if after > before:
            break
        w = w - length * step
        if before - after < TOLERANCE:
            break
        before = after
    slope = float(w[0]) / scale
    return Calibration(slope, float(w[1]) - slope * centre, len(score_R))
