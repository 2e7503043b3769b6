"""A device and evaluation agree on every target: on its rank, among how many, and on what was met.

Both are held against a plain loop written here.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from duetgen.data.store import FIRST_ITEM, UNKNOWN, Dataset
from duetgen.device import Device, load_model
from duetgen.evaluation import ZERO
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.protocols import make_ranking
from duetgen.evaluation.scoring import measuring, score, select
from duetgen.export.published import Published
from duetgen.replay.quality import rank_of
from duetgen.wire.bundle import open_bundle
from duetgen.wire.messages import MetPolicy

TARGETS = 60


def plain(scores: list[float], target: int, met: set[int], hide: bool) -> tuple[float, int]:
    """Rank and count of a target, in a loop."""
    shown = [i for i in range(FIRST_ITEM, len(scores)) if not (hide and i in met) or i == target]
    count = len(shown) + (target == UNKNOWN)
    if target == UNKNOWN or (hide and target in met):
        return math.inf, count
    better = sum(scores[i] > scores[target] for i in shown)
    alike = sum(scores[i] == scores[target] for i in shown if i != target)
    return 1 + better + alike / 2, count


@pytest.mark.parametrize("met", ["hide", "show"])
@pytest.mark.parametrize("protocol", ["full", "candidates"])
def test_target_by_target(bundle_folder: Path, bundle_dataset: Dataset, met: MetPolicy, protocol: str) -> None:
    dataset = Dataset(bundle_dataset.root)
    dataset.manifest = msgspec.structs.replace(dataset.manifest, met=met)
    selection = select(dataset, "test", None, 0)
    hidden = MetItems.hidden(dataset, selection.targets)
    ranking = make_ranking(protocol, dataset, "test", selection.index_N, with_loss=False, met=hidden)
    measured = Published(open_bundle(bundle_folder))
    with measuring(measured) as place:
        (scored,) = score(measured, dataset, selection, ZERO, [ranking], place, 0)
    repeat_N = MetItems(dataset, selection.targets).repeat_N
    model, drawn = load_model(bundle_folder), dataset.candidates("test")
    chosen = np.random.default_rng(0).choice(len(selection.targets), TARGETS, replace=False)
    seen = set()
    for n in chosen.tolist():
        start, position = int(selection.targets.start_N[n]), int(selection.targets.position_N[n])
        events, target = dataset.events[start:position].tolist(), int(dataset.events[position])
        candidates = None if protocol == "full" else np.array([target, *drawn[n][drawn[n] > 0]], dtype=np.int64)
        with Device(model, met=met) as device:
            device.observe(*(model.ids[item] for item in events))
            met_V = device.met()
            scores = device.score(candidates)
            found = rank_of(target, scores, candidates, met_V if device.met_policy == "hide" else None)
            catalogue = device.score().tolist()
            listed = [model.index_of[item] for item in device.recommend(model.vocabulary).ids]
            ranked = [model.index_of[item] for item in device.rank(model.ids[FIRST_ITEM:]).ids]
        known = {item for item in events if item >= FIRST_ITEM}
        assert set(np.flatnonzero(met_V).tolist()) == known
        assert found == (scored.rank_N[n], scored.count_N[n])
        assert bool(repeat_N[n]) == (target in known)
        if protocol == "full":
            assert found == plain(catalogue, target, known, met == "hide")
            assert set(listed) == set(range(FIRST_ITEM, model.vocabulary)) - (known if met == "hide" else set())
            assert ranked == listed
            if math.isfinite(found[0]):
                alike = catalogue.count(catalogue[target]) - 1
                assert abs(listed.index(target) + 1 - found[0]) <= alike / 2
        seen.add(bool(repeat_N[n]))
    assert seen == {True, False}
