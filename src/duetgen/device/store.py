"""The parameter store: the one theta that a device ranks with, checked before it is used and again when it is loaded.

On disk lies the cloud's answer as it came, with its code, in a frame: magic, SHA-256 of the rest, the rest. A file that
was torn or changed anywhere is no theta; one that is whole passes every check of a fresh answer once more.

Shapes: P weights in theta.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from typing import Final

import msgspec
import numpy as np

from duetgen.device.errors import Reason, RefusedParametersError
from duetgen.device.items import UNKNOWN
from duetgen.device.loaded import LoadedModel
from duetgen.device.state import THETA, StateFolder
from duetgen.device.theta import Origin, Theta
from duetgen.wire.authentication import verify
from duetgen.wire.errors import InvalidParametersError
from duetgen.wire.limits import MAX_ANSWER_BYTES, MAX_CLOCK_SKEW_MS
from duetgen.wire.messages import ParametersAnswer

MAGIC: Final = b"DUETPAR2"
GRACE_SECONDS: Final = 7 * 24 * 3600.0
"""How long after its expiry a theta may still be used, by default: a device may be offline."""
SLACK: Final = 1.01
"""Bounds are learnt on exact values; encodings round."""


class _Kept(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    answer: ParametersAnswer
    origin: Origin


def frame(payload: bytes) -> bytes:
    """A payload so that any change to it shows."""
    return MAGIC + hashlib.sha256(payload).digest() + payload


def unframe(content: bytes) -> bytes | None:
    """The payload, or None if anything was changed or cut."""
    head, payload = content[: len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    return payload if head == MAGIC + hashlib.sha256(payload).digest() else None


class ParameterStore:
    """Holds the last good theta of one model. Thread-safe; `current` is one atomic read.

    Args:
        model: the version that theta is for.
        state: folder to keep it in; None keeps it in memory alone.
        key: key of the answers' codes.
        device: the device's id.
        grace: seconds after its expiry for which a theta is still used.
        now_ms: wall clock at the time of loading, in milliseconds.

    Attributes:
        current: theta in use, or None.
        cleared: how often theta was forgotten; an answer to a question of before is not taken.
        damaged: whether there was a file that held no theta to use.
    """

    def __init__(
        self,
        model: LoadedModel,
        state: StateFolder | None,
        key: bytes,
        device: str,
        now_ms: int,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.model, self.key, self.device, self.grace = model, key, device, grace
        self.current: Theta | None = None
        self.cleared = 0
        self.damaged = False
        self._lock = threading.Lock()
        self._file = None if state is None else state.file(f"{THETA}/{model.model_id}.theta", self._content)
        if self._file is not None and self._file.path.exists():
            self._load(self._file.read(MAX_ANSWER_BYTES + 2**16) or b"", now_ms)

    def _content(self) -> bytes | None:
        theta = self.current
        return None if theta is None else frame(msgspec.msgpack.encode(_Kept(theta.answer, theta.origin)))

    def check(self, answer: ParametersAnswer, origin: Origin, now_ms: int) -> Theta:
        """The theta of an answer that may be used now, by itself.

        Raises:
            RefusedParametersError: with the reason.
        """
        hint = "the device goes on with what it has"
        if answer.model_id != self.model.model_id:
            raise RefusedParametersError("wrong-model", f"theta is for the model {answer.model_id[:16]}", hint)
        if not verify(self.key, self.device, answer):
            raise RefusedParametersError(
                "wrong-mac", "theta's code is wrong: it was changed, or is another device's", hint
            )
        try:
            theta = self._decode(answer, origin)
        except InvalidParametersError as cause:
            reason: Reason = "not-finite" if "not finite" in cause.message else "malformed"
            raise RefusedParametersError(reason, cause.message, hint) from cause
        if not self._plausible(theta):
            raise RefusedParametersError("out-of-bounds", "theta is larger than the bundle's bounds allow", hint)
        if answer.issued > now_ms + MAX_CLOCK_SKEW_MS:
            raise RefusedParametersError("from-future", "theta was issued in the future", "check the device's clock")
        if self.expired(answer, now_ms):
            raise RefusedParametersError("expired", "theta has expired", "check the device's clock")
        return theta

    def _decode(self, answer: ParametersAnswer, origin: Origin) -> Theta:
        if not answer.theta and not answer.bias:
            raise InvalidParametersError("theta holds neither weights nor an item bias", "")
        values_P, model = self.model.zeros_P, self.model
        if answer.theta or answer.scale:
            with np.errstate(all="ignore"):
                values_P = model.codec.decode(answer.scale, answer.theta, answer.dtype)
            values_P.flags.writeable = False
        return Theta(values_P, model.bias_codec.decode(answer.bias) if answer.bias else [], answer, origin)

    def _plausible(self, theta: Theta) -> bool:
        largest = [float(opinion.values.max(initial=0)) for opinion in theta.opinions]
        return bool((np.abs(theta.values_P) <= self.model.bounds_P * np.float32(SLACK)).all()) and all(
            value <= opinion.bound * SLACK for value, opinion in zip(largest, self.model.manifest.opinions)
        )

    def expired(self, answer: ParametersAnswer, now_ms: int) -> bool:
        """Whether an answer is past its expiry and the grace."""
        return answer.expires + self.grace * 1000 < now_ms

    def accept(self, answer: ParametersAnswer, origin: Origin, now_ms: int, cleared: int | None = None) -> Theta:
        """Check a fresh answer, use it, and keep it; a disk that does not take it is only counted.

        Args:
            answer: of the cloud.
            origin: what it was made from.
            now_ms: wall clock, in milliseconds.
            cleared: what `cleared` was before the question was made; None where that cannot have changed.

        A sequence must grow. It may start anew when the theta at hand can no longer be used, since every answer
        that is older than that one can then not be used either.

        Raises:
            RefusedParametersError: with the reason; what was in use stays.
        """
        theta = self.check(answer, origin, now_ms)
        with self._lock:
            if cleared is not None and cleared != self.cleared:
                raise RefusedParametersError(
                    "forgotten", "theta was made from what the device has forgotten", "it asks again after an event"
                )
            held = self.current
            if held is not None and answer.sequence <= held.answer.sequence and not self.expired(held.answer, now_ms):
                raise RefusedParametersError(
                    "older",
                    f"theta has the sequence {answer.sequence}, the device has {held.answer.sequence}",
                    "the device goes on with what it has",
                )
            self.current = theta
            if self._file is not None and self._file.save():
                self.damaged = False
        return theta

    def fresh(self, now: float) -> bool:
        """Whether there is a theta that shall not be replaced for its age alone.

        Counted from when it came, so that a device whose clock is wrong does not ask again and again.
        """
        theta = self.current
        if theta is None:
            return False
        lifetime = (theta.answer.expires - theta.answer.issued) / 1000
        return 0 <= now - theta.origin.received < lifetime

    def usable(self, now_ms: int) -> Theta | None:
        """The theta to rank with now: none if there is none, or it has expired beyond the grace."""
        theta = self.current
        return None if theta is None or self.expired(theta.answer, now_ms) else theta

    def drop(self, theta: Theta) -> None:
        """Use a theta no longer, and forget it on disk."""
        with self._lock:
            if self.current is theta:
                self._forget()

    def clear(self) -> bool:
        """Forget theta, on disk too, and take none that was asked for before. Whether all is gone."""
        with self._lock:
            self.cleared += 1
            return self._forget()

    def _forget(self) -> bool:
        self.current = None
        return self._file is None or self._file.erase()

    def _load(self, content: bytes, now_ms: int) -> None:
        self.damaged = True
        payload = unframe(content)
        if payload is None:
            return
        with contextlib.suppress(msgspec.DecodeError, RefusedParametersError, RecursionError):
            kept = msgspec.msgpack.decode(payload, type=_Kept)
            theta = self.check(kept.answer, kept.origin, now_ms)
            if all(UNKNOWN <= item < self.model.vocabulary for item in kept.origin.history):
                self.current = theta
                self.damaged = False
