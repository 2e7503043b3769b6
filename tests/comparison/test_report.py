"""The report: one file, nothing fetched, nothing believed, everything named for those who cannot see it."""

from __future__ import annotations

import itertools
import re
from typing import Any

import msgspec
import pytest
from tests.comparison.conftest import finished, make_results
from tests.pages import Page

from duetgen.comparison.cells.policies import PolicyRecord
from duetgen.comparison.cells.records import Failure
from duetgen.comparison.methods.changes import with_settings
from duetgen.comparison.report.cost_plots import Against, cost_plot
from duetgen.comparison.report.numbers import count, interval, milliseconds, signed
from duetgen.comparison.report.page import render, render_all
from duetgen.comparison.report.plots import staleness_plot
from duetgen.comparison.report.results import Results
from duetgen.comparison.report.tables import Finished, make_table
from duetgen.evaluation.significance import outcome
from duetgen.pages import svg

HOSTILE = """</title><script>alert("x")</script><img src=x onerror='y'>&amp; $title ${facts} \\1 $\\frac"""
THIN = svg.thin_ticks


@pytest.fixture(scope="module")
def text() -> str:
    """The report of cells made by hand."""
    return render(make_results())


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their plots, which take nearly all of the time, for tests of what stands beside them."""
    monkeypatch.setattr("duetgen.comparison.report.page.plots", lambda table, name: "")


def test_it_is_one_well_formed_page_with_all_parts(text: str) -> None:
    page = Page(text)
    assert (page.open, page.wrong) == ([], [])
    for words in (
        "duet is ahead of base",
        "Quality as θ grows old",
        "Quality by length of history",
        "Quality against bytes on the device",
        "Quality against bytes of θ as it is sent",
        "Quality against milliseconds",
        "Quality against FLOPs",
        "Spread over seeds",
        "Without the Stable Weight Adapter 0.020 nats, with it 0.020",
        "Generation and fine-tuning",
        "Cold and warm devices",
        "Repeats and new items",
        "Provenance",
    ):
        assert words in page.text
    assert text.index("duet is ahead of base") < text.index("<table")


def test_policies_of_requests_are_averaged_over_seeds_and_shown(words_only: None) -> None:
    def replayed(seed: int, requests: float, ndcg: float) -> Finished:
        one = finished("duet", seed, 0.03)
        metrics, zero = {"ndcg@10": ndcg, "user_auc": 0.5}, {"ndcg@10": 0.25, "user_auc": 0.5}
        record = PolicyRecord(policy="every:10", requests=requests, age=None, metrics=metrics, zero=zero)
        return Finished(msgspec.structs.replace(one.record, policies=[record]), one.devices)

    cells = {"base": [finished("base")], "duet": [replayed(0, 2.0, 0.375), replayed(1, 3.0, 0.625)]}
    table = make_table("full", "sasrec", cells)
    assert table is not None
    base, duet = table.rows
    assert base.policies == []
    (found,) = duet.policies
    # (3/8 + 5/8) / 2 less 1/4, with (2 + 3) / 2 requests.
    assert (found.requests, found.age, found.gain("ndcg@10")) == (2.5, None, 0.25)
    page = Page(render(msgspec.structs.replace(make_results(), tables=[table])))
    assert (page.open, page.wrong) == ([], [])
    for words in ("When devices ask", "duet, every:10", "+0.2500", "2.5"):
        assert words in page.text
    assert "When devices ask" not in Page(render(make_results())).text


def test_methods_that_cannot_read_the_state_of_a_cloud_model_are_named(words_only: None) -> None:
    results = make_results()
    config = with_settings(results.job.config, {"model.history.encoder": "cloud"})
    page = Page(render(msgspec.structs.replace(results, job=msgspec.structs.replace(results.job, config=config))))
    assert "encoders read the history itself: " in page.text
    assert "encoders read the history itself" not in Page(render(results)).text


def test_nothing_is_fetched(text: str) -> None:
    assert not re.search(r"https?://", text)
    page = Page(text)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "embed"}
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "@import" not in text


def test_ids_are_unlike_and_every_reference_leads_somewhere(text: str) -> None:
    ids = [found["id"] for _, found in Page(text).elements if "id" in found]
    assert len(ids) == len(set(ids))
    named = {*re.findall(r'href="#([^"]*)"', text), *re.findall(r"url\(#([^)]*)\)", text)}
    for both in re.findall(r'aria-labelledby="([^"]*)"', text):
        named.update(both.split())
    assert named <= set(ids)


def test_every_plot_has_alternative_text_with_its_figures(text: str) -> None:
    plots = re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL)
    assert len(plots) == 10
    for plot in plots:
        assert 'role="img"' in plot
        title, description = re.search(r"<title[^>]*>(.*?)</title><desc[^>]*>(.*?)</desc>", plot).groups()  # type: ignore[union-attr]
        assert title
        assert re.search(r"\d", description)


def plot(text: str, title: str) -> str:
    """The `svg` element under a title."""
    found = re.search(rf"<strong>{re.escape(title)}</strong>(<svg .*?</svg>)", text, flags=re.DOTALL)
    assert found is not None
    return found[1]


def test_an_axis_that_is_cut_or_logarithmic_says_so(text: str) -> None:
    said = {
        "Spread over seeds": ["ndcg@10, a dot a seed, axis does not reach 0"],
        "Quality by length of history": ["ndcg@10, axis does not reach 0"],
        "Quality against bytes on the device": ["ndcg@10, axis does not reach 0", ", log axis"],
        "Time for one device": [", log axis"],
    }
    for title, notes in said.items():
        for note in notes:
            assert note in plot(text, title)
    for title in ("Difference to base", "Quality as θ grows old", "What one more event changes"):
        assert "axis does not reach 0" not in plot(text, title)
        assert "log axis" not in plot(text, title)


def test_curves_of_age_have_the_bands_of_the_tables() -> None:
    results = make_results(shifts={"base": 0.0, "duet": 0.03})
    drawn = staleness_plot(results.tables[0], "made")
    assert drawn is not None
    fresh = results.tables[0].against("duet", "base")
    old = results.tables[0].find("duet", "own+20", "base", "zero", "ndcg@10")
    for one, age in ((fresh, 0), (old, 20)):
        assert one is not None
        assert f"{one.mean:.4f} ({interval(one.low, one.high)}) at {age}" in drawn
    assert drawn.count("fill-opacity: 0.2") == 1


def test_without_base_curves_of_age_have_the_intervals_of_the_metric() -> None:
    results = make_results(shifts={"apg": 0.02, "duet": 0.03})
    drawn = staleness_plot(results.tables[0], "made")
    assert drawn is not None
    row = results.tables[0].row("duet")
    value = None if row is None else row.value("ndcg@10", "own+20")
    assert value is not None
    assert f"{value.mean:.4f} ({interval(value.low, value.high)}) at 20" in drawn
    assert drawn.count("fill-opacity: 0.2") == 2


def test_what_does_not_last_after_correction_stands_with_its_p_value(words_only: None) -> None:
    results = make_results(shifts={"base": 0.0, "duet": 0.03})
    table = results.tables[0]
    doubtful = [
        msgspec.structs.replace(one, p_holm=0.212, outcome=outcome(one.low, one.high, 0.212))
        for one in table.comparisons
    ]
    text = render(msgspec.structs.replace(results, tables=[msgspec.structs.replace(table, comparisons=doubtful)]))
    assert "not after correction (p&nbsp;0.212)" in text
    assert "Against base in ndcg@10, not after correction: duet." in text
    assert "ahead</small>" not in text


def test_plots_take_the_colours_of_the_page(text: str) -> None:
    for plot in re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL):
        assert not re.search(r"#0[0-9a-f]{5}\b", plot)
        assert "var(--" in plot
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("name", [HOSTILE, "'\"><b>", "名前 \u202e x", "a" * 5000])
def test_a_hostile_dataset_name_stays_text(words_only: None, name: str) -> None:
    results = make_results(name)
    failed = [Failure(cell="c", code="x", message=name, hint=name)]
    page = Page(render(msgspec.structs.replace(results, failed=failed, missing=[name])))
    plain = msgspec.structs.replace(make_results(), failed=[Failure(cell="c", code="x", message="", hint="")])
    assert (page.open, page.wrong) == ([], [])
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Page(render(plain)).elements}
    assert page.text.count(name) >= 4


def test_a_report_of_the_same_results_is_the_same(text: str) -> None:
    assert render(Results.from_json(make_results().to_json())) == text


def test_losses_and_ties_are_said_plainly(words_only: None) -> None:
    text = Page(render(make_results(shifts={"base": 0.05, "base-long": 0.05, "duet": 0.01}))).text
    assert "Against base in ndcg@10, behind: duet; not told apart: base-long." in text
    assert "Against duet in ndcg@10, ahead: base-long." in text


def test_what_is_missing_or_failed_comes_first(words_only: None) -> None:
    failed = [Failure(cell="sasrec-apg-0", code="training-failed", message="the loss is nan", hint="")]
    text = render(msgspec.structs.replace(make_results(), missing=["sasrec-duet-1"], failed=failed))
    assert text.index("sasrec-duet-1") < text.index("<table")
    assert "the loss is nan [training-failed]" in text


@pytest.mark.parametrize(
    "shifts", [{"base": 0.0}, {"duet": 0.03}, {"base": 0.0, "base-long": 0.01}, {"finetune": 0.1, "apg": 0.0}]
)
def test_a_few_methods_make_a_report_too(shifts: dict[str, float]) -> None:
    page = Page(render(make_results(shifts=shifts, seeds=1)))
    assert (page.open, page.wrong) == ([], [])


def test_it_says_which_methods_start_from_the_finished_base_model(words_only: None) -> None:
    words = "What starts from the finished base model has its training besides"
    shifts = {"base": 0.0, "finetune": 0.1, "duet": 0.1, "duet-joint": 0.1}
    assert f"{words}: finetune, duet." in Page(render(make_results(shifts=shifts, seeds=1))).text
    assert words not in Page(render(make_results(shifts={"base": 0.0, "duet-joint": 0.1}, seeds=1))).text


def test_it_says_which_way_of_training_the_validation_part_prefers(words_only: None) -> None:
    words = "the validation part prefers"
    text = Page(render(make_results(shifts={"duet": 0.01, "duet-joint": 0.03}, seeds=1))).text
    assert f"{words} duet-joint: ndcg@10 duet 0.1100, duet-joint 0.1300." in text
    assert words not in Page(render(make_results(shifts={"duet": 0.01, "base": 0.03}, seeds=1))).text


def test_nothing_at_all_makes_a_report_too() -> None:
    empty = msgspec.structs.replace(make_results(), tables=[], cells=[], origin=None, verdict="Nothing yet.")
    assert "Nothing yet." in render(empty)


def test_numbers_as_people_read_them() -> None:
    assert [count(value) for value in (12, 950, 2112, 260_352, 1.4e6)] == ["12", "950", "2.11k", "260k", "1.4M"]
    assert [milliseconds(v) for v in (0.34, 12.4, 2500, 60_000)] == ["0.34 ms", "12 ms", "2.5 s", "1 min"]
    assert [interval(*bounds) for bounds in ((-0.0123, 0.00002), (0.0, 1.5), (None, None))] == [
        "-0.0123 to +0.00002",
        "+0.0000 to +1.5000",
        "",
    ]
    assert [signed(value) for value in (0.01, -0.01, -0.00001)] == ["+0.0100", "−0.0100", "+0.0000"]


def test_each_part_of_theta_has_curves_points_and_columns_of_its_own() -> None:
    results = make_results(shifts={"base": 0.0, "cloud-list": 0.01, "duet": 0.03}, parts=True)
    (table,), text = results.tables, render(results)
    svg = plot(text, "Quality as θ grows old")
    for condition, name in (("own-weights", "weights alone"), ("own-bias", "opinions alone")):
        old = table.find("duet", f"{condition}+20", "base", "zero", "ndcg@10")
        assert old is not None
        assert old.question == "parts"
        assert f"{old.mean:.4f} ({interval(old.low, old.high)}) at 20" in svg.partition(f"duet, {name}:")[2]
    assert "cloud-list has a scale of its own" in text
    # 288 bytes of theta, 100 of them opinions; base is a line.
    sent = plot(text, "Quality against bytes of θ as it is sent")
    for words in ("duet: 288, ndcg@10", "weights alone: 188, ndcg@10", "opinions alone: 100, ndcg@10", "base: nothing"):
        assert words in sent
    assert '<th scope="col">weights<br>alone</th><th scope="col">opinions<br>alone</th>' in text
    assert "opinions<br>alone" not in render(make_results())


def test_it_says_what_the_finished_cloud_model_took_besides() -> None:
    text = Page(render(make_results(shifts={"base": 0.0, "cloud-list": 0.1, "duet": 0.1}, seeds=1))).text
    assert "What starts from the finished cloud model has its training besides: cloud-list, duet." in text


@pytest.mark.parametrize(
    ("low", "wide"), [(2.1e3, 1.05), (2.1e3, 1.3), (1.0, 1.9), (3.4e4, 2.6), (12.0, 8.0), (1.0, 1e5)]
)
def test_labels_of_a_log_axis_never_touch(low: float, wide: float) -> None:
    costs = itertools.cycle([int(low * 100), int(low * wide * 100)])
    table = make_results(shifts={"base": 0.0, "duet": 0.1}, seeds=1).tables[0]
    drawn: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "thin_ticks", lambda axes: drawn.append(axes) or THIN(axes))
        assert cost_plot(table, "made", Against("made", "costs", lambda cost: next(costs)))
    (axes,) = drawn
    low, high = axes.get_xlim()
    boxes = [
        label.get_window_extent()
        for value, label in zip(axes.get_xticks(), axes.get_xticklabels())
        if low <= value <= high and label.get_text()
    ]
    assert boxes
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_buckets_of_history_are_all_named() -> None:
    names = ["1–4", "5–9", "10–19", "20–49", "50–99", "100+"]

    def paint(axes: Any) -> None:
        axes.set_xticks(range(len(names)), names)
        svg.label_ends(axes, [(0.5, "duet-joint", "#000000")])

    drawn = svg.draw("made", "made", "made", paint)
    assert all(f">{name}<" in drawn for name in names)


def test_several_data_sets_are_one_page() -> None:
    one = make_results()
    other = msgspec.structs.replace(one, dataset=msgspec.structs.replace(one.dataset, name="Second & last"))
    text = render_all([one, other])
    page = Page(text)
    assert (page.open, page.wrong) == ([], [])
    anchors = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(anchors) == len(set(anchors))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert {str(link).removeprefix("#") for link in links} <= set(anchors)
    assert "Second &amp; last: sasrec" in text
    # The headline of each method stands once for each data set in the table over all.
    overview = text[text.index('id="overview"') : text.index('id="data-0"')]
    row = one.tables[0].rows[0]
    value = row.value()
    assert value is not None
    assert overview.count(f"{value.mean:.4f}") >= 2


def test_data_sets_of_one_name_have_columns_of_their_own() -> None:
    one = make_results()
    text = render_all([one, one])
    overview = text[text.index('id="overview"') : text.index('id="data-0"')]
    first = overview[overview.index("<tbody>") : overview.index("</tr>", overview.index("<tbody>"))]
    assert overview.count('<th scope="col">') == first.count("<td>")
