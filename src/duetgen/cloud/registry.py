"""The versions in service: found in folders, verified, and exchanged while requests go on.

A registry folder holds bundles as subfolders; one appears there whole (written aside, then renamed) and is served
within seconds; one that is removed is no longer served. A bundle that is refused is said so once, and looked at again
when its files change; the versions in service stay. What has been loaded is never loaded again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from duetgen.cloud.engine import LOAD_SECONDS, Engine
from duetgen.cloud.errands import Errands, UnfinishedError
from duetgen.cloud.errors import NotReadyError, UnknownModelError
from duetgen.cloud.gathering import Gathering, Timed
from duetgen.cloud.log import Log
from duetgen.cloud.peers import Peers
from duetgen.cloud.rollout import Rollout, read_rollout
from duetgen.errors import DuetError
from duetgen.wire.bundle import MANIFEST, Bundle, open_bundle
from duetgen.wire.messages import ModelSummary

FileState = tuple[int, int, int]
"""Inode, time of change and size of a file."""
State = dict[str, FileState]
"""Of everything in a bundle's folder: other when something was replaced, added or removed."""
LOOK_SECONDS: Final = 10.0
"""How long a look into a source, or at the files of a version, is waited for."""
MAX_ENTRIES: Final = 64
"""Names in a folder that are looked at to see that it is no bundle, or no longer the same."""


class Served:
    """A version in service.

    Args:
        bundle: opened and verified.
        state: of its files, before they were.
        timed: see `Gathering`.

    Raises:
        InvalidBundleError: a file is damaged.
        CanaryError: it does not compute here what was exported.
    """

    def __init__(self, bundle: Bundle, state: State, timed: Timed) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        self.model_id = bundle.manifest.model_id
        self.engine = Engine(bundle)
        self.gathering = Gathering(self.engine, timed)
        self.file_state = state
        """When they were verified last."""
        self.signature_tag = bundle.signature.signature[:16]
        files = [bundle.manifest.files[name].bytes for name in bundle.manifest.device_files]
        self.summary = ModelSummary(
            self.model_id, self.manifest.name, self.manifest.backbone, self.manifest.created, sum(files)
        )


@dataclass(frozen=True)
class Versions:
    """What is in service at one time; replaced whole, so a request sees one or the other.

    Attributes:
        served: by model_id.
        newest: the one created last; None: there is none, or it is not known which one a device shall run.
        rollout: which of them a device shall run.
        complaint: why that is not known.
    """

    served: dict[str, Served] = field(default_factory=dict)
    newest: str | None = None
    rollout: Rollout = field(default_factory=Rollout)
    complaint: str = ""

    def latest(self, device: str | None) -> str:
        """The version that a device shall run.

        Raises:
            NotReadyError: none is in service, or it is not known which one.
        """
        if self.complaint:
            raise NotReadyError(
                f"the rollout cannot be followed: {self.complaint}", "mend it, or remove it for the newest"
            )
        if self.newest is None:
            raise NotReadyError("no version is in service", "publish a bundle into the registry folder")
        return self.rollout.version(device, self.newest)

    def find(self, model_id: str, device: str | None) -> Served:
        """A version by its id, or by `latest`.

        Raises:
            UnknownModelError: it is not in service.
            NotReadyError: `latest`, and none is in service.
        """
        found = self.served.get(self.latest(device) if model_id == "latest" else model_id)
        if found is None:
            raise UnknownModelError(
                f"the version {model_id[:12]}… is not in service", "see GET /v1/models and change to its `latest`"
            )
        return found


class Registry:
    """Looks at the folders and keeps `versions` as they say.

    Args:
        sources: bundle folders and registry folders.
        trusted: public keys that may sign; None: any.
        log: told what is published, withdrawn and refused.
        timed: see `Gathering`.
        peers: the other workers of the service; a version becomes the one that devices shall run only when all have it.
            None: there are none.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        trusted: frozenset[str] | None,
        log: Log,
        timed: Timed,
        peers: Peers | None = None,
    ) -> None:
        self._sources, self._trusted, self._log, self._timed = sources, trusted, log, timed
        self._peers = peers or Peers(None)
        self._loaded: dict[Path, tuple[State, Served | None]] = {}
        self._sights: dict[Path, Sight] = {}
        self._looks, self._loads = Errands(LOOK_SECONDS), Errands(LOOK_SECONDS + LOAD_SECONDS)
        self.refused: dict[Path, str] = {}
        """Folders whose bundle is not taken, with the code of the refusal."""
        self._complaint = ""
        self._troubles: dict[Path, str] = {}
        self.looked = time.monotonic()
        """When all sources could be looked into for the last time, by the machine's monotonic clock."""
        self.versions = Versions()

    def look(self) -> bool:
        """Look into all sources, each as far as it can be; whether all could be.

        One that cannot be read, or not in time, is taken to be as it was.
        """
        complete = True
        for source in self._sources:
            trouble = ""
            try:
                self._sights[source] = self._looks.run(source, partial(look_into, source))
            except UnfinishedError:
                trouble = "it does not answer"
            except OSError as cause:
                trouble = str(cause)
            self._trouble(source, "registry unreadable", trouble)
            complete = complete and not trouble
        return complete

    def folders(self) -> list[Path]:
        """The folders that hold a bundle, or seem to."""
        return [path for sight in self._sights.values() for path in sight.folders]

    def refresh(self) -> Versions:
        """Look once, for `adopt` to put in service; slow when there is something new, so not for the event loop."""
        begun = time.monotonic()
        complete = self.look()
        states = {path: state for sight in self._sights.values() for path, state in sight.folders.items()}
        for gone in [path for path in self._loaded if path not in states]:
            del self._loaded[gone]
            self.refused.pop(gone, None)
        self._loads.keep(states)
        for path, state in states.items():
            known = self._loaded.get(path)
            if known is not None and known[0] == state:
                continue
            try:
                state, found = self._loads.run(path, partial(self._load, path))
            except UnfinishedError:
                self._trouble(path, "bundle slow", "its files cannot be read in time; it is waited for")
                continue
            self._troubles.pop(path, None)
            # A version in service stays as it was loaded, whatever became of its files.
            self._loaded[path] = (state, found or (None if known is None else known[1]))
        if complete:
            self.looked = begun
        served: dict[str, Served] = {}
        for _, found in self._loaded.values():
            if found is not None:
                served.setdefault(found.model_id, found)
        everywhere = self._loaded_everywhere(served)
        rollout = self._rollout(everywhere)
        if rollout is None:
            return Versions(served, complaint=self._complaint)
        return Versions(served, max(everywhere, key=lambda m: (served[m].manifest.created, m), default=None), rollout)

    def adopt(self, versions: Versions) -> None:
        """Put what `refresh` found in service."""
        before, self.versions = self.versions, versions
        for model_id in versions.served.keys() - before.served.keys():
            self._log.write("info", "in service", model_id=model_id, rows=versions.served[model_id].engine.rows)
        for model_id in before.served.keys() - versions.served.keys():
            self._log.write("info", "out of service", model_id=model_id)
        now = (versions.newest, versions.rollout)
        if now != (before.newest, before.rollout):
            rollout = msgspec.to_builtins(versions.rollout)
            self._log.write("info", "rollout", newest=versions.newest, **rollout)

    def _trouble(self, place: Path, event: str, reason: str) -> None:
        """Write of what is wrong with a place, once for each reason."""
        if reason and self._troubles.get(place) != reason:
            self._log.write("error", event, folder=place.name, reason=reason)
        self._troubles[place] = reason

    def _load(self, path: Path) -> tuple[State, Served | None]:
        state: State = {}
        try:
            state = folder_state(path)
            bundle = open_bundle(path, trusted=self._trusted, contents=True)
            if bundle.manifest.ranks:
                bundle.items()
            known = self._loaded.get(path, (state, None))[1]
            if known is not None and known.model_id == bundle.manifest.model_id:
                known.file_state = state
                served = known
            else:
                served = Served(bundle, state, self._timed)
            self.refused.pop(path, None)
            return state, served
        except DuetError as error:
            code, reason = error.code, error.message
        except OSError as cause:
            code, reason = "invalid-bundle", str(cause)
        self.refused[path] = code
        self._log.write("error", "bundle refused", folder=path.name, code=code, reason=reason)
        return state, None

    def _rollout(self, available: Sequence[str]) -> Rollout | None:
        """What the folders say, as far as it can be followed; otherwise what was followed before.

        None: nothing was. The newest version may be the one that was taken back.
        """
        complaint = ""
        wanted = Rollout()
        try:
            for sight in self._sights.values():
                if isinstance(sight.rollout, DuetError):
                    raise sight.rollout
                if sight.rollout is not None:
                    wanted = sight.rollout
                    break
            named = [wanted.latest, wanted.canary.model_id if wanted.canary else None]
            missing = [model_id for model_id in named if model_id is not None and model_id not in available]
            if missing:
                complaint = f"it names {missing[0][:12]}…, which is not in service"
        except DuetError as error:
            complaint = error.message
        if complaint != self._complaint and complaint:
            self._log.write("error", "rollout refused", code="invalid-rollout", reason=complaint)
        self._complaint = complaint
        if not complaint:
            return wanted
        if self.versions.newest is None and available:
            return None
        before = self.versions.rollout
        latest = before.latest if before.latest in available else None
        canary = before.canary if before.canary and before.canary.model_id in available else None
        return Rollout(latest, canary)

    def _loaded_everywhere(self, served: dict[str, Served]) -> list[str]:
        self._peers.write("loaded", " ".join(served).encode())
        others = [set(loaded.decode().split()) for loaded, alive in self._peers.others("loaded") if alive]
        return [model_id for model_id in served if all(model_id in loaded for loaded in others)]


@dataclass(frozen=True)
class Sight:
    """What a look into a source saw.

    Attributes:
        folders: those that hold a bundle, or seem to, with the state of their files.
        rollout: what the source says; a refusal where that makes no sense.
    """

    folders: dict[Path, State]
    rollout: Rollout | DuetError | None


def look_into(source: Path) -> Sight:
    """See what a source holds.

    Raises:
        OSError: it cannot be read, is no folder, or is not there: a disk may have gone, or a folder be exchanged.
    """
    found = [source] if holds_manifest(source) else []
    if not found:
        found = sorted(path for path in source.iterdir() if path.name[0] != "." and holds_manifest(path))
    try:
        rollout: Rollout | DuetError | None = read_rollout(source)
    except DuetError as error:
        rollout = error
    return Sight({path: folder_state(path) for path in found}, rollout)


def holds_manifest(path: Path) -> bool:
    """Whether there is something of that name, good or not.

    Raises:
        OSError: it cannot be told.
    """
    try:
        (path / MANIFEST).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def folder_state(path: Path) -> State:
    """What tells whether anything in a bundle's folder was replaced.

    Raises:
        OSError: it cannot be told.
    """
    found: State = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(path))[:MAX_ENTRIES]:  # noqa: PTH208 - names are all that is wanted
            with contextlib.suppress(FileNotFoundError):
                stat = (path / name).lstat()
                found[name] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found
