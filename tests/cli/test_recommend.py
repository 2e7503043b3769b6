"""`duet recommend` as a user meets it: files for many devices."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from .test_cli import duet_here as duet
from .test_cli import refused


@pytest.mark.parametrize("name", ["lists.csv", "lists.parquet"])
def test_lists_for_all(folder: Path, tmp_path: Path, name: str) -> None:
    result = duet("recommend", folder / "duet", folder / "data", "--k", "4", "--out", tmp_path / name, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"file": str(tmp_path / name), "devices": 60, "rows": 240}
    table = pl.read_csv(tmp_path / name) if name.endswith("csv") else pl.read_parquet(tmp_path / name)
    assert table.columns == ["user", "rank", "item", "title", "score"]
    assert table["rank"].to_list() == [1, 2, 3, 4] * 60
    assert table.select(pl.col("score").diff().over("user").drop_nulls().le(0).all())["score"][0]


def test_lists_for_some_and_of_the_global_model(folder: Path, tmp_path: Path) -> None:
    users = pl.read_parquet(folder / "data/devices.parquet")["user"].to_list()
    (tmp_path / "ids").write_text(f"{users[3]}\n\n{users[1]}\n{users[3]}\n")
    found = {}
    for theta in ("--theta", "--no-theta"):
        out = tmp_path / f"{theta}.csv"
        asked = ("--devices", tmp_path / "ids", theta, "--out", out)
        assert duet("recommend", folder / "duet", folder / "data", *asked).returncode == 0
        found[theta] = pl.read_csv(out)
        assert found[theta]["user"].unique(maintain_order=True).to_list() == [users[3], users[1]]
    assert found["--theta"]["score"].to_list() != found["--no-theta"]["score"].to_list()


class TestRefusals:
    def test_an_id_that_is_no_device(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "ids").write_text("nobody\n")
        asked = ("--devices", tmp_path / "ids", "--out", tmp_path / "out.csv")
        assert "'nobody'" in refused(duet("recommend", folder / "duet", folder / "data", *asked), "usage")
        assert not (tmp_path / "out.csv").exists()

    @pytest.mark.parametrize("content", ["", "\n \n"])
    def test_no_id(self, folder: Path, tmp_path: Path, content: str) -> None:
        (tmp_path / "ids").write_text(content)
        asked = ("--devices", tmp_path / "ids", "--out", tmp_path / "out.csv")
        assert "no id" in refused(duet("recommend", folder / "duet", folder / "data", *asked), "usage")

    def test_a_file_of_another_kind(self, folder: Path, tmp_path: Path) -> None:
        refused(duet("recommend", folder / "duet", folder / "data", "--out", tmp_path / "out.xlsx"), "usage")

    def test_a_file_that_is_there(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "out.csv").write_text("mine")
        refused(duet("recommend", folder / "duet", folder / "data", "--out", tmp_path / "out.csv"), "output-exists")
        assert (tmp_path / "out.csv").read_text() == "mine"

    def test_a_folder_that_is_neither_run_nor_bundle(self, folder: Path, tmp_path: Path) -> None:
        refused(duet("recommend", tmp_path, folder / "data", "--out", tmp_path / "out.csv"), "not-a-run")
