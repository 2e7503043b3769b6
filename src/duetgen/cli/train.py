"""`duet train`: train one model on a dataset folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from duetgen.cli import console
from duetgen.cli.settings import NONE_GIVEN, Settings, build_config

if TYPE_CHECKING:
    from duetgen.training import TrainConfig

BackboneName = Literal["sasrec", "gru4rec", "din"]
Method = Literal["base", "finetune", "duet"]


def train(
    dataset: Annotated[Path, Parameter(help="Dataset folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Run folder to write.")],
    backbone: Annotated[BackboneName | None, Parameter(help="Device model [sasrec].")] = None,
    method: Annotated[
        Method | None,
        Parameter(
            help="duet: global model and generator; base: global model alone; finetune: a base model, and how each "
            "device best trains a copy of it [duet]."
        ),
    ] = None,
    global_model: Annotated[
        Path | None,
        Parameter(
            help="Run whose global model is kept as it is: only a generator is trained for it, or only fine-tuning is "
            "left. Its settings are the defaults [none: all is trained]."
        ),
    ] = None,
    staleness: Annotated[
        int | None, Parameter(help="Theta is trained to be up to so many events old; 0: always fresh [20].")
    ] = None,
    settings: Settings = NONE_GIVEN,
    threads: Annotated[int | None, Parameter(help="Processor threads to use [all].")] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a run with other settings or data.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the result as JSON.")] = False,
) -> None:
    """Train one model on a dataset folder made by `duet prepare`.

    Stopped or killed at any moment, the same command goes on where it was and ends with the same weights. The best
    weights by validation ndcg@10 are kept; the test part is never looked at.
    """
    from duetgen.data.store import Dataset
    from duetgen.machine import use_machine
    from duetgen.training import ObjectiveConfig
    from duetgen.training import train as run_training
    from duetgen.training.defaults import fill_in
    from duetgen.training.finetune_run import read_choice
    from duetgen.training.frozen_base import to_beat
    from duetgen.training.run import RunFolder

    start = None
    if global_model is not None:
        method = method or "duet"
        RunFolder(global_model).read_environment()  # Refuses what is no run by its own name.
        start = RunFolder(global_model).config
        if staleness is None and settings.config is None and build_config(start, {}, []).model.method != "duet":
            staleness = ObjectiveConfig().staleness  # A run without a generator keeps none.
    overrides: dict[str, Any] = {
        "model.name": backbone,
        "model.method": method,
        "objective.staleness": staleness,
        "global_model": None if global_model is None else str(global_model),
    }
    settled = settings.build(overrides, start)
    use_machine(threads)
    data = Dataset(dataset)
    tuned = settled.model.method == "finetune"
    title = f"{settled.model.name} {settled.model.method}"
    # Under torchrun every process runs this; the first one speaks.
    chief = os.environ.get("RANK", "0") == "0"
    if chief and not (quiet or json or (tuned and settled.global_model)):
        console.notes.print(f"settings: {told(fill_in(settled, data))}")
    with console.TrainingBar(f"{settled.model.name} base" if tuned else title, quiet or json or not chief) as bar:
        result = run_training(data, settled, out, overwrite=overwrite, progress=bar)
    if not chief:
        return
    choice = read_choice(RunFolder(result.root)) if tuned else None
    without = choice.base_validation_ndcg10 if choice is not None else to_beat(settled)
    if json:
        console.print_json(
            {
                "run": str(result.root),
                "best_epoch": result.best_epoch if choice is None else None,
                "validation_ndcg@10": result.best,
                "global_model_validation_ndcg@10": without,
                "epochs": result.epochs,
                "seconds": result.seconds,
                "already_finished": result.already_finished,
                "finetune": choice,
            }
        )
        return
    had = "was trained before" if result.already_finished else f"trained in {result.seconds:.0f} s"
    how = f"after epoch {result.best_epoch} of {result.epochs}"
    if choice is not None:
        how = f"with {choice.steps} steps at {choice.learning_rate:g}, on a sample of the validation part"
    console.results.print(f"{title} {had}: validation ndcg@10 {result.best:.4f} {how}")
    if without is not None:
        it, what = ("fine-tuning", "fine-tuning") if tuned else ("theta", "the generator")
        gains = "" if result.best > without else f": {what} gains nothing there"
        where = " on the same sample" if tuned else ""
        console.results.print(f"  without {it}, by its global model alone: {without:.4f}{where}{gains}")
    console.results.print(f"  run folder: {result.root}")
    console.results.print(f"  next: duet evaluate {result.root} {dataset}")


def told(config: TrainConfig) -> str:
    """What the dataset has decided, or somebody has set, in one line."""
    backbone, optimiser, objective = config.model.backbone, config.optimiser, config.objective
    loss = {"softmax": "softmax", "sampled": f"softmax over {objective.negatives:,} drawn items"}.get(
        objective.kind, "bce"
    )
    met = "; what a device has met is left out of the loss" if objective.met == "hide" else ""
    return (
        f"width {backbone.width}, window {backbone.window}, dropout {backbone.dropout}, {loss}, at most "
        f"{optimiser.epochs} passes, batches of {optimiser.batch_positions:,} positions{met}"
    )
