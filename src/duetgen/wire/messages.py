"""What cloud and device say to each other: strict types, as msgpack or JSON (bytes are base64 there).

Times are milliseconds since 1970, UTC. Item indices are those of the bundle's `items.json`: 0 is padding and never
sent, 1 the unknown item.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from duetgen.wire.limits import MAX_BATCH_DEVICES, MAX_DEVICE_BYTES, MAX_GENERATOR_HISTORY, MAX_HISTORY_BYTES

Encoding: TypeAlias = Literal["float32", "float16", "int8"]
Parts: TypeAlias = Literal["both", "weights", "bias"]
"""Parts of theta: the weights of the device's graph, the item bias, or both."""
MetPolicy: TypeAlias = Literal["hide", "show"]
"""Whether items that a device has met are hidden from its rankings."""
# Python's `$` also matches before a line break at the end, hence `(?!\n)`.
ModelId: TypeAlias = Annotated[str, Meta(pattern=r"^([0-9a-f]{64}|latest)$(?!\n)", description="model_id, or `latest`")]
DeviceId: TypeAlias = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._:-]{{1,{MAX_DEVICE_BYTES}}}$(?!\n)")]
Ids: TypeAlias = Annotated[
    list[Annotated[int, Meta(ge=1, le=2**31 - 1)]],
    Meta(min_length=1, max_length=MAX_GENERATOR_HISTORY, description="item indices, oldest first"),
]
Samples: TypeAlias = Annotated[
    bytes,
    Meta(min_length=1, max_length=MAX_HISTORY_BYTES, description="samples as the manifest types them, oldest first"),
]
History: TypeAlias = Ids | Samples


class ParametersRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/parameters`: a device asks for its theta.

    Attributes:
        model_id: the version that the device runs.
        device: the device's id; must be the one that its token was made for.
        history: its recent items, or samples, oldest first; only the last L_g count.
        dtype: how the weights shall be encoded, see `wire.codec`.
        age_ms: how old the theta in use is, for the service's metrics; absent if there is none.
        parts: of theta that shall be sent; what the version does not have is left out.
    """

    model_id: ModelId
    device: DeviceId
    history: History
    dtype: Encoding = "float16"
    age_ms: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    parts: Parts = "both"


class ParametersAnswer(msgspec.Struct, frozen=True):
    """A device's theta.

    Attributes:
        model_id: the version that it is for.
        sequence: grows with every answer to the same device.
        issued: when it was made.
        expires: when the device shall have asked again.
        dtype: how the weights are encoded.
        scale: float16 scale of each row for int8; empty otherwise.
        theta: the weights, little endian, in the order of the layout; empty for those of the global model.
        bias: the item bias, see `wire.bias`; empty for none.
        mac: HMAC-SHA256 over all of the above and the device's id, see `wire.authentication`.
    """

    model_id: str
    sequence: int
    issued: int
    expires: int
    dtype: Encoding
    scale: bytes
    theta: bytes
    bias: bytes
    mac: bytes


class BatchDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device of a batch."""

    device: DeviceId
    history: History


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/parameters:batch`: many devices at once, with a token of scope `batch`."""

    model_id: ModelId
    devices: Annotated[list[BatchDevice], Meta(min_length=1, max_length=MAX_BATCH_DEVICES)]
    dtype: Encoding = "float16"
    parts: Parts = "both"


class BatchAnswer(msgspec.Struct, frozen=True):
    """Answers in the order of the request; the macs are under the key of the caller's token."""

    answers: list[ParametersAnswer]


class ModelSummary(msgspec.Struct, frozen=True):
    """A version in service."""

    model_id: str
    name: str
    backbone: str
    created: str
    bytes: int


class ModelsAnswer(msgspec.Struct, frozen=True):
    """`GET /v1/models`: what is in service, and which version a device without one, or with an old one, shall run."""

    latest: str
    models: list[ModelSummary]


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Every answer that is no success; `code` has a page in docs/errors/."""

    code: str
    message: str
    hint: str
