"""Settings of a training run as options: the same names, defaults and help in every verb that trains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter

from duetgen.cli.ranges import passes
from duetgen.errors import did_you_mean

if TYPE_CHECKING:
    from duetgen.training import TrainConfig


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options that `duet train` and `duet compare` share; None was not given."""

    window: Annotated[int | None, Parameter(help="Events that the device model reads, L_d [10].")] = None
    history: Annotated[int | None, Parameter(help="Events that the generator reads, L_g [100].")] = None
    width: Annotated[int | None, Parameter(help="Width of the device model; 32 for a small device [64].")] = None
    objective: Annotated[
        Literal["auto", "softmax", "sampled", "bce"] | None,
        Parameter(help="Loss; auto: softmax where it is cheap, sampled elsewhere [auto]."),
    ] = None
    feed: Annotated[
        Literal["sequences", "rows"] | None,
        Parameter(help="Train whole sequences, or the rows of the duet-text format as they stand [sequences]."),
    ] = None
    epochs: Annotated[
        int | None, Parameter(validator=passes, help="Most passes over the training part [by the data].")
    ] = None
    patience: Annotated[
        int | None, Parameter(validator=passes, help="Epochs without a better one before it stops [a third].")
    ] = None
    learning_rate: Annotated[float | None, Parameter(help="Peak learning rate [0.003].")] = None
    cloud_model: Annotated[
        str | None,
        Parameter(
            help="Whose opinions DUET's devices get, or what the method cloud is: none, auto, sequence, ease, "
            "item-knn, blend, FILE.onnx, or a finished run of the method cloud [auto: a blend]."
        ),
    ] = None
    seed: Annotated[int | None, Parameter(help="Seed of everything random; of several, the first [0].")] = None
    config: Annotated[Path | None, Parameter(help="A config.toml to start from; options override it.")] = None
    set_: Annotated[
        list[str] | None,
        Parameter(
            name="--set", negative="", help="Any other setting, as KEY=VALUE (optimiser.clip=0.5); may be repeated."
        ),
    ] = None

    def build(self, overrides: dict[str, Any] | None = None, start: Path | TrainConfig | None = None) -> TrainConfig:
        """The configuration that these options tell.

        Args:
            overrides: further options of a verb, by the names of their settings; one that is None was not given.
            start: the file or the settings to start from where no file is named.

        Raises:
            InvalidConfigError: unreadable, unknown, or of a wrong type.
        """
        own = {
            "model.backbone.window": self.window,
            "model.backbone.width": self.width,
            "model.history.length": self.history,
            "objective.kind": self.objective,
            "feed": self.feed,
            "optimiser.epochs": self.epochs,
            "optimiser.patience": self.patience,
            "optimiser.learning_rate": self.learning_rate,
            "seed": self.seed,
            **cloud_settings(self.cloud_model),
        }
        return build_config(self.config or start, own | (overrides or {}), self.set_ or [])


def cloud_settings(text: str | None) -> dict[str, Any]:
    """What `--cloud-model` sets: a kind, a graph of the user's own, or the run that is taken.

    Raises:
        InvalidConfigError: it is neither.
    """
    from duetgen.cloudmodel import KINDS
    from duetgen.training.config import InvalidConfigError
    from duetgen.training.run import RunFolder

    if text is None:
        return {}
    if text in KINDS:
        # The files of a graph do not go with another kind, which is chosen in place of it.
        files = {} if text == "onnx" else {"model.cloud.graph": "", "model.cloud.ids": ""}
        return {"model.cloud.kind": text, **files, "cloud_model": ""}
    if text.endswith(".onnx"):
        return {"model.cloud.kind": "onnx", "model.cloud.graph": text, "cloud_model": ""}
    if not RunFolder(Path(text)).environment.is_file():
        hint = did_you_mean(text, KINDS, f"choose among {', '.join(KINDS)}, or name a run folder or a file .onnx")
        raise InvalidConfigError(f"--cloud-model {text} is no kind of cloud model and no run folder", hint)
    return {"cloud_model": text}


NONE_GIVEN: Final = Settings()
"""As every verb begins."""


def build_config(begin: Path | TrainConfig | None, overrides: dict[str, Any], assignments: list[str]) -> TrainConfig:
    """A configuration from a file or settings, options and KEY=VALUE assignments, in this order of precedence.

    An option that is None was not given.

    Raises:
        InvalidConfigError: unreadable, unknown, or of a wrong type.
    """
    import msgspec

    from duetgen.training import TrainConfig, decode_config
    from duetgen.training.config import InvalidConfigError, convert_config, near_setting

    start = begin or TrainConfig()
    if isinstance(start, Path):
        try:
            start = decode_config(start.read_bytes(), f"{start}: ")
        except OSError as cause:
            raise InvalidConfigError(
                f"cannot read {start}: {cause.strerror}", "give the path of a config.toml"
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
        except (ValueError, RecursionError):
            overrides[key] = text
    for key, value in overrides.items():
        *path, last = key.split(".")
        node: Any = tree
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node or isinstance(node[last], dict):
            raise InvalidConfigError(f"there is no setting {key}", near_setting(key))
        node[last] = value
    return convert_config(tree)
