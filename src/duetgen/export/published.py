"""A published bundle as a recommender that can be measured and listed from: what ships, run by ONNX Runtime.

Shapes: B devices, L history length (L_d for a window, L_g for the generator), C candidates, V items, P weights in
theta, J opinions, K items of one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from duetgen.core import ItemBias, Theta
from duetgen.data.store import Dataset
from duetgen.data.view import as_of
from duetgen.export import parity
from duetgen.training import load_run, recommender_of
from duetgen.training.run import DatasetMismatchError
from duetgen.wire.bundle import MANIFEST, Bundle, open_bundle

SCORES: Final = 2**22
"""Scores of one call of the device's graph, at most."""


class Published(nn.Module):
    """Both graphs of a bundle; see `evaluation.protocols.Recommender`.

    Args:
        bundle: opened, with `generator.onnx`.

    Raises:
        InvalidBundleError: a file is damaged.
        ParityFailedError: ONNX Runtime does not take a graph.
    """

    personal = normalised = True

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        manifest = bundle.manifest
        self.vocabulary, self.window, self.generator_history = manifest.vocabulary, manifest.window, manifest.history
        self.size, self.parts, self.trust = manifest.size, manifest.parts, manifest.trust
        self.device, self.generator = (parity.session(bundle.read(name)) for name in ("device.onnx", "generator.onnx"))

    def generate(self, history_BL: Tensor) -> Theta:
        """Theta of histories [B, L_g], the parts that answers hold."""
        found = map(torch.from_numpy, parity.run(self.generator, history=history_BL.numpy()))
        weights_BP, *opinions = found
        biases = tuple(map(ItemBias, *(part_BJK.unbind(1) for part_BJK in opinions))) if opinions else ()
        return Theta(None if self.parts == "bias" else weights_BP, biases)

    def trusted(self, theta: Theta, age: int) -> Theta:
        """Theta as a device counts it when it is so many events old."""
        weights_BP, factors = theta.weights_BP, self.trust.opinions_at(age)
        return Theta(
            None if weights_BP is None else weights_BP * self.trust.weights_at(age),
            tuple(ItemBias(items, values * factor) for (items, values), factor in zip(theta.opinions, factors)),
        )

    def score(self, window_BL: Tensor, candidates_BC: Tensor, theta: Theta | None = None) -> Tensor:
        """Scores of each device's own candidates: [B, C]; theta None is the global model."""
        weights_BP = None if theta is None else theta.weights_BP
        if weights_BP is None:
            weights_BP = torch.zeros(len(window_BL), self.size)
        rows = max(1, SCORES // max(1, candidates_BC.shape[1]))
        parts = [
            parity.run(
                self.device,
                theta=weights_BP[begin : begin + rows].numpy(),
                history=window_BL[begin : begin + rows].numpy(),
                candidates=np.ascontiguousarray(candidates_BC[begin : begin + rows].numpy()),
            )[0]
            for begin in range(0, len(window_BL), rows)
        ]
        scores_BC = torch.from_numpy(np.concatenate(parts))
        bias_BV = self.added(window_BL, theta)
        return scores_BC if bias_BV is None else scores_BC + bias_BV.gather(1, candidates_BC)

    def score_catalogue(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor:
        """Scores of all item indices: [B, V]; padding scores -inf."""
        scores_BV = self.score(window_BL, torch.arange(self.vocabulary).expand(len(window_BL), -1), theta)
        scores_BV[:, 0] = -torch.inf
        return scores_BV

    def added(self, window_BL: Tensor, theta: Theta | None = None) -> Tensor | None:
        """What opinions add to the scores of the catalogue: [B, V]."""
        return None if theta is None else theta.bias(self.vocabulary)


def load_model(root: Path, dataset: Dataset) -> tuple[nn.Module, dict[str, Any], Dataset]:
    """The recommender of a run folder or of a bundle, its settings, and the dataset as it knows it: see `data.view`.

    Raises:
        NotARunError: the folder is neither, or a run that is not finished.
        DamagedError: a run that is damaged.
        InvalidBundleError: a bundle that is damaged.
        DatasetMismatchError: it was trained on another dataset, or on a later version.
    """
    if not (root / MANIFEST).is_file():
        run = load_run(root)
        seen = run.view(dataset)
        return recommender_of(run, seen), run.settings(), seen
    bundle = open_bundle(root, contents=True)
    provenance = bundle.manifest.provenance
    view = as_of(dataset, provenance.get("dataset_sha256", dataset.manifest.content_sha256))
    if view is None:
        earlier = provenance.get("earlier", "").split()
        if dataset.manifest.content_sha256 in earlier:
            raise DatasetMismatchError(
                f"{root} was trained on version {len(earlier) + 1} of {provenance.get('dataset', 'it')}, "
                f"{dataset.root} is version {dataset.version}",
                "give the dataset folder as it was then or is now, or a bundle of the earlier version",
            )
        raise DatasetMismatchError(
            f"{root} was trained on other data than {dataset.root}",
            "give the dataset folder that its run was trained on",
        )
    return Published(bundle), {"bundle": bundle.manifest.model_id, **provenance}, view
