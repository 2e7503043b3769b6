"""What theta changes, and what its generator reads: quality at equal bytes and ages, on the validation part.

    python benchmarks/forms.py DATASET BASE CLOUD [--passes 12] [--out out/forms] [--forms scale,full]
        [--encoders average,cloud]

BASE and CLOUD are runs of `duet train DATASET --method base` and `--method cloud`. For each form and each head encoder
a generator is trained for that finished base model. `weights` are its weights alone, coded as on the wire and trusted
in full, fresh, 5 and 20 events old, less base, device by device, with the error of the mean; `trusted` is what weights
and opinions have together at these ages, as much as the validation part trusts them. Nothing is measured on the test
part.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from duetgen.comparison.methods.changes import with_settings
from duetgen.core import AGES, Theta
from duetgen.data.store import Dataset
from duetgen.evaluation import OWN, Condition
from duetgen.evaluation.averages import device_means
from duetgen.evaluation.conditions import ZERO
from duetgen.evaluation.met import MetItems
from duetgen.evaluation.metrics import Float64, ranking_metrics
from duetgen.evaluation.protocols import make_ranking
from duetgen.evaluation.scoring import measuring, score, select
from duetgen.recommender import Recommender
from duetgen.training import TrainConfig, load_run, train
from duetgen.wire.codec import ThetaCodec
from duetgen.wire.messages import Encoding

MEASURED: Final = (0, 5, 20)


@dataclass(frozen=True)
class Form:
    """A kind of theta, how its values are coded, and what the Stable Weight Adapter blends (1: there is none)."""

    head: str
    rank: int
    encoding: Encoding
    candidates: int = 0


FORMS: Final = {
    "scale": Form("scale", 8, "float16"),
    "no-adapter": Form("scale", 8, "float16", candidates=1),
    "low-rank": Form("low-rank", 8, "float16"),
    "prefix": Form("prefix", 2, "float16"),
    "window-prefix": Form("window-prefix", 2, "float16"),
    "full": Form("full", 8, "int8"),
}
"""At the default width all but the last have 256 values, 512 bytes, each."""


class Coded(nn.Module):
    """The weights of a model alone, as they arrive, trusted in full whatever their age."""

    personal = True
    normalised = True

    def __init__(self, model: Recommender, encoding: Encoding) -> None:
        super().__init__()
        self.model, self.encoding = model, encoding
        self.vocabulary, self.window, self.generator_history = model.vocabulary, model.window, model.generator_history
        self.codec = ThetaCodec([entry.shape for entry in model.backbone.layout.entries])

    @property
    def bytes(self) -> int:
        """Of one theta."""
        scale, theta = self.codec.encode(np.ones(self.codec.size, np.float32), self.encoding)
        return len(scale) + len(theta)

    def generate(self, history_BL: torch.Tensor) -> Theta:
        """Theta of each history."""
        weights_BP = self.model.generate(history_BL).weights_BP
        assert weights_BP is not None
        rows = [self.codec.encode(row_P, self.encoding) for row_P in weights_BP.numpy()]
        return Theta(torch.from_numpy(np.stack([self.codec.decode(*row, self.encoding) for row in rows])))

    def trusted(self, theta: Theta, age: int) -> Theta:
        """All of it."""
        return theta

    def score_catalogue(self, window_BL: torch.Tensor, theta: Theta | None = None) -> torch.Tensor:
        """See `Recommender.score_catalogue`."""
        return self.model.score_catalogue(window_BL, theta)

    def score(self, window_BL: torch.Tensor, candidates_BC: torch.Tensor, theta: Theta | None = None) -> torch.Tensor:
        """See `Recommender.score`."""
        return self.model.score(window_BL, candidates_BC, theta)


def by_device(model: Coded | Recommender, dataset: Dataset, condition: Condition) -> Float64:
    """`ndcg@10` of each device of the validation part: [U]."""
    selection = select(dataset, "valid", None, 0)
    met = MetItems.hidden(dataset, selection.targets)
    ranking = make_ranking("full", dataset, "valid", selection.index_N, with_loss=False, met=met)
    with measuring(model) as place:
        (found,) = score(model, dataset, selection, condition, [ranking], place, 0)
    gain_N = ranking_metrics(found.rank_N, found.count_N, (10,))["ndcg@10"]
    return device_means(gain_N, selection.slot_N, len(selection.device_U))


def told(own_U: Float64, base_U: Float64) -> str:
    """A gain and the error of its mean."""
    gain_U = own_U - base_U
    return f"{gain_U.mean():+.4f} ±{gain_U.std() / len(gain_U) ** 0.5:.4f}"


def main() -> None:
    """Train, measure, and print as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("cloud", type=Path)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("out/forms"))
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--encoders", default="average,cloud")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset, base = Dataset(options.dataset), load_run(options.base)
    base_U = by_device(base.device_model, dataset, ZERO)
    print(
        f"{dataset.manifest.name}: {len(base_U):,} devices of the validation part, base ndcg@10 {base_U.mean():.4f}\n"
    )
    ages = "".join(f"{name:>17}" for name in ("weights, fresh", "5 old", "20 old", "trusted, fresh", "5 old", "20 old"))
    print(f"{'form':<14}{'encoder':<9}{'values':>7}{'bytes':>7}{ages}   trust by age of {', '.join(map(str, AGES))}")
    shape = base.config.model.backbone
    for encoder in options.encoders.split(","):
        for name in options.forms.split(","):
            form = FORMS[name]
            config = with_settings(
                TrainConfig(global_model=str(options.base), cloud_model=str(options.cloud)),
                {
                    "model.name": base.config.model.name,
                    **{
                        f"model.backbone.{part}": getattr(shape, part)
                        for part in ("width", "window", "layers", "heads")
                    },
                    "model.backbone.head": form.head,
                    "model.backbone.rank": form.rank,
                    "model.generator.candidates": form.candidates,
                    "model.history.encoder": encoder,
                    "optimiser.epochs": options.passes,
                },
            )
            run = train(dataset, config, options.out / f"{dataset.manifest.name}-{name}-{encoder}")
            model = load_run(run.root).device_model
            coded = Coded(model, form.encoding)
            conditions = [OWN if age == 0 else Condition("own", age) for age in MEASURED]
            gains = [
                told(by_device(one, dataset, condition), base_U) for one in (coded, model) for condition in conditions
            ]
            assert model.trust is not None
            assert model.cloud is not None
            curves = zip(("weights", *model.cloud.advisers), (model.trust.weights_A, *model.trust.opinions_JA))
            trust = "; ".join(
                f"{part} {' '.join(f'{factor:g}' for factor in curve.tolist())}" for part, curve in curves
            )
            values = f"{coded.codec.size:>7,}{coded.bytes:>7,}"
            print(f"{name:<14}{encoder:<9}{values}{''.join(f'{gain:>17}' for gain in gains)}   {trust}", flush=True)


if __name__ == "__main__":
    main()
