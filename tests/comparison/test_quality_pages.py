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
SHIFTS = {"base": 0.0, "finetune": 0.01, "duet": 0.03, "duet-on-base": 0.05}


def kept(cell: str = "ml-1m/sasrec", shifts: dict[str, float] | None = None) -> pages.Record:  # type: ignore[name-defined]
    return pages.keep(cell, make_results(shifts=shifts or SHIFTS))


def test_a_record_holds_what_the_comparison_found() -> None:
    record = kept()
    assert (record.devices, record.seeds["duet"]) == (30, 2)
    assert record.validation == {"duet": pytest.approx(0.14), "duet-on-base": pytest.approx(0.16)}
    ranking = record.measured[0]
    assert (ranking.protocol, ranking.metric) == ("full", "ndcg@10")
    # The ramp's mean, and the shift of the method; 20 events old it lacks 0.02, and so on.
    assert ranking.value("base") == pytest.approx(0.145, abs=0.003)
    assert ranking.value("duet-on-base") == pytest.approx(0.195, abs=0.003)
    assert ranking.value("duet-on-base", "own+20") == pytest.approx(0.175, abs=0.003)
    assert ranking.value("base", "another") is None
    one = ranking.difference("duet-on-base")
    assert one.low < one.mean < one.high
    assert one.mean == pytest.approx(ranking.value("duet-on-base") - ranking.value("base"), abs=2e-6)
    assert ranking.difference("base") is None
    assert ranking.known["duet"] == pytest.approx(0.045 + 0.03, abs=0.003)


def test_a_record_goes_to_json_and_back() -> None:
    record = kept()
    assert msgspec.json.decode(msgspec.json.encode(record), type=pages.Record) == record


def test_the_preferred_way_is_the_one_ahead_on_validation() -> None:
    assert kept().way == "duet-on-base"
    assert kept(shifts={"base": 0.0, "duet": 0.05, "duet-on-base": 0.03}).way == "duet"
    assert kept(shifts={"base": 0.0, "duet": 0.03}).way == "duet"


def test_gains_are_of_known_targets_where_those_are_told_apart() -> None:
    record = kept()
    for index in (0, 1):
        known = record.measured[index].known_less_base[record.way]
        assert pages.gain(record, index) == known
        alone = msgspec.structs.replace(record.measured[index], known_less_base={})
        both = [alone if at == index else one for at, one in enumerate(record.measured)]
        other = msgspec.structs.replace(record, measured=both)
        assert pages.gain(other, index) == alone.difference(record.way) != known


def test_intervals_are_counted_on_their_side_of_zero() -> None:
    found = [kept(), kept("ml-1m/din", {"base": 0.0, "duet": -0.03}), kept("ml-1m/gru4rec", {"base": 0.0, "duet": 0.0})]
    assert pages.counts(found).startswith("Of 3 cells")
    assert "in `ndcg@10` above zero in 1 and below it in 1" in pages.counts(found)


def test_the_choice_is_judged_by_the_test_part() -> None:
    right = kept()  # on base 0.02 ahead on both parts
    wrong = msgspec.structs.replace(right, validation={"duet": 0.2, "duet-on-base": 0.15})
    said = " ".join(pages.choice([right, wrong])).strip()
    assert said.startswith("In 1 of the 2 cells")
    ahead = right.measured[0].value("duet-on-base") - right.measured[0].value("duet")
    assert ahead == pytest.approx(0.02, abs=0.003)
    assert f"-0.0150 on validation and {ahead:+.4f} on the test part" in said
    assert pages.choice([]) == []
    assert said in " ".join(pages.summary_page([right, wrong]).split("\n"))
    one_way = kept(shifts={"base": 0.0, "duet": 0.03})
    assert "In 1 of the 1 cells" in pages.summary_page([right, one_way])


def test_a_cell_that_is_measured_again_changes_its_own_lines_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    for cell in ("yelp-2019-5core/din", "ml-1m/sasrec"):
        pages.write_cell(cell, make_results(shifts=SHIFTS), f"# {cell}\n")
    pages.write_summary()
    before = (tmp_path / "README.md").read_text().splitlines()
    rows = [re.findall(r"\[(.*?)\]", line)[0] for line in before if line.startswith("| [")]
    assert rows[:2] == ["ml-1m/sasrec", "yelp-2019-5core/din"]
    pages.write_cell("ml-1m/sasrec", make_results(shifts=SHIFTS | {"duet-on-base": 0.2}), "# ml-1m/sasrec\n")
    pages.write_summary()
    after = (tmp_path / "README.md").read_text().splitlines()
    over_all = pages.choice(pages.records())
    changed = [new for old, new in zip(before, after, strict=True) if old != new and new not in over_all]
    assert changed
    assert all(line.startswith("| [ml-1m/sasrec](ml-1m-sasrec.md)") for line in changed)


def test_a_page_tells_every_method_under_every_condition() -> None:
    text = pages.page("ml-1m/sasrec", make_results(shifts=SHIFTS), "the command")
    assert "- `the command`" in text
    for row in ("| base |", "| duet |", "| duet, `own+20` |", "| duet-on-base, `another` |", "| finetune, `zero` |"):
        assert row in text


def test_the_picture_shows_every_cell_in_words_too() -> None:
    svg = pages.picture([kept(), kept("yelp-2019-5core/din")])
    assert svg.startswith("<svg ")
    assert 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert "prefers-color-scheme:dark" in svg
    for words in ("ml-1m/sasrec: +0.05", "yelp-2019-5core/din: +0.05", "MovieLens 1M (30 devices)", "DIN"):
        assert words in svg
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]\b", svg), "a stand-in has no colour"
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", svg)) <= set(re.findall(r"(--[a-z0-9-]+):", svg))


class TestInThisRepository:
    """The results that are kept."""

    def test_the_summary_is_what_the_records_say(self) -> None:
        assert (pages.RESULTS / "README.md").read_text() == pages.summary_page(pages.records())

    def test_the_picture_is_of_the_records(self) -> None:
        svg = (pages.RESULTS / "gains.svg").read_text()
        assert pages.counts(pages.records()) in svg
        for record in pages.records():
            assert pages.told(record) in svg

    def test_every_record_has_a_page_and_every_page_a_record(self) -> None:
        found = {pages.file_of(record.cell, ".md").name for record in pages.records()}
        assert found == {file.name for file in pages.RESULTS.glob("*.md")} - {"README.md"}

    def test_the_readme_counts_as_the_records_do(self) -> None:
        assert pages.counts(pages.records()) in " ".join((ROOT / "README.md").read_text().split())
