"""The bundle: one published version of the duet, as files that anyone can verify.

```
manifest.json     what it is, with size and SHA-256 of every other file
signature.json    Ed25519 signature over the bytes of manifest.json
device.onnx       theta [B, P], history [B, L_d], candidates [B, C] -> scores [B, C]
generator.onnx    history [B, L_g] -> theta [B, P], items and values [B, J, K]; stays in the cloud
items.json        ids and titles by item index; not of a model that ranks no items
canary.json       inputs and outputs of both graphs, to prove that a runtime computes what was exported
```

Opening checks the manifest, the signature and the names and sizes of all files; reading a file checks its digest. A
device may have a bundle without `generator.onnx`.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Meta, UnsetType

from duetgen.documents import Refuse, decode_json, format_version
from duetgen.files import read_regular
from duetgen.wire import ed25519
from duetgen.wire.bias import BiasCodec
from duetgen.wire.codec import ThetaCodec
from duetgen.wire.errors import InvalidBundleError
from duetgen.wire.limits import (
    MAX_BUNDLE_FILE_BYTES,
    MAX_BUNDLE_NAME,
    MAX_GENERATOR_HISTORY,
    MAX_ITEMS,
    MAX_MANIFEST_BYTES,
    MAX_MODEL_NAME,
    MAX_OPINION_ITEMS,
    MAX_OPINIONS,
    MAX_PARAMETERS,
    MAX_WINDOW,
)
from duetgen.wire.messages import MetPolicy, Parts
from duetgen.wire.samples import Array, ModelSpec
from duetgen.wire.trust import Trust

FORMAT_VERSION: Final = 2
OPSET: Final = 20
"""Of the ONNX graphs."""
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "signature.json"
FILES: Final = ("device.onnx", "generator.onnx", "items.json", "canary.json")
"""Every file that the manifest names."""
DEVICE_FILES: Final = ("device.onnx", "items.json", "canary.json")
"""What a device downloads of them."""
ITEMS: Final = "items.json"
"""What a bundle of any model lacks."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Dimension = Annotated[int, Meta(ge=1, le=MAX_PARAMETERS)]


class BundleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digest and size of a file."""

    sha256: Sha256
    bytes: Annotated[int, Meta(ge=0, le=MAX_BUNDLE_FILE_BYTES)]


class LayoutEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of the weights of theta.

    Attributes:
        name: of the dynamic parameter.
        shape: its dimensions; entries lie in theta one after the other, row by row.
        bound: largest plausible magnitude of its values, learnt at export; a device refuses more.
    """

    name: str
    shape: Annotated[list[Dimension], Meta(min_length=1, max_length=8)]
    bound: Annotated[float, Meta(gt=0)]


class Opinion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the cloud that has a say in the item bias.

    Attributes:
        name: of the model, for people.
        items: K, the most that it names.
        bound: largest plausible value, learnt at export; a device refuses more.
    """

    name: Annotated[str, Meta(max_length=MAX_MODEL_NAME)]
    items: Annotated[int, Meta(ge=1, le=MAX_OPINION_ITEMS)]
    bound: Annotated[float, Meta(gt=0)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`manifest.json`.

    Attributes:
        format_version: of the bundle.
        model_id: SHA-256 over names, sizes and digests of the files, see `identify`.
        name: of the dataset it was trained on, for people.
        backbone: its name in `backbones.BACKBONES`, or the class of any model.
        window: L_d.
        history: L_g.
        vocabulary: V, item indices with padding and unknown.
        layout: what the weights of theta hold.
        opset: of the graphs.
        embeddings: how the graphs store item embeddings.
        metrics: what was measured on the validation part, and of int8 embeddings the loss.
        met: whether the device hides items that it has met, by default; the policy of the dataset.
        parts: of theta that answers hold.
        opinions: in the order of the item bias; none where answers hold weights alone.
        trust: how much each part counts at its age.
        created: ISO 8601, UTC.
        provenance: where it comes from: versions, commit, content hash of the data.
        files: by name.
        model: of a bundle of any model, what its graphs read and give; such a one has no items. Its window is 0, and so
            is its vocabulary, but where its history holds ids.
    """

    format_version: Literal[2]
    model_id: Sha256
    name: Annotated[str, Meta(max_length=MAX_BUNDLE_NAME)]
    backbone: Annotated[str, Meta(max_length=MAX_MODEL_NAME)]
    window: Annotated[int, Meta(ge=0, le=MAX_WINDOW)]
    history: Annotated[int, Meta(ge=1, le=MAX_GENERATOR_HISTORY)]
    vocabulary: Annotated[int, Meta(ge=0, le=MAX_ITEMS + 2)]
    layout: Annotated[list[LayoutEntry], Meta(min_length=1, max_length=4096)]
    opset: Annotated[int, Meta(ge=1, le=1000)]
    embeddings: Literal["float32", "int8"]
    metrics: dict[str, float]
    met: MetPolicy = "hide"
    parts: Parts = "weights"
    opinions: Annotated[list[Opinion], Meta(max_length=MAX_OPINIONS)] = []
    trust: Trust = Trust([0], [1.0], [])
    created: Annotated[str, Meta(max_length=64)]
    provenance: dict[str, str]
    files: dict[str, BundleFile]
    model: ModelSpec | UnsetType = UNSET

    @property
    def ranks(self) -> bool:
        """Whether it ranks items; else it is a bundle of any model."""
        return isinstance(self.model, UnsetType)

    @property
    def device_files(self) -> list[str]:
        """What a device downloads."""
        return [name for name in DEVICE_FILES if name in self.files]

    @property
    def size(self) -> int:
        """P, the number of weights in theta."""
        return sum(math.prod(entry.shape) for entry in self.layout)


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`signature.json`: both in hexadecimal."""

    public_key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]


class Items(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`items.json`: by index; 0 and 1 (padding, unknown) hold empty strings. `titles` is empty where there are none."""

    ids: list[str]
    titles: list[str]


class CanaryOpinion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One opinion of the canary's item bias: item indices, ascending, and their values, above 0 and not rounded."""

    items: list[int]
    values: list[float]


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`canary.json`: one device, its theta, and the scores of some candidates with its weights and with theta = 0.

    The scores are those of the device's graph alone: without the item bias.
    """

    history: list[int]
    candidates: list[int]
    theta: list[float]
    scores: list[float]
    fallback_scores: list[float]
    opinions: list[CanaryOpinion] = []


class ModelCanary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`canary.json` of any model: a history as a request holds it, its theta, and what the device's graph makes of some
    inputs with it and with theta = 0."""

    history: list[int] | bytes
    theta: list[float]
    inputs: dict[str, Array]
    output: Array
    fallback: Array


def identify(files: Mapping[str, BundleFile]) -> str:
    """The `model_id` of some files."""
    lines = (f"{name} {files[name].bytes} {files[name].sha256}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def decode_manifest(content: bytes, source: str) -> Manifest:
    """A manifest that is consistent in itself.

    Raises:
        InvalidBundleError: malformed, of another format, beyond the limits, or not what its own model_id says.
    """
    hint = "export the model again, or publish with a version of duetgen that fits"
    if len(content) > MAX_MANIFEST_BYTES:
        raise InvalidBundleError(f"{source} has {len(content)} bytes, at most {MAX_MANIFEST_BYTES} are read", hint)

    def refuse(cause: str) -> InvalidBundleError:
        return InvalidBundleError(f"{source} is no manifest: {cause}", hint)

    if (version := format_version(content, refuse)) != FORMAT_VERSION:
        raise InvalidBundleError(f"{source} has bundle format {version}; this version reads {FORMAT_VERSION}", hint)
    manifest = decode_json(content, Manifest, refuse)
    files = [name for name in FILES if manifest.ranks or name != ITEMS]
    if set(manifest.files) != set(files):
        raise InvalidBundleError(f"{source} does not name exactly the files {', '.join(files)}", hint)
    check_kind(manifest, source, hint)
    if identify(manifest.files) != manifest.model_id:
        raise InvalidBundleError(f"{source} has a model_id that is not that of its files", hint)
    if manifest.size > MAX_PARAMETERS:
        raise InvalidBundleError(f"{source} has a theta of {manifest.size} values, at most {MAX_PARAMETERS}", hint)
    if (manifest.parts == "weights") != (not manifest.opinions):
        raise InvalidBundleError(
            f"{source} has {len(manifest.opinions)} opinions, but its answers hold {manifest.parts}", hint
        )
    if len(manifest.trust.opinions) != len(manifest.opinions):
        raise InvalidBundleError(
            f"{source} has {len(manifest.opinions)} opinions, and trust for {len(manifest.trust.opinions)}", hint
        )
    return manifest


def check_kind(manifest: Manifest, source: str, hint: str) -> None:
    """Refuse a manifest that lacks what its kind needs, or has what it cannot have.

    Raises:
        InvalidBundleError: it does.
    """
    model = manifest.model
    if isinstance(model, UnsetType):
        if manifest.window < 1 or manifest.vocabulary < 3:
            raise InvalidBundleError(f"{source} is no manifest: it ranks items, and has no window or no items", hint)
        return
    ids = model.history.dtype == "ids"
    if manifest.window or bool(manifest.vocabulary) != ids or manifest.parts != "weights":
        raise InvalidBundleError(f"{source} is of a model that ranks no items, and says otherwise", hint)
    if not model.history.sound or model.history.too_large(manifest.history):
        raise InvalidBundleError(f"{source} has a history that no request can hold", hint)


def malformed(what: str) -> Refuse:
    """The refusal of a part of a bundle that is no JSON of its kind."""
    return lambda cause: InvalidBundleError(f"{what}: {cause}", "export the model again")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: verified but for the contents of files, which `read` verifies."""

    root: Path
    manifest: Manifest
    signature: Signature
    place: Path
    """Where the root is: files are read later, perhaps from another working folder."""

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            InvalidBundleError: it is missing, or not what the manifest says.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            raise InvalidBundleError(f"a bundle has no file {name!r}", f"it has {', '.join(FILES)}")
        path = self.place / name
        try:
            content = read_regular(path, expected.bytes + 1)
        except OSError as cause:
            raise InvalidBundleError(f"cannot read {path}: {cause.strerror}", "copy the bundle again") from cause
        check_file(name, content, expected)
        return content

    def items(self) -> Items:
        """Ids and titles.

        Raises:
            InvalidBundleError: it ranks no items.
            InvalidBundleError: `items.json` is damaged or does not fit the vocabulary.
        """
        if not self.manifest.ranks:
            raise InvalidBundleError(
                f"{self.root} ranks no items: it is a model of the class {self.manifest.backbone}",
                "run it with duetgen.device.PersonalModel",
            )
        items = decode_json(self.read("items.json"), Items, malformed("items.json is malformed"))
        if len(items.ids) != self.manifest.vocabulary or len(items.titles) not in (0, len(items.ids)):
            raise InvalidBundleError("items.json does not fit the vocabulary", "export the model again")
        return items

    def canary(self) -> Canary:
        """What both graphs must reproduce.

        Raises:
            InvalidBundleError: `canary.json` is damaged or does not fit the manifest.
        """
        canary = decode_json(self.read("canary.json"), Canary, malformed("canary.json is malformed"))
        indices = (*canary.history, *canary.candidates)
        fits = (
            1 <= len(canary.history) <= self.manifest.history
            and len(canary.theta) == self.manifest.size
            and 1 <= len(canary.candidates) == len(canary.scores) == len(canary.fallback_scores)
            and min(indices) >= 1
            and max(indices) < self.manifest.vocabulary
            and len(canary.opinions) == len(self.manifest.opinions)
            and all(map(self._fits, canary.opinions, self.manifest.opinions))
        )
        if not fits:
            raise InvalidBundleError("canary.json does not fit the manifest", "export the model again")
        return canary

    def model_canary(self) -> ModelCanary:
        """What both graphs of any model must reproduce.

        Raises:
            InvalidBundleError: `canary.json` is damaged or does not fit the manifest.
        """
        canary = decode_json(self.read("canary.json"), ModelCanary, malformed("canary.json is malformed"))
        if len(canary.theta) != self.manifest.size:
            raise InvalidBundleError("canary.json does not fit the manifest", "export the model again")
        return canary

    def _fits(self, found: CanaryOpinion, opinion: Opinion) -> bool:
        return (
            len(found.items) == len(found.values) <= opinion.items
            and all(one < other for one, other in pairwise((1, *found.items, self.manifest.vocabulary)))
            and min(found.values, default=1) > 0
        )

    def codec(self) -> ThetaCodec:
        """The codec of its weights."""
        return ThetaCodec([entry.shape for entry in self.manifest.layout])

    def bias_codec(self) -> BiasCodec:
        """The codec of its item bias."""
        return BiasCodec(self.manifest.vocabulary, [opinion.items for opinion in self.manifest.opinions])

    def bounds(self) -> npt.NDArray[np.float32]:
        """Largest plausible magnitude of each weight of theta: [P]."""
        entries = self.manifest.layout
        sizes = [math.prod(entry.shape) for entry in entries]
        return np.repeat(np.array([entry.bound for entry in entries], dtype=np.float32), sizes)


def check_file(name: str, content: bytes, expected: BundleFile) -> None:
    """Refuse content that is not what the manifest says.

    Raises:
        InvalidBundleError: its size or digest differs.
    """
    if len(content) != expected.bytes or hashlib.sha256(content).hexdigest() != expected.sha256:
        raise InvalidBundleError(
            f"{name} is not what the manifest says: it was changed or cut", "copy the bundle again"
        )


def verify_manifest(content: bytes, signature: bytes, trusted: Collection[str] | None, source: str) -> Signature:
    """The signature of a manifest, verified.

    Args:
        content: bytes of `manifest.json`.
        signature: bytes of `signature.json`.
        trusted: public keys that may sign, in hexadecimal; None takes any key that fits its own signature.
        source: for messages.

    Raises:
        InvalidBundleError: malformed, not by a trusted key, or not over these bytes.
    """
    signed = decode_json(signature, Signature, malformed(f"{source} has a malformed signature"))
    if trusted is not None and signed.public_key not in trusted:
        raise InvalidBundleError(
            f"{source} is signed by the key {signed.public_key[:16]}…, which is not trusted here",
            "sign it with a trusted key, or trust that key",
        )
    if not ed25519.verify(bytes.fromhex(signed.public_key), content, bytes.fromhex(signed.signature)):
        raise InvalidBundleError(f"{source} has a signature that is not over this manifest", "copy the bundle again")
    return signed


def open_bundle(
    root: Path, *, trusted: Collection[str] | None = None, files: Collection[str] = FILES, contents: bool = False
) -> Bundle:
    """Open a bundle and verify it.

    Args:
        root: the bundle's folder.
        trusted: public keys that may sign, in hexadecimal; None takes any.
        files: those of `FILES` that must be there: `DEVICE_FILES` on a device.
        contents: verify the digests of all these files now, not only when they are read.

    Raises:
        InvalidBundleError: it is no bundle, damaged, incomplete, or not to be trusted.
    """
    root = Path(root)
    try:
        content = read_regular(root / MANIFEST, MAX_MANIFEST_BYTES + 1)
        signature = read_regular(root / SIGNATURE, 4096)
    except OSError as cause:
        raise InvalidBundleError(
            f"{root} is not a bundle: cannot read {Path(cause.filename or root).name} ({cause.strerror})",
            "make one with `duet export RUN DATASET --out BUNDLE`",
        ) from cause
    signed = verify_manifest(content, signature, trusted, str(root / MANIFEST))
    manifest = decode_manifest(content, str(root / MANIFEST))
    bundle = Bundle(root, manifest, signed, root.absolute())
    sizes = check_folder(root)
    for name in (name for name in files if name in manifest.files):
        if sizes.get(name) != manifest.files[name].bytes:
            raise InvalidBundleError(
                f"{root / name} is missing, or not of the size that the manifest says", "copy the bundle again"
            )
        if contents:
            bundle.read(name)
    return bundle


def check_folder(root: Path) -> dict[str, int]:
    """The files of a bundle's folder, with their sizes.

    Raises:
        InvalidBundleError: something else is there: another file, a link, a folder.
    """
    sizes: dict[str, int] = {}
    try:
        for path in root.iterdir():
            state = path.lstat()
            if path.name not in (MANIFEST, SIGNATURE, *FILES) or not stat.S_ISREG(state.st_mode):
                raise InvalidBundleError(
                    f"{root} holds {path.name!r:.100}, which is no file of a bundle, or a link to one",
                    "keep nothing but the bundle's own files there",
                )
            sizes[path.name] = state.st_size
    except OSError as cause:
        raise InvalidBundleError(f"cannot read {root}: {cause.strerror}", "copy the bundle again") from cause
    return sizes
