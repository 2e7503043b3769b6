from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import polars as pl
import pytest
from tests.conftest import seal

from duetgen.data.manifest import write_manifest
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset, NotADatasetError, Version, content_hash, find_targets
from duetgen.documents import DamagedError, digest_of
from duetgen.wire.messages import MetPolicy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=8, items=30, shortest=9, longest=12))
    prepare(None, tmp_path / "dataset", config)
    return tmp_path / "dataset"


class TestTargets:
    def test_events_of_a_part_with_one_before_them(self) -> None:
        offsets = np.array([0, 5, 6, 8])
        bounds = np.array([[2, 4], [0, 1], [0, 0]])
        valid, test = find_targets(offsets, bounds, "valid"), find_targets(offsets, bounds, "test")
        assert (valid.device_N.tolist(), valid.position_N.tolist(), valid.start_N.tolist()) == ([0, 0], [2, 3], [0, 0])
        assert (test.device_N.tolist(), test.position_N.tolist(), test.start_N.tolist()) == ([0, 2], [4, 7], [0, 6])

    def test_at_most_the_first_so_many(self) -> None:
        found = find_targets(np.array([0, 9]), np.array([[2, 2]]), "test", limit=3)
        assert found.position_N.tolist() == [2, 3, 4]


def test_a_relative_path_stays_the_same_folder_when_the_process_goes_to_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    dataset = Dataset(Path("dataset"))
    monkeypatch.chdir("/")
    assert len(dataset.table("devices")) == dataset.devices


class TestRefusals:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(NotADatasetError, match=r"no manifest\.json"):
            Dataset(tmp_path / "none")

    @pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b'{"format_version": 5}', b"\xff", b"[" * 100_000])
    def test_manifest_that_is_damaged(self, folder: Path, manifest: bytes) -> None:
        (folder / "manifest.json").write_bytes(manifest)
        with pytest.raises(DamagedError):
            Dataset(folder)

    @pytest.mark.parametrize("manifest", [b"{}", b'{"format_version": 4}'])
    def test_manifest_of_another_format(self, folder: Path, manifest: bytes) -> None:
        (folder / "manifest.json").write_bytes(manifest)
        with pytest.raises(NotADatasetError):
            Dataset(folder)

    def test_other_version(self, folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"format_version": 5', b'"format_version": 99'))
        with pytest.raises(NotADatasetError, match="format 99"):
            Dataset(folder)

    @pytest.mark.parametrize("name", ["events", "offsets", "bounds"])
    def test_array_missing_cut_or_of_another_type(self, folder: Path, name: str) -> None:
        path = folder / f"sequences/{name}.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        with pytest.raises(DamagedError):
            Dataset(folder)
        np.save(path, np.zeros((4, 99), dtype=np.float32))
        with pytest.raises(DamagedError):
            Dataset(folder)
        path.unlink()
        with pytest.raises(DamagedError):
            Dataset(folder)

    @pytest.mark.parametrize(("name", "value"), [("offsets", 10**6), ("offsets", -5), ("bounds", 99), ("bounds", -1)])
    def test_offsets_and_bounds_that_do_not_fit(self, folder: Path, name: str, value: int) -> None:
        path = folder / f"sequences/{name}.npy"
        array = np.load(path)
        array[1] = value
        np.save(path, array)
        with pytest.raises(DamagedError, match="do not fit"):
            seal(folder)

    def test_array_that_is_read_late(self, folder: Path) -> None:
        (folder / "sequences/timestamps.npy").unlink()
        with pytest.raises(DamagedError):
            _ = Dataset(folder).timestamps

    @pytest.mark.parametrize("name", ["items", "devices"])
    def test_table_of_another_length(self, folder: Path, name: Literal["items", "devices"]) -> None:
        path = folder / f"{name}.parquet"
        pl.read_parquet(path)[1:].write_parquet(path)
        with pytest.raises(DamagedError, match="rows instead of"):
            seal(folder).table(name)


class TestDigests:
    def test_one_changed_bit_of_any_file_is_refused_by_what_reads_it(self, folder: Path) -> None:
        reads: dict[str, Callable[[Dataset], object]] = {
            "sequences/events.npy": lambda dataset: dataset,
            "sequences/offsets.npy": lambda dataset: dataset,
            "sequences/bounds.npy": lambda dataset: dataset,
            "sequences/timestamps.npy": lambda dataset: dataset.timestamps,
            "items.parquet": lambda dataset: dataset.table("items"),
            "devices.parquet": lambda dataset: dataset.table("devices"),
            "kept/items.parquet": lambda dataset: dataset.kept("items"),
            "kept/users.parquet": lambda dataset: dataset.kept("users"),
            "kept/unknown.parquet": lambda dataset: dataset.kept("unknown"),
            "kept/events.parquet": lambda dataset: dataset.kept("events"),
        }
        assert set(Dataset(folder).manifest.files) == set(reads)
        for name, read in reads.items():
            path = folder / name
            whole = path.read_bytes()
            read(Dataset(folder))
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            with pytest.raises(DamagedError, match="not what was written"):
                read(Dataset(folder))
            path.write_bytes(whole)

    def test_a_file_that_the_manifest_does_not_name_is_refused(self, folder: Path) -> None:
        write_manifest(folder, msgspec.structs.replace(Dataset(folder).manifest, files={}))
        with pytest.raises(DamagedError, match="not what was written"):
            Dataset(folder)

    def test_one_changed_word_or_digit_of_the_manifest_is_refused(self, folder: Path) -> None:
        path = folder / "manifest.json"
        whole = path.read_bytes()
        met = whole.replace(b'"met": "show"', b'"met": "hide"')
        assert met != whole
        places = [place for place, byte in enumerate(whole) if chr(byte).isdigit()]
        digits = [whole[:place] + b"%d" % (9 - int(chr(whole[place]))) + whole[place + 1 :] for place in places]
        for changed in (met, *digits):
            path.write_bytes(changed)
            with pytest.raises((DamagedError, NotADatasetError)):
                Dataset(folder)

    def test_what_the_manifest_names_is_missed(self, folder: Path) -> None:
        (folder / "sequences/timestamps.npy").unlink()
        assert Dataset(folder).has("sequences/timestamps.npy")
        assert not Dataset(folder).has("given/test.npy")


class TestContentHash:
    def hash(self, folder: Path, met: MetPolicy = "show", seed: int = 0, versions: list[Version] | None = None) -> str:
        files = {path.relative_to(folder).as_posix(): digest_of(path) for path in folder.rglob("*.npy")}
        return content_hash(folder, met, seed, files, versions or [])

    def test_changes_with_any_array_type_shape_and_id(self, folder: Path) -> None:
        seen = {self.hash(folder), self.hash(folder, "hide"), self.hash(folder, seed=1)}
        path = folder / "sequences/bounds.npy"
        bounds = np.load(path)
        for changed in (bounds + 1, bounds.astype(np.int32), bounds.reshape(2, -1)):
            np.save(path, changed)
            seen.add(self.hash(folder))
        users = pl.read_parquet(folder / "devices.parquet")
        users.with_columns(user=pl.col("user") + "x").write_parquet(folder / "devices.parquet")
        seen.add(self.hash(folder))
        assert len(seen) == 7

    def test_is_in_the_manifest(self, folder: Path) -> None:
        assert Dataset(folder).manifest.content_sha256 == self.hash(folder)

    def test_changes_with_every_earlier_version_and_their_order(self, folder: Path) -> None:
        manifest = Dataset(folder).manifest
        one, two = (
            Version(content_sha256=digit * 64, source=manifest.source, counts=manifest.counts) for digit in "12"
        )
        chains = ([], [one], [two], [one, two], [two, one])
        assert len({self.hash(folder, versions=chain) for chain in chains}) == len(chains)


class TestVersions:
    def test_the_first_has_none_before_it(self, folder: Path) -> None:
        dataset = Dataset(folder)
        assert dataset.version == 1
        assert dataset.earlier(dataset.manifest.content_sha256) is None

    def test_an_earlier_one_is_found_by_its_content(self, folder: Path) -> None:
        manifest = Dataset(folder).manifest
        before = [Version(content_sha256=digit * 64, source=manifest.source, counts=manifest.counts) for digit in "12"]
        write_manifest(folder, msgspec.structs.replace(manifest, versions=before))
        dataset = Dataset(folder)
        assert dataset.version == 3
        assert dataset.earlier("2" * 64) == before[1]
        assert dataset.earlier(manifest.content_sha256) is None
