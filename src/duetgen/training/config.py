"""Everything that tells a training run, in one typed tree: `config.toml` of a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
import msgspec.inspect

from duetgen.backbones import BACKBONES
from duetgen.cloudmodel.model import SEQUENCE
from duetgen.core import ENCODERS, SequenceEncoder
from duetgen.documents import decode_toml
from duetgen.errors import DuetError, did_you_mean, nearest
from duetgen.recommender import ModelConfig
from duetgen.wire.limits import MAX_GENERATOR_HISTORY, MAX_OPINION_ITEMS, MAX_PASSES, MAX_WINDOW
from duetgen.wire.messages import MetPolicy

SEE: Final = "see docs/configuration.md for every setting"


class InvalidConfigError(DuetError):
    """A configuration that cannot be trained."""

    code = "invalid-config"


class ObjectiveConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is minimised.

    Attributes:
        kind: `softmax` over the whole catalogue; `sampled`, a softmax over drawn items with the log-Q correction, for
            large catalogues and for DIN; `bce`, binary cross-entropy with drawn negatives (the paper's); `auto` takes
            softmax where it is cheap, sampled elsewhere.
        negatives: items drawn; for `sampled` shared by a batch, for `bce` drawn for each position.
        bce_weight: weight of a binary cross-entropy with uniformly drawn items that is added to a softmax; nothing is
            added where each position draws its own items (`bce`, and `sampled` with DIN).
        fallback_weight: λ of the joint objective, the weight of the batch's loss with theta = 0.
        fallback_share: share of a batch's positions on which the λ term is estimated.
        distillation: weight of the divergence from what a cloud model thinks of the next item; 0: none, and no cloud
            model is needed before the opinions of one.
        base_distillation: the same weight for a second base model of a DUET that trains its own: the better one on the
            validation part is kept. 0: no second one; `auto`: 1 where that can be done and does not take long.
        temperature: divides the scores of both in that divergence.
        staleness: S; theta is held for S + 1 events while training, as on a device that asks that often, so its age is
            uniform in 0..S. 0 gives plain training with a fresh theta at every position.
        met: whether items that a device had met before the target take part in the loss: `hide` leaves them out, `show`
            does not; `auto`: as the dataset's policy has it for rankings.
    """

    kind: Literal["auto", "softmax", "sampled", "bce"] = "auto"
    negatives: int = 0
    bce_weight: float = 0.0
    fallback_weight: float = 1.0
    fallback_share: float = 1.0
    distillation: float = 0.0
    base_distillation: float | Literal["auto"] = "auto"
    temperature: float = 1.0
    staleness: int = 20
    met: Literal["auto", MetPolicy] = "auto"


class OptimiserConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How it is minimised: AdamW with a linear warm-up, then a cosine to a tenth of the rate.

    Attributes:
        learning_rate: the peak.
        generator_rate: multiplies the rate for the generator's parameters where both are trained together; `auto`: 1,
            and 0.2 where devices have few events.
        weight_decay: decoupled; not on embeddings, norms and biases.
        warmup_steps: steps of linear warm-up.
        clip: largest norm of the gradient.
        averaging: steps over which weights are averaged, exponentially; what is measured and kept is the average. 0
            keeps the last weights instead.
        batch_positions: positions of a batch, padding included; 0 takes so many that a pass has about 128 steps,
            between 256 and 1,024.
        epochs: most passes over the training part; 0: by the positions of a pass, see `defaults.passes`.
        patience: epochs without a better validation `ndcg@10` before training stops; 0: a third of `epochs`.
        unknown_share: share of input events replaced by the unknown item, which is how its embedding is learnt.
    """

    learning_rate: float = 3e-3
    generator_rate: float | Literal["auto"] = "auto"
    weight_decay: float = 0.01
    warmup_steps: int = 100
    clip: float = 1.0
    averaging: int = 100
    batch_positions: int = 0
    epochs: int = 0
    patience: int = 0
    unknown_share: float = 0.05


class FineTuneConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How a device's copy of the global model is trained on its own events, as many of them as a generator reads.

    Attributes:
        scope: the `head` alone, or the `whole` model but for its item embedding.
        steps: steps of Adam, each over the whole history; 0: chosen on the validation part.
        learning_rate: of Adam; 0: chosen on the validation part.
        negatives: items drawn for each step; 0: 64, 8 for DIN, 4 for binary cross-entropy.
    """

    scope: Literal["head", "whole"] = "head"
    steps: int = 0
    learning_rate: float = 0.0
    negatives: int = 0


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One training run.

    Attributes:
        global_model: folder of a finished run whose global model is kept as it is, so that only the generator is
            trained, or only fine-tuning is left; empty: a base model is trained first.
        joint: global model and generator are trained together instead, by the joint objective.
        cloud_model: folder of a finished run of the method `cloud`, whose opinions devices get; empty: one is
            trained, as `model.cloud` tells it.
        start_from: folder of a finished run of this dataset or of an earlier version of it, whose weights this one goes
            on from; empty: it begins anew.
        feed: `sequences`, every position of whole sequences in one pass; `rows`, the rows of the text format as given.
        validation_devices: at most so many devices, drawn by seed, measure each epoch; of a very large catalogue fewer,
            see `defaults.VALIDATION_SCORES`.
        checkpoint_seconds: a checkpoint is written after each epoch and, within one, this often.
    """

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    finetune: FineTuneConfig = FineTuneConfig()
    global_model: str = ""
    joint: bool = False
    cloud_model: str = ""
    start_from: str = ""
    seed: int = 0
    feed: Literal["sequences", "rows"] = "sequences"
    validation_devices: int = 5000
    checkpoint_seconds: float = 60.0

    @property
    def trains_base(self) -> bool:
        """Whether it is a DUET that trains the global model first which it then keeps."""
        return self.model.method == "duet" and not (self.joint or self.global_model)

    @property
    def keeps_base(self) -> bool:
        """Whether it begins with a finished global model, which is kept."""
        return self.model.method == "finetune" or (self.model.method == "duet" and not self.joint)

    def to_toml(self) -> bytes:
        """As `config.toml` holds it."""
        return msgspec.toml.encode(self)


def decode_config(content: bytes, source: str = "") -> TrainConfig:
    """A configuration from TOML.

    Args:
        content: of a `config.toml`.
        source: begins what a refusal says.

    Raises:
        InvalidConfigError: malformed, or with an unknown or impossible setting.
    """

    def refuse(cause: str) -> DuetError:
        return InvalidConfigError(f"{source}{cause}", SEE)

    return convert_config(decode_toml(content, dict[str, Any], refuse), source)


def convert_config(tree: dict[str, Any], source: str = "") -> TrainConfig:
    """A configuration from plain data; what is not there has its default.

    Args:
        tree: as `config.toml` has it.
        source: begins what a refusal says.

    Raises:
        InvalidConfigError: with an unknown or impossible setting.
    """
    known = words_by_setting()
    for name, _ in leaves(tree):
        if name not in known and not any(one.startswith(f"{name}.") for one in known):
            raise InvalidConfigError(f"{source}there is no setting {name}", near_setting(name))
    try:
        config = msgspec.convert(tree, TrainConfig)
    except msgspec.ValidationError as cause:
        name = str(cause).rpartition("`$.")[2].rstrip("`")
        words = known.get(name, ())
        otherwise = f"choose among {', '.join(words)}" if len(words) > 1 else SEE
        meant = did_you_mean(str(dict(leaves(tree)).get(name)), words) or otherwise
        raise InvalidConfigError(f"{source}a setting has a wrong value: {cause}", meant) from cause
    try:
        check_config(config)
    except InvalidConfigError as refusal:
        raise InvalidConfigError(f"{source}{refusal.message}", refusal.hint) from refusal
    return config


def leaves(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, by their full names; of a table that is empty, itself."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name, value


def words_by_setting() -> dict[str, tuple[str, ...]]:
    """Every setting by its full name, the device model's first, with the words that it may be."""

    def walk(kind: msgspec.inspect.Type, before: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        if isinstance(kind, msgspec.inspect.StructType):
            for field in kind.fields:
                yield from walk(field.type, f"{before}.{field.name}" if before else field.name)
            return
        parts = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
        yield before, tuple(str(w) for p in parts if isinstance(p, msgspec.inspect.LiteralType) for w in p.values)

    return dict(walk(msgspec.inspect.type_info(TrainConfig), ""))


def near_setting(key: str) -> str:
    """The hint for a setting that does not exist: the one that was meant, if that can be told."""
    names = list(words_by_setting())
    if inside := [name for name in names if name.startswith(f"{key}.")]:
        return f"{key} has several: {', '.join(inside[:3])}, …"
    last = key.rpartition(".")[2]
    # Of several with one ending the first in the order of the tree, which is the device model's.
    ends = {name.rpartition(".")[2]: name for name in reversed(names)}
    end = nearest(last, ends)
    return f"did you mean {ends[end]}?" if end else did_you_mean(key, names) or SEE


def ranges(config: TrainConfig) -> list[tuple[str, float | Literal["auto"], float, float]]:
    """Every number among the settings: its name, its value, and the least and the largest that it may be."""
    backbone, history, generator = config.model.backbone, config.model.history, config.model.generator
    cloud, objective, optimiser, finetune = config.model.cloud, config.objective, config.optimiser, config.finetune
    return [
        ("model.backbone.width", backbone.width, 1, 4096),
        ("model.backbone.window", backbone.window, 1, MAX_WINDOW),
        ("model.backbone.dropout", backbone.dropout, 0, 0.99),
        ("model.backbone.layers", backbone.layers, 1, 64),
        ("model.backbone.heads", backbone.heads, 1, backbone.width),
        ("model.backbone.rank", backbone.rank, 1, 4096),
        ("model.history.length", history.length, 1, MAX_GENERATOR_HISTORY),
        ("model.history.width", history.width, 1, 4096),
        ("model.history.embedding_width", history.embedding_width, 1, 4096),
        ("model.history.dropout", history.dropout, 0, 0.99),
        ("model.history.event_dropout", history.event_dropout, 0, 0.99),
        ("model.generator.width", generator.width, 1, 4096),
        ("model.generator.candidates", generator.candidates, 0, 64),
        ("model.generator.dropout", generator.dropout, 0, 0.99),
        ("model.generator.decoder_scale", generator.decoder_scale, 1e-12, 10),
        ("model.generator.decoder_rank", generator.decoder_rank, 0, generator.width),
        ("model.cloud.items", cloud.items, 1, MAX_OPINION_ITEMS),
        ("model.cloud.width", cloud.width, 1, 4096),
        ("model.cloud.layers", cloud.layers, 1, 64),
        ("model.cloud.heads", cloud.heads, 1, cloud.width),
        ("model.cloud.recurrent", cloud.recurrent, 0, 4096),
        ("model.cloud.neighbours", cloud.neighbours, 1, 10_000),
        ("objective.negatives", objective.negatives, 0, 1_000_000),
        ("objective.bce_weight", objective.bce_weight, 0, 1000),
        ("objective.fallback_weight", objective.fallback_weight, 0, 1000),
        ("objective.fallback_share", objective.fallback_share, 0.01, 1),
        ("objective.distillation", objective.distillation, 0, 1000),
        ("objective.base_distillation", objective.base_distillation, 0, 1000),
        ("objective.temperature", objective.temperature, 0.01, 100),
        ("objective.staleness", objective.staleness, 0, MAX_GENERATOR_HISTORY),
        ("optimiser.learning_rate", optimiser.learning_rate, 1e-9, 10),
        ("optimiser.generator_rate", optimiser.generator_rate, 0, 1000),
        ("optimiser.weight_decay", optimiser.weight_decay, 0, 1000),
        ("optimiser.warmup_steps", optimiser.warmup_steps, 0, 10_000_000),
        ("optimiser.clip", optimiser.clip, 0, 10**9),
        ("optimiser.batch_positions", optimiser.batch_positions, 0, 2**24),
        ("optimiser.averaging", optimiser.averaging, 0, 1_000_000),
        ("optimiser.epochs", optimiser.epochs, 0, MAX_PASSES),
        ("optimiser.patience", optimiser.patience, 0, MAX_PASSES),
        ("optimiser.unknown_share", optimiser.unknown_share, 0, 0.9),
        ("finetune.steps", finetune.steps, 0, 1000),
        ("finetune.learning_rate", finetune.learning_rate, 0, 10),
        ("finetune.negatives", finetune.negatives, 0, 1_000_000),
        ("validation_devices", config.validation_devices, 1, 2**31 - 1),
        ("checkpoint_seconds", config.checkpoint_seconds, 0, 10**9),
        ("seed", config.seed, 0, 2**31 - 1),
    ]


def check_config(config: TrainConfig) -> None:
    """Refuse what no type can: settings out of their range.

    Raises:
        InvalidConfigError: with the setting's name and the range it may have.
    """
    backbone, history, generator = config.model.backbone, config.model.history, config.model.generator
    cloud = config.model.cloud
    encoders = [name for name, encoder in ENCODERS.items() if issubclass(encoder, SequenceEncoder)]
    for setting, named, known in (
        ("model.name", config.model.name, list(BACKBONES)),
        ("model.history.encoder", history.encoder, encoders),
    ):
        if named not in known:
            hint = did_you_mean(named, known, f"choose among {', '.join(known)}")
            raise InvalidConfigError(f"{setting} has no {named!r}", hint)
    for name, value, low, high in ranges(config):
        if value != "auto" and not low <= value <= high:
            raise InvalidConfigError(f"{name} is {value}", f"it must lie in {low:,} to {high:,}")
    if backbone.width % backbone.heads:
        raise InvalidConfigError(
            f"model.backbone.width {backbone.width} does not divide into {backbone.heads} heads",
            "choose a divisor of the width",
        )
    if cloud.width % cloud.heads:
        raise InvalidConfigError(
            f"model.cloud.width {cloud.width} does not divide into {cloud.heads} heads", "choose a divisor of the width"
        )
    check_cloud(config)
    if config.model.method == "cloud" and cloud.kind == "none":
        raise InvalidConfigError("a cloud model of the kind none is no model", "leave model.cloud.kind out")
    if cloud.kind == "onnx" and not cloud.graph:
        raise InvalidConfigError(
            "a cloud model of the kind onnx needs its graph", "give --cloud-model FILE.onnx, or set model.cloud.graph"
        )
    for name, path in (("graph", cloud.graph), ("ids", cloud.ids)):
        if path and cloud.kind not in ("onnx", "none"):
            raise InvalidConfigError(
                f"model.cloud.{name} is of the kind onnx, and model.cloud.kind is {cloud.kind}",
                "set model.cloud.kind=onnx, or give --cloud-model FILE.onnx; or leave it out",
            )
    if config.model.method == "cloud" and config.feed == "rows":
        raise InvalidConfigError("a cloud model reads whole histories, not rows", "leave feed at sequences")
    views = ENCODERS[history.encoder].views
    if generator.candidates > 1 and generator.candidates % views:
        raise InvalidConfigError(
            f"model.generator.candidates is {generator.candidates}, the encoder gives {views} views",
            f"leave it at 0, or give 1 or a multiple of {views}",
        )
    if config.global_model and config.model.method in ("base", "cloud"):
        raise InvalidConfigError(
            f"the method {config.model.method} has no use for global_model",
            "leave it out, or use it with the method duet or finetune",
        )
    if config.joint and (config.global_model or config.model.method != "duet"):
        what = "a global model that is kept" if config.global_model else f"the method {config.model.method}"
        raise InvalidConfigError(f"{what} has no use for joint", "leave one of them out")
    if config.model.method == "duet" and generator.frozen and not config.joint:
        raise InvalidConfigError(
            "of a global model that is kept and a frozen generator nothing is left to train",
            "leave model.generator.frozen out, or train jointly: --joint",
        )
    if backbone.head == "low-rank" and backbone.rank > backbone.width:
        raise InvalidConfigError(
            f"model.backbone.rank {backbone.rank} is more than the matrices of a head have",
            f"choose at most the width of the device model, {backbone.width}",
        )
    if backbone.head not in ("auto", "full") and not backbone.residual:
        raise InvalidConfigError(
            f"model.backbone.head {backbone.head!r} has no replacing form", "leave model.backbone.residual at true"
        )
    if backbone.head not in ("auto", "full") and config.model.method != "duet":
        raise InvalidConfigError(
            f"the method {config.model.method} has no use for model.backbone.head {backbone.head!r}",
            "use it with the method duet",
        )


def check_cloud(config: TrainConfig) -> None:
    """Refuse a cloud model that nothing is made of, and distillation or an encoder that has none to read.

    Raises:
        InvalidConfigError: one of them.
    """
    method, kind, distilled = config.model.method, config.model.cloud.kind, config.objective.distillation > 0
    base_distilled = config.trains_base and config.objective.base_distillation not in ("auto", 0)
    if not config.cloud_model and (kind != "auto" or config.feed == "rows"):
        check_state(config.model)
    if distilled and method not in ("base", "duet"):
        raise InvalidConfigError(
            f"the method {method} has no use for objective.distillation", "use it with the method base or duet"
        )
    name = "objective.distillation" if distilled else "objective.base_distillation"
    if (distilled or base_distilled) and kind == "none" and not config.cloud_model:
        raise InvalidConfigError(f"{name} has no cloud model to learn from", "leave --cloud-model none out")
    if (distilled or base_distilled) and (config.feed == "rows" or config.objective.kind == "bce"):
        raise InvalidConfigError(
            f"{name} needs a softmax over items", "leave feed and objective.kind at their defaults"
        )
    named = (
        "cloud_model" if config.cloud_model else f"model.cloud.kind {kind!r}" if kind not in ("auto", "none") else ""
    )
    if named and method == "base" and not distilled:
        raise InvalidConfigError(
            f"the method base has no use for {named}",
            "to learn from a cloud model, give --set objective.distillation=1; for its opinions take --method duet",
        )
    if named and (method == "finetune" or (method == "cloud" and config.cloud_model)):
        raise InvalidConfigError(
            f"the method {method} has no use for {named}", "leave it out, or use it with the method duet"
        )


def check_state(model: ModelConfig) -> None:
    """Refuse a generator that reads the state of a cloud model where no sequence model has one.

    Raises:
        InvalidConfigError: so it is.
    """
    if model.of_state and SEQUENCE not in model.cloud.members:
        raise InvalidConfigError(
            f"model.history.encoder {model.history.encoder!r} needs a cloud model with a sequence model",
            "give --cloud-model blend or sequence, or choose another encoder",
        )
