"""Names, and where what they mean lies."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from duetgen.data.catalogue import CATALOGUE, Entry, File, cache, canonical, entry_of, find_log, prepared_at, resolve
from duetgen.data.catalogue import entries as table
from duetgen.data.catalogue.errors import DataAbsentError, DataUnknownError
from duetgen.data.catalogue.places import how_to_get, raw_folder
from duetgen.data.sources import read
from duetgen.data.sources.kinds import KINDS

RATINGS = b"1::7::5::978300760\n2::8::4::978300761\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUETGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DUETGEN_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("ml-1m/README", "x")
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class TestTable:
    @pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)
    def test_every_entry_says_what_there_is_to_say(self, entry: Entry) -> None:
        source = KINDS[entry.source]
        assert source.licence
        assert source.citation
        assert canonical(entry.name) == entry.name
        assert entry.page.startswith("https://")
        for file in entry.files:
            assert "/" not in file.name
            assert file.url is None or file.url.startswith("https://")
            assert file.md5 is None or len(file.md5) == 32

    @pytest.mark.parametrize(
        ("name", "long"),
        [("amazon_beauty", "amazon-beauty"), ("Amazon_CDs", "amazon-cds-and-vinyl"), ("movielens_1m", "ml-1m")],
    )
    def test_names_of_the_papers_repository(self, name: str, long: str) -> None:
        entry = entry_of(name)
        assert entry is not None
        assert entry.name == long

    def test_short_names_lead_somewhere(self) -> None:
        assert set(table.SHORT.values()) <= set(CATALOGUE)

    def test_every_paper_data_set_is_there(self) -> None:
        wanted = {"ml-10m", "amazon-books", "amazon-electro", "douban-book", "douban-movie", "taobao", "alipay"}
        assert all(entry_of(name) is not None for name in wanted)


class TestCache:
    def test_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("DUETGEN_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        assert cache() == Path("/xdg/duetgen")
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/home/me")
        assert cache() == Path("/home/me/.cache/duetgen")


class TestFind:
    def test_nothing_is_here(self) -> None:
        assert find_log("ml-1m") is None
        assert find_log("mine") is None

    @pytest.mark.parametrize("name", ["ml-1m", "douban-book"])
    def test_half_a_download_is_nothing(self, place: Path, name: str) -> None:
        entry = entry_of(name)
        assert entry is not None
        put(raw_folder(entry) / f".{entry.files[0].name}.part", b"PK")
        assert find_log(name) is None

    def test_an_archive_as_it_is_downloaded(self, place: Path) -> None:
        path = put(place / "cache/raw/ml-1m/ml-1m.zip", zipped("ml-1m/ratings.dat", RATINGS))
        assert find_log("ML_1M") == path
        log = read(path)
        assert (log.kind, len(log.events)) == ("movielens-1m", 2)

    def test_unpacked_by_hand(self, place: Path) -> None:
        put(place / "cache/raw/ml-1m/ml-1m/ratings.dat", RATINGS)
        log = find_log("ml-1m")
        assert log == place / "cache/raw/ml-1m"
        assert len(read(log).events) == 2

    @pytest.mark.parametrize("packed", [True, False])
    def test_one_of_several_logs(self, place: Path, packed: bool) -> None:
        folder = place / "cache/raw/douban"
        folder.mkdir(parents=True)
        rows = {kind: f"UserId\tItemId\tRating\tTimestamp\n{kind}\t1\t5\t978300760\n" for kind in ("book", "music")}
        if packed:
            with tarfile.open(folder / "Douban.tar.gz", "w:gz") as tar:
                for kind, content in rows.items():
                    entry = tarfile.TarInfo(f"Douban/{kind}/douban_{kind}.tsv")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content.encode()))
        else:
            for kind, content in rows.items():
                put(folder / f"Douban/{kind}/douban_{kind}.tsv", content.encode())
        for kind in rows:
            found = find_log(f"douban_{kind}")
            assert found is not None
            assert read(found).events["user"].to_list() == [kind]
        assert find_log("douban-movie") is None

    @pytest.mark.parametrize("folder", ["amazon-beauty", "amazon-beauty-5core"])
    def test_a_folder_of_ones_own(self, place: Path, folder: str) -> None:
        path = put(place / "data" / folder / "interactions.csv", b"user,item\na,b\n")
        assert find_log("amazon_beauty") == path.parent
        assert read(path.parent).events.rows() == [("a", "b")]

    def test_a_folder_that_is_in_no_catalogue(self, place: Path) -> None:
        path = put(place / "data/mine/interactions.csv", b"user,item\na,b\n")
        assert find_log("mine") == path.parent
        assert find_log("..") is None


class TestResolve:
    def refuse(self, log: Path, folder: Path) -> None:
        raise AssertionError("nothing is to be prepared")

    def test_a_folder_goes_before_a_name(self, place: Path) -> None:
        (place / "ml-1m").mkdir()
        put(place / "cache/datasets/ml-1m/manifest.json", b"")
        assert resolve(Path("ml-1m"), self.refuse) == Path("ml-1m")

    def test_a_path_is_a_path(self) -> None:
        assert resolve(Path("data/ml-1m"), self.refuse) == Path("data/ml-1m")

    def test_what_is_prepared(self, place: Path) -> None:
        put(place / "cache/datasets/ml-1m/manifest.json", b"")
        assert resolve(Path("ML_1m"), self.refuse) == prepared_at("ml-1m") == place / "cache/datasets/ml-1m"

    def test_what_is_here_is_prepared(self, place: Path) -> None:
        path = put(place / "cache/raw/ml-1m/ml-1m.zip", zipped("ml-1m/ratings.dat", RATINGS))
        asked: list[tuple[Path, Path]] = []
        found = resolve(Path("ml-1m"), lambda log, folder: asked.append((log, folder)))
        assert asked == [(path, found)]
        assert found == prepared_at("ml-1m")

    def test_what_is_known_and_not_here(self, place: Path) -> None:
        with pytest.raises(DataAbsentError) as caught:
            resolve(Path("ml-1m"), self.refuse)
        assert caught.value.hint.startswith("`duet data get ml-1m` downloads it")
        with pytest.raises(DataAbsentError) as caught:
            resolve(Path("taobao"), self.refuse)
        assert "sign in at https://tianchi.aliyun.com/dataset/649" in caught.value.hint
        assert str(place / "cache/raw/taobao") in caught.value.hint

    def test_what_is_not_known(self) -> None:
        with pytest.raises(DataUnknownError) as caught:
            resolve(Path("amazon_beuty"), self.refuse)
        assert "did you mean amazon-beauty?" in caught.value.hint


def test_files_of_one_set_lie_together() -> None:
    one = Entry(name="a", title="", source="table", page="", files=(File(name="x"),), store="s")
    assert raw_folder(one) == cache() / "raw/s"
    assert "download x and put it" in how_to_get(one)
