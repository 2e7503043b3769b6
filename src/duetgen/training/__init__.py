"""Training: one run of one model on one dataset folder, resumable at any moment.

- `config`: what tells a run; `defaults` fills in what it leaves open, by the dataset
- `batches`: whole sequences, every position at once; `rows` feeds the published row format instead
- `objectives`: losses from scores; `softmax` is the one over a whole catalogue
- `met`: what was met before each position, to be left out of the loss
- `step`: a batch in, the joint loss out
- `optimiser`: AdamW and its learning rate at each step
- `processes`: one process, or those that torchrun started, which train as one
- `checkpoint`: the state of a run between two steps, in one file
- `run`: the run folder; `frozen_base` puts another run's global model into a new one
- `start`: a run that goes on from another one; `growth` gives item tables rows for new items
- `progress`: what a run tells while it goes on
- `loop`: the loop over the training part
- `finetune`: a copy of the model for each device, trained on its own events; `copies` runs them, `drawn` is its loss
- `finetune_run`: a run of it: the base model, steps and rate by the validation part
- `job`: `train`, which ties them together
"""

from duetgen.training.config import (
    FineTuneConfig,
    ObjectiveConfig,
    OptimiserConfig,
    TrainConfig,
    check_config,
    decode_config,
)
from duetgen.training.finetune_run import recommender_of
from duetgen.training.job import train
from duetgen.training.progress import Losses, Progress
from duetgen.training.run import Run, TrainResult, load_run
from duetgen.training.start import going_on

__all__ = [
    "FineTuneConfig",
    "Losses",
    "ObjectiveConfig",
    "OptimiserConfig",
    "Progress",
    "Run",
    "TrainConfig",
    "TrainResult",
    "check_config",
    "decode_config",
    "going_on",
    "load_run",
    "recommender_of",
    "train",
]
