"""Tables and comparisons of cells made by hand, and `results.json` there and back."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
from tests.comparison.conftest import DEVICES, finished, make_results

from duetgen.comparison.cells.records import FORMAT_VERSION
from duetgen.comparison.methods.table import METHODS, Method
from duetgen.comparison.report.results import RESULTS_VERSION, Results, ResultsFormatError
from duetgen.comparison.report.tables import Finished, make_table, paired_seeds, plan_pairs
from duetgen.comparison.report.verdict import listed, verdict
from duetgen.evaluation.significance import holm, outcome


def test_results_go_to_json_and_back() -> None:
    results = make_results()
    assert Results.from_json(results.to_json()) == results


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format_version": 99}', b'{"format_version": 2}'])
def test_what_is_no_results_file_is_refused(content: bytes) -> None:
    with pytest.raises(ResultsFormatError):
        Results.from_json(content)


def test_seeds_are_averaged_within_a_device_first() -> None:
    cells = {"base": [finished("base", seed) for seed in (0, 1)], "duet": [finished("duet", s, 0.03) for s in (0, 1)]}
    table = make_table("full", "sasrec", cells)
    assert table is not None
    one = table.against("duet", "base")
    assert one is not None
    difference_SU = [
        mine.devices.values["full/own/all/ndcg@10"].astype(float)
        - theirs.devices.values["full/zero/all/ndcg@10"].astype(float)
        for mine, theirs in zip(cells["duet"], cells["base"])
    ]
    difference_U = np.mean(difference_SU, axis=0)
    assert one.mean == pytest.approx(difference_U.mean())
    assert one.effect_size == pytest.approx(difference_U.mean() / difference_U.std(ddof=1))
    assert one.std == pytest.approx(np.std([seed_U.mean() for seed_U in difference_SU], ddof=1))
    assert (one.devices, one.seeds, one.outcome) == (DEVICES, [0, 1], "ahead")


def test_holm_counts_all_comparisons_of_a_question() -> None:
    (table,) = make_results().tables
    sizes = {}
    for question in ("methods", "groups", "repeats", "vocabulary", "age", "fallback", "controls"):
        those = [one for one in table.comparisons if one.metric == "user_auc" and one.question == question]
        assert [one.p_holm for one in those] == pytest.approx(list(holm(np.array([one.p for one in those]))))
        sizes[question] = len(those)
    # Four methods against base, three against DUET; four have two old ages, a zero and three controls; nobody is warm,
    # no target is unknown.
    by_group = {"groups": 4, "repeats": 4 * 2, "vocabulary": 4}
    assert sizes == {"methods": 4 + 3, **by_group, "age": 4 * 2, "fallback": 4, "controls": 4 * 3}
    assert len(table.comparisons) == 2 * sum(sizes.values())


def test_every_outcome_follows_from_the_interval_and_the_corrected_p_value_beside_it() -> None:
    shifts = {"base": 0.0, "apg": 0.001, "finetune": 0.0005, "duet": 0.03}
    found = [one for table in make_results(shifts=shifts).tables for one in table.comparisons]
    assert [one.outcome for one in found] == [outcome(one.low, one.high, one.p_holm) for one in found]
    assert {"ahead", "behind", "not told apart"} <= {one.outcome for one in found}


def test_what_is_compared_with_what() -> None:
    (table,) = make_results(shifts={"base": 0.0, "base-long": 0.01, "duet": 0.03}).tables
    pairs = plan_pairs(table.rows)
    found = {(p.method, p.condition, p.reference, p.reference_condition) for p in pairs}
    assert found == {
        ("base-long", "zero", "base", "zero"),
        ("base-long", "zero", "duet", "own"),
        ("duet", "own", "base", "zero"),
        ("duet", "own+1", "base", "zero"),
        ("duet", "own+20", "base", "zero"),
        ("duet", "zero", "base", "zero"),
        ("duet", "zero", "duet", "own"),
        ("duet", "another", "duet", "own"),
        ("duet", "random", "duet", "own"),
    }


def test_another_devices_theta_is_found_worse() -> None:
    (table,) = make_results().tables
    one = table.find("duet", "another", "duet", "own", "ndcg@10")
    assert one is not None
    assert (one.outcome, one.mean) == ("behind", pytest.approx(-0.06, abs=0.005))


def test_a_method_without_seeds_goes_with_every_seed_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "counted", Method("counted", "", "counting", METHODS["base"].fit, False, False))
    counted, duet = [finished("counted", 0, 0.01, None)], [finished("duet", seed) for seed in (0, 1, 2)]
    assert [seed for seed, *_ in paired_seeds(duet, counted)] == [0, 1, 2]
    assert [seed for seed, *_ in paired_seeds(counted, duet)] == [0, 1, 2]
    assert [seed for seed, *_ in paired_seeds(duet, [finished("base", 2), finished("base", 3)])] == [2]


def test_seeds_that_only_one_has_are_left_out_of_the_comparison() -> None:
    cells = {"base": [finished("base", 0)], "duet": [finished("duet", seed, 0.03) for seed in (0, 1)]}
    table = make_table("full", "sasrec", cells)
    assert table is not None
    one = table.against("duet", "base")
    assert one is not None
    assert (one.seeds, one.std) == ([0], None)
    row = table.row("duet")
    assert row is not None
    value = row.value()
    assert value is not None
    assert (row.seeds, len(value.by_seed)) == ([0, 1], 2)


def test_the_validation_part_prefers_a_way_of_training() -> None:
    (table,) = make_results(shifts={"duet": 0.01, "duet-joint": 0.03, "finetune": 0.05}).tables
    assert [row.validation for row in table.rows] == [None, pytest.approx(0.12), pytest.approx(0.14)]
    assert table.preferred() is table.row("duet-joint")
    (tied,) = make_results(shifts={"duet": 0.01, "duet-joint": 0.01}).tables
    assert tied.preferred() is tied.row("duet")
    (one_way,) = make_results(shifts={"duet": 0.01, "finetune": 0.05}).tables
    assert one_way.preferred() is None


def test_a_row_has_no_validation_figure_where_a_seed_has_none() -> None:
    old, new = finished("duet", 0), finished("duet", 1)
    old = Finished(msgspec.structs.replace(old.record, validation=None), old.devices)
    table = make_table("full", "sasrec", {"duet": [old, new]})
    assert table is not None
    assert table.rows[0].validation is None


def test_cost_is_the_median_over_seeds() -> None:
    table = make_table("full", "sasrec", {"duet": [finished("duet", seed) for seed in (0, 5, 7)]})
    assert table is not None
    assert table.rows[0].cost.recommendation_flops == 20_005


def test_no_table_where_nothing_was_measured() -> None:
    assert make_table("full", "sasrec", {}) is None
    assert make_table("given", "sasrec", {"base": [finished("base")]}) is None


class TestVerdict:
    """One sentence, whichever way it went."""

    def test_a_win(self) -> None:
        words = make_results().verdict
        assert words.startswith("On made (30 devices), duet is ahead of base: +0.03")
        assert "it is ahead of finetune and apg and not told apart from duet-no-swa" in words

    def test_a_loss(self) -> None:
        words = make_results(shifts={"base": 0.05, "finetune": 0.09, "duet": 0.01}).verdict
        assert "duet is behind base: -0.0" in words
        assert "it is behind finetune" in words

    def test_a_tie(self) -> None:
        assert (
            "duet is not told apart from base: " in make_results(shifts={"base": 0.02, "duet": 0.02}, seeds=1).verdict
        )

    def test_what_only_the_corrected_p_value_decides_is_said_with_it(self) -> None:
        (table,) = make_results(seeds=1).tables
        against = [
            msgspec.structs.replace(one, low=0.001, high=0.02, p_holm=0.212, outcome=outcome(0.001, 0.02, 0.212))
            for one in table.comparisons
        ]
        words = verdict("made", [msgspec.structs.replace(table, comparisons=against)], 0)
        assert "duet is not told apart from base: +0.0" in words
        assert "95 % interval +0.0010 to +0.0200, not after correction (p 0.212); it is not told apart from" in words

    def test_of_one_device(self) -> None:
        (table,) = make_results(seeds=1).tables
        alone = [
            msgspec.structs.replace(one, low=None, high=None, p_holm=1.0, outcome=outcome(None, None, 1.0))
            for one in table.comparisons
        ]
        words = verdict("made", [msgspec.structs.replace(table, comparisons=alone)], 0)
        assert re.search(r"duet is not told apart from base: \+0.0\d+ ndcg@10, \+\d+%, no interval; ", words)

    def test_without_duet(self) -> None:
        assert "finetune has the highest ndcg@10" in make_results(shifts={"base": 0.0, "finetune": 0.05}).verdict

    def test_of_nothing(self) -> None:
        assert verdict("made", [], 3) == "Nothing was measured on made yet (3 of the cells asked for are missing)."

    def test_of_what_is_missing(self) -> None:
        assert "(1 of the cells asked for is missing)" in verdict("made", make_results().tables, 1)

    def test_lists(self) -> None:
        assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_results_hold_no_more_than_the_format_says() -> None:
    from pathlib import Path

    page = (Path(__file__).parent.parent.parent / "docs/results-format.md").read_text()
    tree = msgspec.json.decode(make_results().to_json())
    names = {key for part in (tree, tree["tables"][0], tree["tables"][0]["rows"][0], tree["cells"][0]) for key in part}
    names |= set(tree["tables"][0]["comparisons"][0]) | set(tree["cells"][0]["cost"])
    assert sorted(name for name in names if f"`{name}`" not in page) == []
    assert f"| `format_version` | {RESULTS_VERSION};" in page
    assert f"| `format_version` | of the cell, {FORMAT_VERSION} |" in page


def test_the_age_of_the_tables_is_20_or_the_highest_that_was_measured() -> None:
    table = make_results().tables[0]
    assert table.shown_age() == 20
    young = [
        msgspec.structs.replace(row, conditions=[one for one in row.conditions if one.name != "own+20"])
        for row in table.rows
    ]
    ages = {int(one.name[4:]) for row in young for one in row.conditions if one.name.startswith("own+")}
    assert msgspec.structs.replace(table, rows=young).shown_age() == max(ages, default=0)
