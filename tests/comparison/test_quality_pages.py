"""What `benchmarks/quality_pages.py` keeps of a comparison and makes of it, and the results in this repository."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from tests.comparison.conftest import make_results

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    file = ROOT / "benchmarks/quality_pages.py"
    spec = importlib.util.spec_from_file_location("quality_pages", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["quality_pages"] = module
    spec.loader.exec_module(module)
    return module


pages = load()
SHIFTS = {"base": 0.0, "finetune": 0.01, "duet": 0.05, "duet-joint": 0.03}


def kept(cell: str = "ml-1m/sasrec", shifts: dict[str, float] | None = None) -> pages.Record:  # type: ignore[name-defined]
    return pages.keep(cell, make_results(shifts=shifts or SHIFTS))


def test_a_record_holds_what_the_comparison_found() -> None:
    record = kept()
    assert (record.devices, record.seeds, record.met, record.repeat_targets) == (30, 2, "show", 20)
    base, duet = record.methods["base"], record.methods["duet"]
    # The ramp's mean, and the shift of the method; 20 events old it lacks 0.02, and so on.
    assert base.ndcg["fresh"] == pytest.approx(0.145, abs=0.003)
    assert duet.ndcg["fresh"] == pytest.approx(0.195, abs=0.003)
    assert duet.ndcg["own+20"] == pytest.approx(0.175, abs=0.003)
    assert "another" not in base.ndcg
    one = duet.less_base["fresh"]
    assert one.low < one.mean < one.high
    assert one.mean == pytest.approx(duet.ndcg["fresh"] - base.ndcg["fresh"], abs=2e-6)
    assert base.less_base == {}
    assert duet.new == pytest.approx(0.045 + 0.05, abs=0.003)


def test_a_record_goes_to_json_and_back() -> None:
    record = kept()
    assert msgspec.json.decode(msgspec.json.encode(record), type=pages.Record) == record


def test_a_cell_that_is_run_again_keeps_what_it_has_not_measured_where_the_base_model_is_the_same() -> None:
    before = msgspec.structs.replace(kept(), commits=["a"])
    now = msgspec.structs.replace(kept(shifts={"base": 0.0, "duet": 0.04}), commits=["b"])
    both = pages.merged(before, now)
    assert list(both.methods) == ["base", "finetune", "duet", "duet-joint"]
    assert (both.methods["duet"], both.methods["finetune"]) == (now.methods["duet"], before.methods["finetune"])
    assert both.commits == ["a", "b"]
    other = kept(shifts={"base": 0.01, "duet": 0.04})
    assert pages.merged(before, other) == other
    assert pages.merged(None, now) == now


def test_the_validation_part_chooses_how_duet_is_trained() -> None:
    assert kept().way == "duet"
    assert kept(shifts={"base": 0.0, "duet": 0.01, "duet-joint": 0.03}).way == "duet-joint"
    assert kept(shifts={"base": 0.0}).way is None


@pytest.mark.parametrize(("shift", "fresh"), [(0.1, "above zero in 1 and below it in 0"), (-0.1, "above zero in 0")])
def test_intervals_are_counted_on_their_side_of_zero(shift: float, fresh: str) -> None:
    record = kept(shifts={"base": 0.0, "duet": shift})
    assert pages.counts([record]).startswith(f"Of 1 cells the 95 % interval of DUET less base is fresh {fresh}")


def test_the_page_tells_every_method_and_new_items_beside_all_where_repeats_are_shown() -> None:
    page = pages.page([kept()])
    for method in SHIFTS:
        assert f"| MovieLens 1M, SASRec | {method} | " in page
    line = next(line for line in page.splitlines() if line.startswith("| MovieLens 1M, SASRec | duet |"))
    assert re.search(r"\| 0\.\d{4} \(0\.\d{4}\) \| \+0\.05\d\d \(.*; new \+0\.0", line)


def test_the_picture_shows_every_cell_in_words_too() -> None:
    found = [kept(), kept("yelp-2019-5core/sasrec"), kept("ml-1m/din", {"base": 0.0})]
    svg = pages.picture(found)
    assert "MovieLens 1M, SASRec" in svg
    assert "Yelp, SASRec" in svg
    assert "DIN" not in svg
    assert "prefers-color-scheme:dark" in svg


class TestThisRepository:
    def test_the_page_and_the_picture_are_those_of_the_records(self) -> None:
        folder = ROOT / "benchmarks/results/quality"
        assert (folder / "README.md").read_text() == pages.page(pages.records())

    def test_every_figure_of_the_readme_is_a_records(self) -> None:
        text = (ROOT / "README.md").read_text()
        section = text.partition("## Results")[2].partition("\n## ")[0]
        figures = set(re.findall(r"(?<![\d.])0\.\d{4}(?!\d)", section))
        assert figures
        kept = re.findall(r"-?\d+\.\d+(?:e-?\d+)?", (ROOT / "benchmarks/results/quality/cells.json").read_text())
        assert figures - {f"{abs(float(value)):.4f}" for value in kept} == set()
