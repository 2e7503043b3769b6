"""Which parts of theta a bundle's answers hold, and a run's model as it is published with them."""

from __future__ import annotations

import copy

from duetgen.core import Trust
from duetgen.export.errors import NotExportableError
from duetgen.recommender import Recommender
from duetgen.wire.messages import Parts


def parts_of(model: Recommender) -> Parts:
    """The parts that count: opinions where there are some, weights but where they count nothing beside them."""
    if model.cloud is None or not model.cloud.advisers:
        return "weights"
    assert model.trust is not None
    return "both" if model.trust.weights_A.any() else "bias"


def with_parts(model: Recommender, wanted: Parts | None) -> Recommender:
    """A copy of a personal model that gives the parts that are wanted; None: all that count.

    An opinion that counts nothing at any age is left out, and so is what is not wanted: it never travels.

    Raises:
        NotExportableError: the model lacks a part that is wanted.
    """
    found = copy.deepcopy(model)
    assert found.trust is not None
    counting = [place for place, curve_A in enumerate(found.trust.opinions_JA) if curve_A.any() and wanted != "weights"]
    keep_opinions(found, counting)
    if wanted in ("both", "bias") and not counting:
        raise NotExportableError(
            "this run has no cloud model with an opinion that counts, so there is no item bias",
            "export with --parts weights, or train with a cloud model, as `duet train DATASET --method duet` does",
        )
    if wanted == "both" and parts_of(found) == "bias":
        raise NotExportableError("the weights of this run count nothing at any age", "export with --parts bias")
    if wanted == "bias":
        found.trust.weights_A.zero_()
    return found


def keep_opinions(model: Recommender, places: list[int]) -> None:
    """Leave a model the opinions at these places alone, and no cloud model that nothing reads."""
    cloud, trust = model.cloud, model.trust
    assert trust is not None
    model.trust = Trust(len(places))
    model.trust.weights_A.copy_(trust.weights_A)
    model.trust.opinions_JA.copy_(trust.opinions_JA[places])
    if cloud is None:
        return
    cloud.keep(tuple(cloud.advisers[place] for place in places), state=model.config.of_state)
    if not cloud.members:
        model.cloud = None
