"""The dataset folder: what `duet prepare` writes and everything after it reads, memory-mapped.

```
manifest.json             where it came from, what each step dropped and why, the split, the checks, digests
items.parquet             index, item (original id), title (or null), count (in the training part); from index 2 on
devices.parquet           index, user (original id)
sequences/events.npy      int32 [E]: item indices, all devices one after the other, each in order of time
sequences/offsets.npy     int64 [U+1]: device u owns events[offsets[u]:offsets[u+1]]
sequences/bounds.npy      int64 [U, 2]: how many of a device's events are training, and training + validation
sequences/timestamps.npy  int64 [E]: seconds; absent where the log has no time
given/test.npy            int32 [N, C]: candidates of each test target, the positive first, padded with 0; `given` only
rows/*.npy                the training rows of the text format as they stand; text format only
kept/*.parquet            what a later version needs of events that are not in the arrays: `kept` describes it
```

Item index 0 is padding, 1 the unknown item, known items follow from 2.

Shapes: E events, U devices, V items with padding and unknown, N targets of a part, C candidates, R rows, L row length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from duetgen.data.places import places_of
from duetgen.documents import (
    DamagedError,
    check_digest,
    damaged,
    decode_sealed,
    digest_of,
    format_version,
    read_document,
)
from duetgen.errors import DuetError
from duetgen.jobfolder import LOCK
from duetgen.wire.messages import MetPolicy

if TYPE_CHECKING:
    import polars as pl

    from duetgen.data.candidates import Drawn

FORMAT_VERSION: Final = 5
AGAIN: Final = "prepare the logs again"
PADDING: Final = 0
UNKNOWN: Final = 1
FIRST_ITEM: Final = 2
MAX_TARGETS: Final = 20
"""Most targets of one device in one part: its first ones after the boundary."""

Part = Literal["valid", "test"]
PARTS: Final[tuple[Part, ...]] = ("valid", "test")
Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class NotADatasetError(DuetError):
    """A folder that `duet prepare` did not write, or not this version of it."""

    code = "not-a-dataset"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the events came from."""

    kind: str
    files: list[str]
    sha256: list[str]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of preparation: what went in, what came out, and why."""

    name: str
    reason: str
    events_in: int
    events_out: int
    users_in: int
    users_out: int
    items_in: int
    items_out: int


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """How the events were divided; the boundaries are seconds and only the temporal split has them.

    `validating`: users that were drawn to validate a leave-one-out split of a large log; None: all validate.
    """

    kind: str
    valid_from: int | None = None
    test_from: int | None = None
    validating: int | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check against leakage, with the evidence in one line."""

    name: str
    passed: bool
    evidence: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the dataset; items do not count padding and the unknown item."""

    devices: int
    items: int
    events: int
    train_events: int
    valid_events: int
    test_events: int
    valid_targets: int
    test_targets: int


class Repeats(msgspec.Struct, frozen=True, kw_only=True):
    """How often events repeat.

    Attributes:
        share: of the training events whose item the device had before; exact repeats and rare items apart.
        events: training events that the share is of.
        exact_rows: rows of the log that are exact repeats, see `repeats.exact_repeats`.
        dropped: whether they were left out.
    """

    share: float
    events: int
    exact_rows: int
    dropped: bool


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset as it was before a log was appended.

    Attributes:
        content_sha256: of its manifest.
        source: the log that made it of the version before.
        counts: of all of it; its items and devices have the same indices in every later version.
    """

    content_sha256: str
    source: Source
    counts: Counts


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`, the identity card of a dataset folder."""

    format_version: int
    name: str
    versions: list[Version]
    """The earlier versions, oldest first."""
    source: Source
    """Of this version: the log that was prepared, or appended last."""
    has_time: bool
    split: Split
    seed: int
    settings: dict[str, Any]
    steps: list[Step]
    counts: Counts
    tied_timestamps: float | None
    """Share of events whose timestamp equals that of the device's event before; None without time."""
    unseen_item_share: dict[str, float]
    """By part: share of target events whose item the training part does not know."""
    repeats: Repeats
    met: MetPolicy
    """Whether items that a device has met are hidden from its rankings."""
    leakage: list[Check]
    remarks: list[str] = []
    """What reading and dividing have to tell a person, one line each."""
    content_sha256: str
    files: dict[str, str]
    """SHA-256 of each other file of the folder."""
    duetgen_version: str


@dataclass(frozen=True)
class Targets:
    """The events of a part that are to be predicted, device by device, in order of time.

    Attributes:
        device_N: index of the device of each target, non-decreasing.
        position_N: absolute index of the target in `events`; its history is events[start_N:position_N].
        start_N: absolute index of the device's first event.
    """

    device_N: Int64
    position_N: Int64
    start_N: Int64

    def __len__(self) -> int:
        return len(self.device_N)

    @property
    def lone(self) -> bool:
        """Whether they are of one device at most."""
        return not len(self) or bool(self.device_N[0] == self.device_N[-1])

    def take(self, index: Int64 | Bool | slice) -> Targets:
        """The targets at `index`."""
        return Targets(self.device_N[index], self.position_N[index], self.start_N[index])


def find_targets(offsets: Int64, bounds: Int64, part: Part, limit: int = MAX_TARGETS) -> Targets:
    """The targets of a part: each device's first `limit` events of it that have at least one event before them."""
    first = offsets[:-1] + (bounds[:, 0] if part == "valid" else bounds[:, 1])
    last = offsets[:-1] + bounds[:, 1] if part == "valid" else offsets[1:]
    first = np.maximum(first, offsets[:-1] + 1)
    count = np.clip(last - first, 0, limit)
    device = np.repeat(np.arange(len(count), dtype=np.int64), count)
    return Targets(device, places_of(first, count), np.repeat(offsets[:-1], count))


class Dataset:
    """A dataset folder, opened: arrays are memory-mapped, nothing is copied, and a file is verified when it is opened.

    Args:
        root: the folder.
        verified: files whose digests were just made.

    Raises:
        NotADatasetError: the folder is missing or of another version.
        DamagedError: a file is missing or is not what it was.
    """

    marker: ClassVar[str] = "manifest.json"

    def __init__(self, root: Path, verified: Iterable[str] = ()) -> None:
        self.root = Path(root)
        path = self.root / self.marker
        if not path.is_file():
            raise NotADatasetError(
                f"{self.root} is not a dataset folder: it has no {self.marker}",
                "make one with `duet prepare SOURCE INPUT --out DIR`",
            )
        refuse = damaged(path, AGAIN)
        content = read_document(path, refuse)
        if (version := format_version(content, refuse)) != FORMAT_VERSION:
            raise NotADatasetError(
                f"{self.root} has dataset format {version}; this version reads {FORMAT_VERSION}",
                "prepare the logs again with this version of duetgen",
            )
        self.manifest = decode_sealed(content, Manifest, refuse)
        # Files are opened later, perhaps from another working folder.
        self._place = self.root.absolute()
        self._verified = set(verified)
        self.events = self._array("sequences/events.npy", np.int32, (None,))
        self.offsets: Int64 = np.asarray(self._array("sequences/offsets.npy", np.int64, (None,)))
        self.bounds: Int64 = np.asarray(self._array("sequences/bounds.npy", np.int64, (len(self.offsets) - 1, 2)))
        lengths = np.diff(self.offsets)
        if not len(lengths) or self.offsets[0] != 0 or self.offsets[-1] != len(self.events) or lengths.min() < 0:
            raise self._damaged("its offsets do not fit its events")
        nested = (self.bounds[:, 0] >= 0) & (self.bounds[:, 0] <= self.bounds[:, 1]) & (self.bounds[:, 1] <= lengths)
        if not nested.all():
            raise self._damaged("its bounds do not fit its events")

    def _damaged(self, cause: str) -> DamagedError:
        return DamagedError(f"{self.root} is damaged: {cause}", AGAIN)

    def _verify(self, name: str) -> Path:
        """The path of a file that is what the manifest says, which is seen once."""
        path = self._place / name
        if name not in self._verified:
            try:
                check_digest(digest_of(path), self.manifest.files.get(name, ""), damaged(path, AGAIN))
            except OSError as cause:
                raise self._damaged(f"{name}: {cause.strerror}") from cause
            self._verified.add(name)
        return path

    def _array(self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
        path = self._verify(name)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as cause:
            raise self._damaged(f"{name}: {cause}") from cause
        fits = len(array.shape) == len(shape) and all(w is None or w == h for w, h in zip(shape, array.shape))
        if array.dtype != dtype or not fits:
            raise self._damaged(f"{name} holds {array.dtype}{list(array.shape)}")
        return array  # type: ignore[no-any-return]

    def table(self, name: Literal["items", "devices"]) -> pl.DataFrame:
        """Ids, titles and counts: `items.parquet` or `devices.parquet`.

        Raises:
            DamagedError: it is missing, is not what it was, or has not as many rows as there are items or devices.
        """
        import polars as pl

        path = self._verify(f"{name}.parquet")
        try:
            found = pl.read_parquet(path, glob=False)
        except (OSError, pl.exceptions.PolarsError) as cause:
            raise self._damaged(f"{path.name}: {cause}") from cause
        rows = self.vocabulary - FIRST_ITEM if name == "items" else self.devices
        if found.height != rows:
            raise self._damaged(f"{path.name} has {found.height} rows instead of {rows}")
        return found

    def kept(self, name: Literal["items", "users", "unknown", "events"]) -> pl.LazyFrame:
        """What the folder keeps so that it can grow; see `kept`.

        Raises:
            DamagedError: it is missing or is not what it was.
        """
        import polars as pl

        return pl.scan_parquet(self._verify(f"kept/{name}.parquet"), glob=False)

    @property
    def version(self) -> int:
        """Number of this version, from 1."""
        return len(self.manifest.versions) + 1

    def earlier(self, content_sha256: str) -> Version | None:
        """The earlier version with this content, or None."""
        return next((one for one in self.manifest.versions if one.content_sha256 == content_sha256), None)

    @property
    def devices(self) -> int:
        """U, the number of devices."""
        return len(self.offsets) - 1

    @property
    def vocabulary(self) -> int:
        """V, the number of item indices, padding and the unknown item included."""
        return self.manifest.counts.items + FIRST_ITEM

    @cached_property
    def timestamps(self) -> Int64 | None:
        """Seconds of each event, or None where the log has no time."""
        if not self.manifest.has_time:
            return None
        return self._array("sequences/timestamps.npy", np.int64, (len(self.events),))

    def training_counts(self) -> Int64:
        """How often each item index occurs in the training part: int64 [V]."""
        counts = np.bincount(self.events[self.training_mask()], minlength=self.vocabulary)
        return counts.astype(np.int64)

    def training_mask(self) -> Bool:
        """Which events belong to the training part: bool [E]."""
        within = np.arange(len(self.events)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return np.asarray(within < np.repeat(self.bounds[:, 0], np.diff(self.offsets)))

    def targets(self, part: Part) -> Targets:
        """The targets of a part; see `find_targets`."""
        return find_targets(self.offsets, self.bounds, part)

    def candidates(self, part: Part) -> Drawn:
        """Negatives of each target of a part, drawn from the dataset's seed: int32 [N, 99]."""
        from duetgen.data.candidates import Drawn

        seed = (self.manifest.seed, PARTS.index(part))
        return Drawn(self.events, self.offsets, self.targets(part), self.vocabulary, seed)

    def has(self, name: str) -> bool:
        """Whether the folder holds a file, or should."""
        return name in self.manifest.files

    @property
    def has_given(self) -> bool:
        """Whether the test candidates came with the data (`given` split)."""
        return self.has("given/test.npy")

    def given(self) -> Int32:
        """Candidates that came with the data for each test target, the positive first: int32 [N, C], 0-padded."""
        return self._array("given/test.npy", np.int32, (len(self.targets("test")), None))

    @property
    def has_rows(self) -> bool:
        """Whether the folder holds training rows of the text format as they stand."""
        return self.has("rows/label.npy")

    def rows(self) -> Rows:
        """The training rows of the text format."""
        label = self._array("rows/label.npy", np.int8, (None,))
        count = len(label)
        return Rows(
            device_R=self._array("rows/device.npy", np.int32, (count,)),
            window_RL=self._array("rows/window.npy", np.int32, (count, None)),
            trigger_RL=self._array("rows/trigger.npy", np.int32, (count, None)),
            target_R=self._array("rows/target.npy", np.int32, (count,)),
            label_R=label,
        )


@dataclass(frozen=True)
class Rows:
    """Training rows of the text format: what the device has seen, what the generator reads, a target and its label."""

    device_R: Int32
    window_RL: Int32
    trigger_RL: Int32
    target_R: Int32
    label_R: npt.NDArray[np.int8]


def own_files(root: Path) -> set[str]:
    """Names of the files of a dataset folder of any version; only the lock where its manifest cannot be read."""
    try:
        return {LOCK, *msgspec.json.decode((root / Dataset.marker).read_bytes(), type=_Files).files}
    except (OSError, msgspec.MsgspecError):
        return {LOCK}


class _Files(msgspec.Struct, frozen=True):
    files: dict[str, str]


def content_hash(root: Path, met: MetPolicy, seed: int, files: dict[str, str], versions: list[Version]) -> str:
    """SHA-256 over the policy of met items, the seed of the candidates, the earlier versions, every array, and the item
    and device ids, in order.

    Args:
        root: the dataset folder.
        met: the policy.
        seed: of the candidates.
        files: SHA-256 of each file of the folder, by its name.
        versions: the earlier ones.
    """
    import polars as pl

    digest = hashlib.sha256(f"met {met} seed {seed}\0".encode())
    for version in versions:
        digest.update(f"version {version.content_sha256}\0".encode())
    for name, of_file in sorted(files.items()):
        if name.endswith(".npy"):
            digest.update(f"{name} {of_file}\0".encode())
    for name, column in (("items.parquet", "item"), ("devices.parquet", "user")):
        for ids in pl.read_parquet(root / name, columns=[column], glob=False).iter_slices(2**16):
            digest.update("\0".join([*ids[column].to_list(), ""]).encode())
    return digest.hexdigest()
