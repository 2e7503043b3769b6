"""The two graphs of a bundle, as ONNX.

`device.onnx`     theta [B, P], history [B, L_d], candidates [B, C] -> scores [B, C]
`generator.onnx`  history [B, L_g] -> theta [B, P] and, with a cloud model, items and values [B, J, K]

Dimensions but P, J and K are dynamic; a history is given at its own length or padded to any other, with 0 after its
last event. In a bundle theta = 0 is always the global model: where a model's theta replaces the global parameters, the
graphs count it from those.

Shapes: B devices, L history length (L_d device, L_g generator), C candidates, P weights in theta, J opinions, K items
of an opinion, D width of the encoder.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Final

import onnx
import torch
from torch import Tensor, nn

from duetgen.cloudmodel.graph import GraphModel
from duetgen.cloudmodel.model import SEQUENCE, CloudModel
from duetgen.cloudmodel.sequence import SequenceModel
from duetgen.core import GRUEncoder, StateEncoder
from duetgen.export.errors import NotExportableError
from duetgen.export.parts import parts_of
from duetgen.export.quantisation import QuantisedEmbedding
from duetgen.export.recurrent import OnnxRecurrent, with_onnx_recurrent
from duetgen.export.retrieval import TwoStep
from duetgen.export.splice import splice
from duetgen.recommender import ModelConfig, Recommender
from duetgen.wire.bundle import OPSET
from duetgen.wire.limits import MAX_BUNDLE_FILE_BYTES

DYNAMIC: Final = torch.export.Dim.DYNAMIC
PROTOBUF_BYTES: Final = 2**31 - 1
"""Largest ONNX file whose weights lie in the file itself."""
MOST_BYTES: Final = int(min(PROTOBUF_BYTES, MAX_BUNDLE_FILE_BYTES) * 0.95)
"""Of weights in a graph: the rest is for what it does with them."""


def quantised(model: Recommender) -> Recommender:
    """A copy whose device model reads int8 item embeddings; its generator reads what it read before."""
    table = QuantisedEmbedding(model.backbone.item_embedding)
    found = copy.deepcopy(model)
    found.backbone.item_embedding = table  # type: ignore[assignment]
    return found.eval()


class DeviceGraph(nn.Module):
    """What runs on a device.

    Args:
        model: in evaluation mode.
    """

    origin_P: Tensor | None

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone)
        self.register_buffer("origin_P", model.origin())

    def forward(self, theta_BP: Tensor, history_BL: Tensor, candidates_BC: Tensor) -> Tensor:
        """Scores of each device's candidates: [B, C]."""
        if self.origin_P is not None:
            theta_BP = theta_BP + self.origin_P
        return self.backbone.score(self.backbone.context(history_BL), candidates_BC, theta_BP)


class GeneratorGraph(nn.Module):
    """What runs in the cloud.

    Args:
        model: in evaluation mode, with a generator.
        two_step: the opinion of a sequence model comes in two steps, see `retrieval`.
    """

    origin_P: Tensor | None

    def __init__(self, model: Recommender, two_step: bool = False) -> None:
        super().__init__()
        assert model.generator is not None
        self.size = model.backbone.layout.size
        self.generator = None if parts_of(model) == "bias" else copy.deepcopy(model.generator)
        self.cloud = copy.deepcopy(model.cloud)
        if self.cloud is not None:
            reads = self.generator is not None and model.config.of_state
            self.cloud.keep(self.cloud.advisers, state=reads)
        self.two_step = None
        if two_step and self.cloud is not None:
            sequence = self.cloud.members[SEQUENCE]
            assert isinstance(sequence, SequenceModel)
            self.two_step = TwoStep(sequence)
        self.register_buffer("origin_P", model.origin())

    def forward(self, history_BL: Tensor) -> tuple[Tensor, ...]:
        """Theta of each history: weights [B, P], zeros where none travel; items and values [B, J, K] of opinions."""
        if self.cloud is None:
            return (self.weights(history_BL, None),)
        # Weights and opinions share the one reading of the history.
        state_BD = self.cloud.state(history_BL)
        weights_BP = self.weights(history_BL, state_BD)
        opinions = [
            self.two_step(self.cloud, history_BL, state_BD)
            if self.two_step is not None and name == SEQUENCE
            else self.cloud.opinion(name, history_BL, state_BD)
            for name in self.cloud.advisers
        ]
        return weights_BP, *(torch.stack(parts, 1) for parts in zip(*opinions))

    def weights(self, history_BL: Tensor, state_BD: Tensor | None) -> Tensor:
        """What is added to the global parameters: [B, P]."""
        if self.generator is None:
            return torch.zeros(history_BL.shape[0], self.size)
        theta_BP = self.generator.decode(self.vectors(history_BL, state_BD))
        return theta_BP if self.origin_P is None else theta_BP - self.origin_P

    def vectors(self, history_BL: Tensor, state_BD: Tensor | None) -> Tensor:
        """The encoder's vectors: [B, D]; a GRU is told the lengths, so that padding costs it nothing."""
        assert self.generator is not None
        encoder = self.generator.encoder
        if isinstance(encoder, StateEncoder):
            assert state_BD is not None
            state_vector_BD: Tensor = encoder(state_BD.unsqueeze(1))
            return state_vector_BD
        gru = getattr(encoder, "gru", None)
        if not isinstance(encoder, GRUEncoder) or not isinstance(gru, OnnxRecurrent):
            vector_BD: Tensor = encoder(history_BL)
            return vector_BD
        length_B = encoder.lengths(encoder.real(history_BL))
        state_BD = gru.last(encoder.embedded(history_BL), length_B.clamp(min=1))
        return state_BD * (length_B > 0).to(state_BD.dtype).unsqueeze(1)


def export_device(model: Recommender) -> bytes:
    """`device.onnx` of a model.

    Raises:
        NotExportableError: too large for one file.
    """
    layout = model.backbone.layout
    # Nothing runs on the example, so its history may be longer than the window; a 0, 1 or 2 would pass for a constant.
    example = (torch.zeros(3, layout.size), torch.ones(3, 7, dtype=torch.int64), torch.ones(3, 11, dtype=torch.int64))
    shapes = ({0: DYNAMIC}, {0: DYNAMIC, 1: DYNAMIC}, {0: DYNAMIC, 1: DYNAMIC})
    names = ({0: "B"}, {0: "B", 1: "L"}, {0: "B", 1: "C"})
    hint = "train with fewer items or a smaller --width, or export with --embeddings int8"
    return export_graph(
        DeviceGraph(model), example, shapes, names, ("theta", "history", "candidates"), ("scores",), hint
    )


def export_generator(model: Recommender, two_step: bool = False) -> bytes:
    """`generator.onnx` of a model; see `GeneratorGraph`.

    Raises:
        NotExportableError: too large for one file.
    """
    example = (torch.ones(3, 7, dtype=torch.int64),)
    outputs = ("theta",) if parts_of(model) == "weights" else ("theta", "items", "values")
    hint = (
        "train with fewer items, a smaller --width, or a cloud model with fewer neighbours; or export --parts weights"
    )
    graph = GeneratorGraph(model, two_step)
    return export_graph(graph, example, ({0: DYNAMIC, 1: DYNAMIC},), ({0: "B", 1: "L"},), ("history",), outputs, hint)


def bytes_of(*parts: nn.Module | None) -> int:
    """Of all weights of some modules."""
    return sum(t.numel() * t.element_size() for part in parts if part for t in (*part.parameters(), *part.buffers()))


def foreseen_bytes(vocabulary: int, config: ModelConfig) -> int:
    """Weights of the larger graph of a model that is not there yet, all parts of theta counting."""
    with torch.device("meta"):
        model = Recommender(vocabulary, config)
        if config.cloud.members and model.generator is not None:
            model.attach(CloudModel(vocabulary, config.history.length, config.cloud, config.met))
    return max(bytes_of(model.backbone), bytes_of(model.generator, model.cloud))


def export_graph(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    shapes: tuple[Any, ...],
    names: tuple[dict[int, str], ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    hint: str,
) -> bytes:
    """A module as ONNX.

    Args:
        graph: in evaluation mode.
        example: inputs to trace it with.
        shapes: what is dynamic of each of the module's arguments.
        names: of each input's dynamic dimensions.
        inputs: names of the inputs.
        outputs: names of the outputs.
        hint: what to do where it is too large.

    Raises:
        NotExportableError: too large for one file.
    """
    size = bytes_of(graph)
    if size > MOST_BYTES:
        raise NotExportableError(f"the model's weights take {size / 2**30:.1f} GiB; a graph holds less than 2", hint)
    graph = with_onnx_recurrent(graph).eval()
    own = [module for module in graph.modules() if isinstance(module, GraphModel)]
    for one in own:
        one.outputs(
            torch.ones(1, 1, dtype=torch.int64)
        )  # Tells the forms of its outputs, which tracing cannot ask for.
    with _quietly():
        program = torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    _name_apart(exported.model.graph)
    made = exported.model_proto
    for one in own:
        splice(made, one.content)
    content: bytes = _cleaned(made, names).SerializeToString(deterministic=True)
    return content


def _name_apart(graph: Any) -> None:
    """Give what lies between inputs and outputs of an exporter's graph other names than these have: an input may be
    called `linear`.
    """
    ends = {value.name: value for value in (*graph.inputs, *graph.outputs)}
    for value in (*graph.initializers.values(), *(value for node in graph.all_nodes() for value in node.outputs)):
        if ends.get(value.name, value) is not value:
            value.name = f"{value.name}.inner"


def _cleaned(model: onnx.ModelProto, names: tuple[dict[int, str], ...]) -> onnx.ModelProto:
    """The graph without what depends on where it was made: traces of source files, generated names of dimensions."""
    symbols = {
        value.type.tensor_type.shape.dim[axis].dim_param: name
        for value, axes in zip(model.graph.input, names)
        for axis, name in axes.items()
    }
    for holder in (model, model.graph, *model.graph.node, *model.graph.initializer):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_param:
                # A size of the output that follows from others has a name of its own.
                dimension.dim_param = symbols.get(dimension.dim_param, f"D{axis}")
    # Shapes of intermediate values speak in the generated names; a runtime infers them itself.
    model.graph.ClearField("value_info")
    model.ClearField("functions")
    return model


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what exporting says about itself: notes for its own developers, and of a failure all that was traced."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")]
    printed = io.StringIO()
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(printed):
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*will not be used, since it shares.*", category=UserWarning)
            yield
        sys.stderr.write(printed.getvalue())
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
