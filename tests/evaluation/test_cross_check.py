"""The same figures from other people's code."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from duetgen.evaluation.calibration import Calibration, log_losses
from duetgen.evaluation.metrics import auc, mean_rank, pooled_auc, ranking_metrics

QUERIES, DOCUMENTS = 20, 30


@pytest.fixture
def scores() -> np.ndarray:
    """Scores without ties, the target first: the others leave the order of ties to chance."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(DOCUMENTS) for _ in range(QUERIES)]).astype(np.float32)


RANX = """
import json, sys
import ranx

scores = json.load(sys.stdin)
names = [f"d{i:02}" for i in range(len(scores[0]))]
qrels = ranx.Qrels({f"q{q:02}": {names[0]: 1} for q in range(len(scores))})
run = ranx.Run({f"q{q:02}": dict(zip(names, row)) for q, row in enumerate(scores)})
found = ranx.evaluate(qrels, run, ["ndcg@10", "hit_rate@10", "mrr"], make_comparable=True)
print(json.dumps({name: float(value) for name, value in found.items()}))
"""


@pytest.mark.skipif(find_spec("ranx") is None, reason="ranx is not installed")
def test_ndcg_hit_rate_and_reciprocal_rank_of_ranx(scores: np.ndarray) -> None:
    # Compiling takes ranx minutes; interpreting, a setting that only counts before its import, takes it no time.
    done = subprocess.run(
        [sys.executable, "-c", RANX],
        input=json.dumps(scores.tolist()),
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    theirs = json.loads(done.stdout)
    scores_BC = torch.from_numpy(scores)
    ours = ranking_metrics(mean_rank(scores_BC, scores_BC[:, :1]).numpy(), np.full(QUERIES, DOCUMENTS))
    for mine, its in (("ndcg@10", "ndcg@10"), ("hr@10", "hit_rate@10"), ("mrr", "mrr")):
        assert 0 < ours[mine].mean() < 1
        assert float(ours[mine].mean()) == pytest.approx(theirs[its], abs=1e-12)


def test_auc_of_scikit_learn(scores: np.ndarray) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    tied = scores // 4
    label = np.zeros(DOCUMENTS)
    label[0] = 1
    tied_BC = torch.from_numpy(tied)
    mine = auc(mean_rank(tied_BC, tied_BC[:, :1]).numpy(), np.full(QUERIES, DOCUMENTS))
    assert mine.tolist() == pytest.approx([sklearn_metrics.roc_auc_score(label, row) for row in tied])
    labels = np.tile(label, QUERIES)
    expected = sklearn_metrics.roc_auc_score(labels, tied.ravel())
    assert pooled_auc(tied[:, 0], tied[:, 1:].ravel()) == pytest.approx(expected)


def test_log_loss_of_scikit_learn(scores: np.ndarray) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    fitted = Calibration(slope=0.2, intercept=-4.0, rows=1)
    probability = 1 / (1 + np.exp(-(fitted.slope * scores.astype(np.float64) + fitted.intercept)))
    label = np.zeros(scores.shape)
    label[:, 0] = 1
    mine = log_losses(fitted, scores[:, 0], 1).sum() + log_losses(fitted, scores[:, 1:], 0).sum()
    assert mine / scores.size == pytest.approx(sklearn_metrics.log_loss(label.ravel(), probability.ravel()))
