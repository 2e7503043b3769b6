from pathlib import Path

import numpy as np
import pytest

from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.store import Dataset, NotADatasetError, content_hash, find_targets
from duetgen.data.synthetic import SyntheticConfig


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


class TestRefusals:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(NotADatasetError, match=r"no manifest\.json"):
            Dataset(tmp_path / "none")

    @pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"{}", b"\xff", b'{"format_version": 1}'])
    def test_manifest_that_is_none(self, folder: Path, manifest: bytes) -> None:
        (folder / "manifest.json").write_bytes(manifest)
        with pytest.raises(NotADatasetError):
            Dataset(folder)

    def test_other_version(self, folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b'"format_version": 2', b'"format_version": 99'))
        with pytest.raises(NotADatasetError, match="format 99"):
            Dataset(folder)

    @pytest.mark.parametrize("name", ["events", "offsets", "bounds"])
    def test_array_missing_cut_or_of_another_type(self, folder: Path, name: str) -> None:
        path = folder / f"sequences/{name}.npy"
        whole = path.read_bytes()
        path.write_bytes(whole[:-4])
        with pytest.raises(NotADatasetError):
            Dataset(folder)
        np.save(path, np.load(folder / "candidates/test.npy").astype(np.float32))
        with pytest.raises(NotADatasetError):
            Dataset(folder)
        path.unlink()
        with pytest.raises(NotADatasetError):
            Dataset(folder)

    @pytest.mark.parametrize(("name", "value"), [("offsets", 10**6), ("offsets", -5), ("bounds", 99), ("bounds", -1)])
    def test_offsets_and_bounds_that_do_not_fit(self, folder: Path, name: str, value: int) -> None:
        path = folder / f"sequences/{name}.npy"
        array = np.load(path)
        array[1] = value
        np.save(path, array)
        with pytest.raises(NotADatasetError, match="do not fit"):
            Dataset(folder)

    def test_array_that_is_read_late(self, folder: Path) -> None:
        (folder / "candidates/test.npy").unlink()
        with pytest.raises(NotADatasetError):
            Dataset(folder).candidates("test")


class TestContentHash:
    def test_changes_with_any_array_type_shape_and_id(self, folder: Path) -> None:
        seen = {content_hash(folder, "hide")}
        path = folder / "sequences/bounds.npy"
        bounds = np.load(path)
        for changed in (bounds + 1, bounds.astype(np.int32), bounds.reshape(2, -1)):
            np.save(path, changed)
            seen.add(content_hash(folder, "hide"))
        assert len(seen) == 4

    def test_is_in_the_manifest(self, folder: Path) -> None:
        assert Dataset(folder).manifest.content_sha256 == content_hash(folder, "show")
