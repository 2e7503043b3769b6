"""Publishing any model that was made personal: no run, no dataset and no items, but examples of what it reads.

Shapes: U devices, L samples of a history, N rows of the device's inputs, P values of theta; `x` dimensions of a sample.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from duetgen.core import Duet
from duetgen.export import graphs, parity
from duetgen.export.canary import shortest
from duetgen.export.errors import NotExportableError
from duetgen.export.folder import entries_of, now, versions, write_bundle
from duetgen.export.plausible import bound
from duetgen.wire.bundle import FORMAT_VERSION, OPSET, Bundle, LayoutEntry, Manifest, ModelCanary, identify
from duetgen.wire.errors import InvalidSampleError
from duetgen.wire.limits import (
    MAX_BUNDLE_NAME,
    MAX_DIMENSIONS,
    MAX_GENERATOR_HISTORY,
    MAX_HISTORY_BYTES,
    MAX_MODEL_NAME,
    MAX_PARAMETERS,
    MAX_TENSORS,
)
from duetgen.wire.pictures import size_of
from duetgen.wire.samples import Array, DType, ModelSpec, SampleSpec, TensorSpec

Values = npt.NDArray[Any]
Output = Callable[[Any], Tensor]
SampleType = Literal["ids", "float32", "int32", "uint8", "image"]
FEW: int = 64
"""Histories a call when bounds are learnt."""


def whole(found: Any) -> Tensor:
    """A model's output that is one tensor."""
    output: Tensor = found
    return output


class DeviceGraph(nn.Module):
    """What runs on a device: theta [1, P] and the model's own inputs to its output."""

    origin_P: Tensor

    def __init__(self, duet: Duet, output: Output, names: Sequence[str]) -> None:
        super().__init__()
        self.personal, self.output = duet.personal, output
        self.names = names if are_named(duet.personal.module, names) else ()
        self.register_buffer("origin_P", duet.personal.origin())

    def itself(self, *inputs: Tensor) -> Tensor:
        """The global model's output, by whatever way it computes where nothing is changed."""
        return self.run(None, inputs)

    def forward(self, theta_1P: Tensor, *inputs: Tensor) -> Tensor:
        """The model's output, with theta counted from the global model."""
        theta_P = theta_1P.squeeze(0)
        return self.run(theta_P if self.personal.residual else theta_P + self.origin_P, inputs)

    def run(self, theta_P: Tensor | None, inputs: Sequence[Tensor]) -> Tensor:
        """The model with its inputs by name where it knows them so, else one after the other."""
        if self.names:
            return self.output(self.personal(theta_P, **dict(zip(self.names, inputs))))
        return self.output(self.personal(theta_P, *inputs))


def are_named(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether inputs are called as the model's `forward` calls them, all of them; else they are told by their place.

    Raises:
        NotExportableError: one is called so, and lies in another place.
    """
    known = inspect.signature(model.forward).parameters.values()
    named = [one.name for one in known if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if set(names) <= set(named):
        return True
    for place, name in enumerate(names):
        if name in named and named.index(name) != place:
            raise NotExportableError(
                f"the input {name} is number {place + 1}, and number {named.index(name) + 1} of the model's forward",
                f"name all inputs as forward does: {', '.join(named)}"[:300],
            )
    return False


class GeneratorGraph(nn.Module):
    """What runs in the cloud: histories [B, L, x] to theta [B, P]."""

    origin_P: Tensor

    def __init__(self, duet: Duet) -> None:
        super().__init__()
        self.generator, self.residual = duet.generator, duet.personal.residual
        self.register_buffer("origin_P", duet.personal.origin())

    def forward(self, history_BLx: Tensor) -> Tensor:
        """What is added to the global parameters, and other values of theta."""
        theta_BP: Tensor = self.generator(history_BLx)
        return theta_BP if self.residual else theta_BP - self.origin_P


def export_model(
    duet: Duet,
    out: Path | str,
    *,
    key: Ed25519PrivateKey,
    name: str,
    inputs: Mapping[str, Tensor],
    histories: Sequence[Any],
    samples: SampleType = "float32",
    scale: float = 1.0,
    length: int | None = None,
    vocabulary: int = 0,
    output: Output = whole,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    metrics: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Publish a model that was made personal: the folder `out` appears whole, checked and signed, or not at all.

    The graphs are exported in float32, from copies on the processor.

    Args:
        duet: the model and its generator.
        out: the bundle's folder.
        key: signs the manifest, see `export.keys`.
        name: of the bundle, for people.
        inputs: one example of each of the model's inputs, for at least two rows: by the names that `forward` has for
            them, or by other names and in its order.
        histories: those of some devices, each a list or array of samples as the device observes them, oldest first;
            they tell what a plausible theta is, so the more the better.
        samples: how a sample travels: `ids` (whole numbers from 1), `float32`, `int32`, `uint8` (pixels), or `image`
            (the bytes of PNG or JPEG files of one size).
        scale: what a sample's values are multiplied by before the generator reads them, as 1/255 for images.
        length: L_g, most samples that the generator reads; the longest history by default.
        vocabulary: of `ids`, one above the largest.
        output: takes the one tensor out of what the model returns, as `lambda found: found.logits`.
        dynamic: dimensions of inputs that may differ, by name; the first one of all, `N`, by default.
        metrics: put into the manifest.
        overwrite: replace a bundle at `out`.

    Raises:
        NotExportableError: theta, a history or the graphs are beyond the limits; or torch cannot export the model.
        InvalidSampleError: a history is not of the samples that are told.
        ParityFailedError: ONNX Runtime does not compute what torch computes.
        OutputExistsError: something is at `out`.
        OutputUnwritableError: it cannot be written.
    """
    check_arguments(duet, key, name, inputs, dynamic or {}, samples, scale, length, vocabulary, metrics or {})
    histories = list(histories) if isinstance(histories, Iterable) else []
    whole_duet = copy.deepcopy(duet).cpu().float().eval()
    layout = whole_duet.personal.layout
    lengths = [len(history) for history in histories]
    longest = length or max(lengths, default=0)
    sample = SampleSpec(samples, shape_of(histories[0][0], samples) if all(lengths) and lengths else [], scale)
    axes = dynamic or {input_name: {0: "N"} for input_name in inputs}
    check_limits(layout.size, sample, longest, inputs, axes, lengths)
    packed = [[sample.pack(one, vocabulary) for one in history] for history in histories]
    read = [sample.read(sample.join(history), longest, vocabulary) for history in packed]
    made = {input_name: as_exported(tensor) for input_name, tensor in inputs.items()}

    device_graph = DeviceGraph(whole_duet, output, tuple(inputs)).eval()
    generator_graph = GeneratorGraph(whole_duet).eval()
    try:
        with torch.no_grad():
            shown = device_graph(torch.zeros(1, layout.size), *made.values())
            check_output(shown)
            check_fallback(device_graph.itself(*made.values()), shown)
            contents = {
                "device.onnx": export_device(device_graph, layout.size, made, axes),
                "generator.onnx": export_generator(generator_graph, read[0]),
            }
    except NotExportableError:
        raise
    except Exception as cause:  # torch raises many kinds, none with a common base of its own
        # What torch says for those who work on it comes before the line of the model.
        told = " ".join(
            line for line in str(cause).splitlines() if not line.startswith(("For ", "If you ", "Caused by"))
        )
        raise NotExportableError(
            f"torch cannot export the model: {told}"[:1000], "see docs/concepts/any-module.md for what exports"
        ) from cause
    device, generator = (parity.session(contents[file]) for file in ("device.onnx", "generator.onnx"))
    bounds = learn_bounds(generator_graph, read, [(entry.offset, entry.size) for entry in layout.entries])
    bounds_P = np.repeat(np.array(bounds, dtype=np.float32), [entry.size for entry in layout.entries])
    worst = compare((device_graph, device), (generator_graph, generator), made, axes, read, bounds_P)

    arrays = {input_name: tensor.numpy() for input_name, tensor in made.items()}
    theta_1P = parity.run(generator, history=read[0][None])[0]
    shown_output, fallback = (
        parity.run(device, theta=theta, **arrays)[0] for theta in (theta_1P, np.zeros_like(theta_1P))
    )
    canary = ModelCanary(
        history=sample.join(packed[0][-longest:]),
        theta=shortest(theta_1P),
        inputs={input_name: Array.of(array) for input_name, array in arrays.items()},
        output=Array.of(shown_output),
        fallback=Array.of(fallback),
    )
    contents["canary.json"] = msgspec.json.encode(canary)
    files = entries_of(contents, "a smaller model is needed")
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_id=identify(files),
        name=name,
        backbone=type(duet.personal.module).__name__[:MAX_MODEL_NAME],
        window=0,
        history=longest,
        vocabulary=vocabulary,
        layout=[
            LayoutEntry(entry.name, list(entry.shape), one) for entry, one in zip(layout.entries, bounds, strict=True)
        ],
        opset=OPSET,
        embeddings="float32",
        metrics={"parity_difference": worst, **(metrics or {})},
        created=now(),
        provenance=versions(),
        files=files,
        model=ModelSpec(
            sample,
            [spec_of(input_name, tensor, axes.get(input_name, {})) for input_name, tensor in made.items()],
            TensorSpec("output", "float32", output_shape(device, shown)),
        ),
    )
    return write_bundle(Path(out), manifest, contents, key, overwrite)


def shape_of(sample: Any, samples: SampleType) -> list[int]:
    """Sizes of a sample.

    Raises:
        InvalidSampleError: it is no picture, where it should be.
    """
    if samples == "image" and not isinstance(sample, bytes):
        raise InvalidSampleError(f"a sample is a {type(sample).__name__}", "give the bytes of a PNG or JPEG file")
    return list(size_of(sample) if samples == "image" else np.shape(sample))


def check_arguments(
    duet: object,
    key: object,
    name: object,
    inputs: Mapping[str, Tensor],
    dynamic: Mapping[str, Mapping[int, str]],
    samples: str,
    scale: object,
    length: object,
    vocabulary: int,
    metrics: Mapping[str, float],
) -> None:
    """Refuse arguments that are of another type, or out of their range.

    Raises:
        NotExportableError: with the first thing that is wrong.
    """

    def check(right: bool, cause: str, hint: str) -> None:
        if not right:
            raise NotExportableError(cause[:300], hint)

    def finite(value: object) -> bool:
        return isinstance(value, int | float) and math.isfinite(value)

    check(isinstance(duet, Duet), f"duet is a {type(duet).__name__}", "give what `duetgen.personalise` returns")
    check(isinstance(key, Ed25519PrivateKey), f"key is a {type(key).__name__}", "give an Ed25519PrivateKey")
    named = isinstance(name, str) and len(name) <= MAX_BUNDLE_NAME
    check(named, f"name is {name!r}", f"give a text of {MAX_BUNDLE_NAME} characters at most")
    check(isinstance(inputs, Mapping), f"inputs is a {type(inputs).__name__}", "give them by name, as in {'x': …}")
    check(0 < len(inputs) <= MAX_TENSORS, f"there are {len(inputs)} inputs", f"give 1 to {MAX_TENSORS}")
    for own, tensor in inputs.items():
        check(isinstance(tensor, Tensor), f"the input {own} is a {type(tensor).__name__}", "give a tensor")
        fits = is_name(own) and own not in ("theta", "output")
        check(fits, f"an input is called {own!r}", "give it a name of letters, not theta or output")
        types = get_args(DType)
        fits = dtype_of(tensor) in types and tensor.dim() <= MAX_DIMENSIONS
        wanted = f"give floats, or {', '.join(types[1:])}, of {MAX_DIMENSIONS} dimensions at most"
        check(fits, f"the input {own} is {tensor.dtype} of {tensor.dim()} dimensions", wanted)
    for own, axes in dynamic.items():
        check(own in inputs, f"dynamic names {own}, which is no input", f"name one of {', '.join(inputs)}")
        fits = isinstance(axes, Mapping) and all(axis in range(inputs[own].dim()) for axis in axes)
        fits = fits and all(is_name(called) for called in axes.values())
        check(fits, f"dynamic says {axes!r} of {own}", f"give names by dimension, below {inputs[own].dim()}")
    known = get_args(SampleType)
    check(samples in known, f"samples is {samples!r}", f"it is one of {', '.join(known)}")
    check(finite(scale) and scale != 0, f"scale is {scale!r}", "give a finite number that is not 0, as 1 / 255")
    whole = length is None or (isinstance(length, int) and length > 0)
    check(whole, f"length is {length!r}", "give a whole number from 1, or leave it out")
    check(samples != "ids" or vocabulary > 1, "ids have no vocabulary", "give vocabulary, one above the largest id")
    check(samples == "ids" or not vocabulary, f"{samples} has a vocabulary", "leave it out, or give samples='ids'")
    check(all(map(finite, metrics.values())), "a metric is no finite number", "leave it out")


def is_name(name: object) -> bool:
    """Whether a manifest can call an input so, or a size."""
    return isinstance(name, str) and name.isascii() and name.isidentifier() and len(name) <= 64


def check_output(shown: object) -> None:
    """Refuse a model whose output is not one tensor of numbers.

    Raises:
        NotExportableError: with what it is.
    """
    if not isinstance(shown, Tensor) or not shown.is_floating_point():
        what = f"a tensor of {shown.dtype}" if isinstance(shown, Tensor) else f"a {type(shown).__name__}"
        raise NotExportableError(
            f"the model gives {what}, where a bundle has one tensor of floating-point numbers",
            "take it out of what the model gives, as output=lambda found: found.logits",
        )


def check_fallback(itself: Tensor, shown: Tensor) -> None:
    """Refuse a model that computes something else where theta is 0 than by itself.

    Raises:
        NotExportableError: it does.
    """
    off = parity.difference(itself.numpy(), shown.numpy())
    if parity.TOLERANCE < off < math.inf:
        raise NotExportableError(
            f"with theta = 0 the output differs by {off:.2g} from the model's own",
            "torch's fast path of transformer layers gives zeros at padded positions: leave these out of what is "
            "computed from its output; or train and measure with torch.backends.mha.set_fastpath_enabled(False)",
        )


def check_limits(
    size: int,
    sample: SampleSpec,
    length: int,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Mapping[int, str]],
    lengths: Sequence[int],
) -> None:
    """Refuse what no bundle can hold.

    Raises:
        NotExportableError: with the first thing that is wrong.
    """
    if size > MAX_PARAMETERS:
        raise NotExportableError(f"theta has {size} values, at most {MAX_PARAMETERS} are served", "give it a budget")
    if not lengths or not all(lengths):
        raise NotExportableError("there are no histories, or an empty one", "give histories of some devices")
    if not sample.sound:
        raise NotExportableError(f"a sample is {sample}", "ids are single numbers, all others arrays or pictures")
    if length > MAX_GENERATOR_HISTORY:
        raise NotExportableError(
            f"a history has {length} samples, at most {MAX_GENERATOR_HISTORY} are read", "give a shorter length"
        )
    if sample.too_large(length):
        raise NotExportableError(
            f"a history of {length} samples has {sample.nbytes * length} bytes, at most {MAX_HISTORY_BYTES} travel",
            "give a shorter length, or smaller samples, as uint8 or image",
        )
    sizes: dict[str, int] = {}
    for name, tensor in inputs.items():
        # A size of 1 in the example would be one for good.
        if any(axis >= tensor.dim() or tensor.shape[axis] < 2 for axis in axes.get(name, {})):
            raise NotExportableError(
                f"the example of the input {name} is of {list(tensor.shape)}, fewer than two rows",
                "give it for two rows or more; or leave it out of dynamic, if its sizes never differ",
            )
        for axis, called in axes.get(name, {}).items():
            if sizes.setdefault(called, tensor.shape[axis]) != tensor.shape[axis]:
                raise NotExportableError(
                    f"the example has {called} as {sizes[called]} and, in the input {name}, as {tensor.shape[axis]}",
                    "sizes that may differ have names of their own: say which in dynamic",
                )


def as_exported(tensor: Tensor) -> Tensor:
    """An example as the graph takes it: whole numbers as they are, all others as float32, on the processor."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def dtype_of(tensor: Tensor) -> str:
    """How the manifest calls the type of an example's values, as exported."""
    return "float32" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")


def spec_of(name: str, tensor: Tensor, axes: Mapping[int, str]) -> TensorSpec:
    """What the manifest says about an input."""
    dtype: Any = dtype_of(tensor)
    return TensorSpec(name, dtype, [axes.get(axis, size) for axis, size in enumerate(tensor.shape)])


def output_shape(device: onnxruntime.InferenceSession, shown: Tensor) -> list[int | str]:
    """Sizes of the output, names for what is dynamic."""
    found = device.get_outputs()[0].shape
    return [size if isinstance(size, int) else str(size) for size in found] if len(found) == shown.dim() else []


def export_device(
    graph: DeviceGraph, size: int, inputs: Mapping[str, Tensor], axes: Mapping[str, Mapping[int, str]]
) -> bytes:
    """`device.onnx`; theta is that of one device, whatever the rows of its inputs.

    Raises:
        NotExportableError: too large for one file.
    """
    dynamic = [dict.fromkeys(axes.get(name, {}), graphs.DYNAMIC) for name in inputs]
    # Exporting replaces parts of the module; what torch computes is compared with the module as it was.
    return graphs.export_graph(
        copy.deepcopy(graph),
        (torch.zeros(1, size), *inputs.values()),
        ({}, tuple(dynamic)),
        ({}, *(dict(axes.get(name, {})) for name in inputs)),
        ("theta", *inputs),
        ("output",),
        "make the model smaller",
    )


def export_generator(graph: GeneratorGraph, history: Values) -> bytes:
    """`generator.onnx`; devices and samples are dynamic.

    Raises:
        NotExportableError: too large for one file.
    """
    example = torch.from_numpy(np.resize(history, (3, 7, *history.shape[1:])).copy())
    return graphs.export_graph(
        copy.deepcopy(graph),
        (example,),
        ({0: graphs.DYNAMIC, 1: graphs.DYNAMIC},),
        ({0: "B", 1: "L"},),
        ("history",),
        ("theta",),
        "make the encoder smaller",
    )


def padded(histories: Sequence[Values]) -> Values:
    """Histories of different lengths in one array: [B, L, x], zeros after the last sample."""
    longest = max(map(len, histories))
    rows = [np.pad(h, [(0, longest - len(h)), *[(0, 0)] * (h.ndim - 1)]) for h in histories]
    return np.stack(rows)


def learn_bounds(graph: nn.Module, histories: Sequence[Values], slices: Sequence[tuple[int, int]]) -> list[float]:
    """The bound of each entry of the layout: twice what the histories gave, whole and by their beginnings."""
    seen = [h[:count] for h in histories for count in {1, max(1, len(h) // 2), len(h)}]
    largest_P: Tensor | None = None
    with torch.inference_mode():
        for first in range(0, len(seen), FEW):
            found_P = graph(torch.from_numpy(padded(seen[first : first + FEW]))).abs().amax(0)
            largest_P = found_P if largest_P is None else torch.maximum(largest_P, found_P)
    assert largest_P is not None
    return [bound(largest_P[offset : offset + size].max()) for offset, size in slices]


def first_row(tensor: Tensor, names: Mapping[int, str], rows: Collection[str]) -> Tensor:
    """One row of an input, along the dimensions that are called as rows are."""
    for axis, name in names.items():
        tensor = tensor.narrow(axis, 0, 1) if name in rows else tensor
    return tensor


def compare(
    device: tuple[nn.Module, onnxruntime.InferenceSession],
    generator: tuple[nn.Module, onnxruntime.InferenceSession],
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Mapping[int, str]],
    histories: Sequence[Values],
    bounds_P: npt.NDArray[np.float32],
) -> float:
    """Compare torch and ONNX Runtime: histories alone and together, thetas of some devices, of none, and made up, on
    all rows of the inputs and on one.

    Returns:
        The largest difference found, see `parity.difference`.

    Raises:
        ParityFailedError: it is above `parity.TOLERANCE`.
    """
    gate = parity.Gate()
    rng = np.random.default_rng(0)
    rows = {names[0] for names in axes.values() if 0 in names}
    some = [h[: max(1, len(h) - number)] for number, h in enumerate(histories[:4])]
    with torch.inference_mode():
        for given in ([one] for one in some):
            history = padded(given)
            theta_1P = generator[0](torch.from_numpy(history)).numpy()
            gate.compare(f"theta of a history {history.shape}", theta_1P, parity.run(generator[1], history=history)[0])
        together = padded(some)
        theta_BP = generator[0](torch.from_numpy(together)).numpy()
        gate.compare("theta of histories together", theta_BP, parity.run(generator[1], history=together)[0])
        made_up = rng.uniform(-1, 1, (1, len(bounds_P))).astype(np.float32) * bounds_P
        one_row = {name: first_row(tensor, axes.get(name, {}), rows) for name, tensor in inputs.items()}
        for theta_1P in (*(theta_BP[[row]] for row in range(len(theta_BP))), np.zeros_like(made_up), made_up):
            for feeds in (inputs, one_row):
                expected = device[0](torch.from_numpy(theta_1P), *feeds.values()).numpy()
                arrays = {name: tensor.numpy() for name, tensor in feeds.items()}
                gate.compare("the output", expected, parity.run(device[1], theta=theta_1P, **arrays)[0])
    return gate.worst
