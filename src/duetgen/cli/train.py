"""`duet train`: train one model on a dataset folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from duetgen.cli import console

if TYPE_CHECKING:
    from duetgen.training import TrainConfig

BackboneName = Literal["sasrec", "gru4rec", "din"]
Method = Literal["base", "duet"]


def train(
    dataset: Annotated[Path, Parameter(help="Dataset folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Run folder to write.")],
    backbone: Annotated[BackboneName | None, Parameter(help="Device model [sasrec].")] = None,
    method: Annotated[
        Method | None, Parameter(help="duet: global model and generator; base: global model alone [duet].")
    ] = None,
    global_model: Annotated[
        Path | None,
        Parameter(
            help="Run whose global model is kept as it is: only a generator is trained for it. Its settings are the "
            "defaults [none: both are trained together]."
        ),
    ] = None,
    window: Annotated[int | None, Parameter(help="Events that the device model reads, L_d [10].")] = None,
    history: Annotated[int | None, Parameter(help="Events that the generator reads, L_g [100].")] = None,
    width: Annotated[int | None, Parameter(help="Width of the device model; 32 for a small device [64].")] = None,
    staleness: Annotated[
        int | None, Parameter(help="Theta is trained to be up to so many events old; 0: always fresh [20].")
    ] = None,
    objective: Annotated[
        Literal["auto", "softmax", "sampled", "bce"] | None,
        Parameter(help="Loss; auto: softmax where it is cheap, sampled elsewhere [auto]."),
    ] = None,
    feed: Annotated[
        Literal["sequences", "rows"] | None,
        Parameter(help="Train whole sequences, or the rows of the duet-text format as they stand [sequences]."),
    ] = None,
    epochs: Annotated[int | None, Parameter(help="Most passes over the training part [by the data].")] = None,
    patience: Annotated[int | None, Parameter(help="Epochs without a better one before it stops [a third].")] = None,
    learning_rate: Annotated[float | None, Parameter(help="Peak learning rate [0.003].")] = None,
    seed: Annotated[int | None, Parameter(help="Seed of everything random [0].")] = None,
    config: Annotated[Path | None, Parameter(help="A config.toml to start from; options override it.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set", negative="", help="Any other setting, as KEY=VALUE (optimiser.clip=0.5); may be repeated."
        ),
    ] = None,
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
    from duetgen.training import train as run_training
    from duetgen.training.defaults import fill_in
    from duetgen.training.frozen_base import to_beat
    from duetgen.training.run import RunFolder

    if global_model is not None:
        method = method or "duet"
        if config is None:
            RunFolder(global_model).read_environment()  # Refuses what is no run by its own name.
            config = RunFolder(global_model).config
    overrides: dict[str, Any] = {
        "model.name": backbone,
        "model.method": method,
        "model.backbone.window": window,
        "model.backbone.width": width,
        "model.history.length": history,
        "objective.staleness": staleness,
        "objective.kind": objective,
        "feed": feed,
        "optimiser.epochs": epochs,
        "optimiser.patience": patience,
        "optimiser.learning_rate": learning_rate,
        "seed": seed,
        "global_model": None if global_model is None else str(global_model),
    }
    settled = build_config(config, overrides, set_ or [])
    use_machine(threads)
    data = Dataset(dataset)
    title = f"{settled.model.name} {settled.model.method}"
    # Under torchrun every process runs this; the first one speaks.
    chief = os.environ.get("RANK", "0") == "0"
    if chief and not (quiet or json):
        console.notes.print(f"settings: {told(fill_in(settled, data))}")
    with console.TrainingBar(title, quiet or json or not chief) as bar:
        result = run_training(data, settled, out, overwrite=overwrite, progress=bar)
    if not chief:
        return
    without = to_beat(settled)
    if json:
        console.print_json(
            {
                "run": str(result.root),
                "best_epoch": result.best_epoch,
                "validation_ndcg@10": result.best,
                "global_model_validation_ndcg@10": without,
                "epochs": result.epochs,
                "seconds": result.seconds,
                "already_finished": result.already_finished,
            }
        )
        return
    had = "was trained before" if result.already_finished else f"trained in {result.seconds:.0f} s"
    console.results.print(
        f"{title} {had}: validation ndcg@10 {result.best:.4f} after epoch {result.best_epoch} of {result.epochs}"
    )
    if without is not None:
        gains = "" if result.best > without else ": the generator gains nothing there"
        console.results.print(f"  without theta, by its global model alone: {without:.4f}{gains}")
    console.results.print(f"  run folder: {result.root}")
    console.results.print(f"  next: duet evaluate {result.root} {dataset}")


def near_setting(key: str, tree: dict[str, Any]) -> str:
    """The hint for a setting that does not exist: the one that was meant, if that can be told."""
    import difflib

    names: list[str] = []

    def walk(node: dict[str, Any], before: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{before}{name}.")
            else:
                names.append(before + name)

    walk(tree, "")
    last = key.rpartition(".")[2]
    same = [name for name in names if name.rpartition(".")[2] == last]
    # Of several with one ending the first in the order of the tree, which is the device model's.
    ends = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = same or [ends[end] for end in difflib.get_close_matches(last, ends, 1)]
    near = near or difflib.get_close_matches(key, names, 1)
    return f"did you mean {near[0]}?" if near else "see docs/configuration.md for every setting"


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


def build_config(file: Path | None, overrides: dict[str, Any], assignments: list[str]) -> TrainConfig:
    """A configuration from a file, options and KEY=VALUE assignments, in this order of precedence; an option that is
    None was not given.

    Raises:
        InvalidConfigError: unreadable, unknown, or of a wrong type.
    """
    import msgspec

    from duetgen.training import TrainConfig, check_config, decode_config
    from duetgen.training.config import InvalidConfigError, invalid

    start = TrainConfig()
    if file is not None:
        try:
            start = decode_config(file.read_bytes(), lambda cause: invalid(f"{file}: {cause}"))
        except OSError as cause:
            raise InvalidConfigError(
                f"cannot read {file}: {cause.strerror}", "give the path of a config.toml"
            ) from cause
    tree: dict[str, Any] = msgspec.to_builtins(start)
    overrides = {key: value for key, value in overrides.items() if value is not None}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise InvalidConfigError(
                f"--set {assignment} has no value", "write --set KEY=VALUE, as in optimiser.clip=0.5"
            )
        try:
            overrides[key] = json.loads(text)
        except json.JSONDecodeError:
            overrides[key] = text
    for key, value in overrides.items():
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node or isinstance(node[last], dict):
            raise InvalidConfigError(f"there is no setting {key}", near_setting(key, tree))
        node[last] = value
    try:
        config = msgspec.convert(tree, TrainConfig)
    except msgspec.ValidationError as cause:
        raise InvalidConfigError(f"a setting has a wrong value: {cause}", "see docs/configuration.md") from cause
    check_config(config)
    return config
