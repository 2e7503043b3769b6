"""New versions of the model on a device: downloaded aside, verified, adopted by one rename, the one before kept.

```
versions.json       which version is in use, which was before, which are refused and why
versions/MODEL_ID/  manifest.json, signature.json and the files that a device uses
```

The bundle that came with the device stays where it is; updates must be signed by a trusted key, which is that of this
bundle unless others are named.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import msgspec

from duetgen.device.errors import NothingToRollBackError
from duetgen.device.loaded import LoadedModel
from duetgen.device.model import load_model
from duetgen.device.state import StateFolder
from duetgen.wire.bundle import MANIFEST, SIGNATURE, decode_manifest, verify_manifest
from duetgen.wire.errors import InvalidBundleError
from duetgen.wire.limits import MAX_MANIFEST_BYTES

MODEL_ID: Final = re.compile(r"[0-9a-f]{64}")
MAX_SIGNATURE_BYTES: Final = 4096
MAX_VERSION_BYTES: Final = 512 * 2**20
"""Largest version that a device downloads, by default."""
REFUSED_SECONDS: Final = 24 * 3600.0
"""How long a version that failed verification is not tried again: its files may be repaired where it is published."""
ROLLED_BACK: Final = "rolled back"


def own_file(path: Path) -> BinaryIO:
    """A new file, for its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


class FileSource(Protocol):
    """Where files of a version come from."""

    def file(self, model_id: str, name: str, limit: int, into: BinaryIO) -> None:
        """Write a file's content, at most `limit` bytes of it."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a version is not used, and since when (seconds of the wall clock)."""

    reason: str
    at: float


class VersionsState(msgspec.Struct):
    """`versions.json`."""

    shipped: str
    current: str
    previous: str | None = None
    refused: dict[str, Refusal] = {}


class Versions:
    """The versions on one device.

    Args:
        shipped: the bundle that came with the device, loaded.
        state: the device's state folder.
        trusted: public keys that may sign updates; None: the key of the shipped bundle.
        clock: wall clock in seconds.
        max_bytes: largest version that is downloaded.

    Attributes:
        model: the version in use.
    """

    def __init__(
        self,
        shipped: LoadedModel,
        state: StateFolder,
        trusted: Collection[str] | None,
        clock: Callable[[], float],
        max_bytes: int = MAX_VERSION_BYTES,
    ) -> None:
        self.shipped, self.folder, self.clock, self.max_bytes = shipped, state.root, clock, max_bytes
        self.trusted = {shipped.bundle.signature.public_key} if trusted is None else set(trusted)
        self._folder = state
        self._file = state.file("versions.json", lambda: msgspec.json.encode(self.state))
        self.state = self._read_state()
        self.model = shipped
        if not (self.folder / "versions" / self.state.current).is_dir():
            # Nothing is wrong with a version that is not there: it is fetched again.
            self.state.current = shipped.model_id
        if self.state.current != shipped.model_id:
            try:
                self.model = self._load(self.state.current)
            except InvalidBundleError as cause:
                self._refuse(self.state.current, cause.message)
                self.state.current = shipped.model_id
        self._prune()

    def _read_state(self) -> VersionsState:
        fresh = VersionsState(self.shipped.model_id, self.shipped.model_id)
        state = self._file.load(VersionsState)
        if state is None:
            return fresh
        names = [state.current, *([state.previous] if state.previous else []), *state.refused]
        if state.shipped != self.shipped.model_id or not all(MODEL_ID.fullmatch(name) for name in names):
            # The device came with another bundle than last time: that is an update of its own.
            return fresh
        return state

    def _load(self, model_id: str) -> LoadedModel:
        if model_id == self.shipped.model_id:
            return self.shipped
        model = load_model(self.folder / "versions" / model_id, self.trusted)
        if model.kind != self.shipped.kind:
            raise InvalidBundleError(
                f"version {model_id[:16]} has other inputs, or is of another kind",
                "publish what these devices can run",
            )
        if model.model_id != model_id:
            raise InvalidBundleError(f"the folder of version {model_id[:16]} holds another", "it is fetched again")
        return model

    def _refuse(self, model_id: str, reason: str) -> None:
        self.state.refused[model_id] = Refusal(reason, self.clock())
        while len(self.state.refused) > 32:
            self.state.refused.pop(next(iter(self.state.refused)))

    def wants(self, latest: str) -> bool:
        """Whether a version named by the cloud shall be fetched."""
        if latest == self.model.model_id or not MODEL_ID.fullmatch(latest):
            return False
        refusal = self.state.refused.get(latest)
        if refusal is None:
            return True
        return refusal.reason != ROLLED_BACK and not 0 <= self.clock() - refusal.at < REFUSED_SECONDS

    def fetch(self, cloud: FileSource, model_id: str) -> LoadedModel:
        """Download a version, verify it and load it; what is wrong with it is remembered.

        Raises:
            InvalidBundleError: it is not to be used.
            DuetError, OSError: it could not be fetched now; that is not remembered.
        """
        try:
            if model_id == self.shipped.model_id:
                return self.shipped
            target = self.folder / "versions" / model_id
            if not target.is_dir():
                self._download(cloud, model_id, target)
            try:
                return self._load(model_id)
            except InvalidBundleError:
                shutil.rmtree(target, ignore_errors=True)
                raise
        except InvalidBundleError as cause:
            self._refuse(model_id, cause.message)
            self._file.save()
            raise

    def _download(self, cloud: FileSource, model_id: str, target: Path) -> None:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
        try:
            for name, limit in ((MANIFEST, MAX_MANIFEST_BYTES), (SIGNATURE, MAX_SIGNATURE_BYTES)):
                with own_file(aside / name) as file:
                    cloud.file(model_id, name, limit, file)
            content, signature = (aside / MANIFEST).read_bytes(), (aside / SIGNATURE).read_bytes()
            verify_manifest(content, signature, self.trusted, f"version {model_id[:16]}")
            manifest = decode_manifest(content, f"version {model_id[:16]}")
            if manifest.model_id != model_id:
                raise InvalidBundleError(f"the cloud sends another version than {model_id[:16]}", "publish it again")
            total = sum(manifest.files[name].bytes for name in manifest.device_files)
            if total > self.max_bytes:
                raise InvalidBundleError(
                    f"version {model_id[:16]} has {total} bytes, this device takes at most {self.max_bytes}",
                    "export a smaller model, or with int8 embeddings",
                )
            for name in manifest.device_files:
                with own_file(aside / name) as file:
                    cloud.file(model_id, name, manifest.files[name].bytes, file)
            aside.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def adopt(self, model: LoadedModel) -> None:
        """Use a version from now on, and at the next start."""
        if model.model_id == self.model.model_id:
            return
        self.state.previous, self.state.current = self.model.model_id, model.model_id
        self.model = model
        self._file.save()
        self._prune()

    def before(self) -> LoadedModel:
        """The version that was in use before, loaded.

        Raises:
            NothingToRollBackError: there is none.
            InvalidBundleError: it is damaged.
        """
        if self.state.previous is None:
            raise NothingToRollBackError("this device has had one version only", "there is nothing to go back to")
        return self._load(self.state.previous)

    def back(self, model: LoadedModel) -> None:
        """Use the version before again, and never again the one left, until the cloud names another."""
        self._refuse(self.model.model_id, ROLLED_BACK)
        self.state.previous, self.state.current = None, model.model_id
        self.model = model
        self._file.save()

    def _prune(self) -> None:
        kept = {self.state.current, self.state.previous}
        with contextlib.suppress(OSError):
            for path in (self.folder / "versions").iterdir():
                if path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)
        for path in self._folder.thetas():
            if path.stem not in kept:
                self._folder.drop(path)
