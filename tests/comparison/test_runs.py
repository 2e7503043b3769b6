"""Finished runs as rows of a comparison: measured like methods, and compared with the right row."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from tests.comparison.conftest import SETTINGS, finished, make_results

from duetgen.cli.app import main
from duetgen.cli.compare import open_runs
from duetgen.cli.prepare import UsageError
from duetgen.cli.settings import build_config
from duetgen.comparison.cells.cell import plan_cells, run_cell
from duetgen.comparison.cells.records import Cell, Job, cell_folder
from duetgen.comparison.methods import changes
from duetgen.comparison.methods.runs import FinishedRun
from duetgen.comparison.methods.table import METHODS, Method, finished_run
from duetgen.comparison.report.assemble import make_tables
from duetgen.comparison.report.html_tables import quality_table
from duetgen.comparison.report.page import render
from duetgen.comparison.report.results import METRICS, Results
from duetgen.comparison.report.tables import Finished
from duetgen.comparison.report.verdict import verdict
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.training import TrainConfig, train
from duetgen.training.run import DatasetMismatchError, NotARunError, RunFolder


def settings(method: str, **more: object) -> TrainConfig:
    """One quick pass of a small model."""
    config = build_config(None, {"model.method": method}, list(SETTINGS))
    return changes.with_settings(config, {name.replace("__", "."): value for name, value in more.items()})


@pytest.fixture(scope="module")
def runs(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished runs: base, duet on it, and one that is fine-tuned."""
    root = tmp_path_factory.mktemp("runs")
    train(tiny, settings("base"), root / "base")
    train(tiny, settings("duet", global_model=str(root / "base")), root / "duet")
    tuned = {"finetune.steps": 1, "finetune.learning_rate": 0.01, "finetune.scope": "whole"}
    on_base = {"global_model": str(root / "base")} | tuned
    train(tiny, changes.with_settings(settings("finetune", seed=3), on_base), root / "tuned")
    return root


def told(name: str, kind: str = "duet", seed: int = 0, sha256: str = "0" * 64) -> FinishedRun:
    return FinishedRun(path=f"runs/{name}", sha256=sha256, kind=kind, backbone="sasrec", seed=seed)  # type: ignore[arg-type]


def by_hand(name: str, kind: str, shift: float) -> tuple[Method, Cell, Finished]:
    """A finished run whose cell is made by hand."""
    run = told(name, kind)
    made = finished(kind, 0, shift, None)
    record = msgspec.structs.replace(made.record, method=name, run=run)
    return finished_run(name, run), Cell(None, name, 0, run), Finished(record, made.devices)


def test_runs_are_opened_by_name_or_by_folder(tiny: Dataset, runs: Path) -> None:
    found = open_runs([str(runs / "base"), f"mine={runs}/duet", f"{runs}/tuned/"], tiny, [])
    assert [method.name for method in found] == ["base", "mine", "tuned"]
    assert [method.family for method in found] == ["global", "generated", "finetuned"]
    told = [method.run for method in found if method.run is not None]
    assert [(run.kind, run.backbone, run.seed) for run in told] == [
        ("base", "sasrec", 0),
        ("duet", "sasrec", 0),
        ("finetune-whole", "sasrec", 3),
    ]
    assert len({run.sha256 for run in told}) == 3


@pytest.mark.parametrize(
    ("texts", "methods", "says"),
    [
        (["base", "base=duet"], [], "two rows would be named base"),
        (["base"], ["base"], "two rows would be named base"),
        (["duet=base"], [], "duet is a method, and this is a base run"),
        (["apg=duet"], [], "apg is a method, and this is a duet run"),
        (["base=tuned"], [], "base is a method, and this is a finetune-whole run"),
        (["a b=duet"], [], "'a b' is no name"),
        (["../x=duet"], [], "'../x' is no name"),
        (["=duet"], [], "'' is no name"),
    ],
)
def test_names_that_say_something_else_are_refused(
    tiny: Dataset, runs: Path, texts: list[str], methods: list[str], says: str
) -> None:
    words = [f"{name}{equals}{runs / path}" for name, equals, path in map(split, texts)]
    with pytest.raises(UsageError, match=says) as refused:
        open_runs(words, tiny, methods)
    assert "--runs NAME=RUN" in refused.value.hint


def test_a_name_without_a_run_is_not_the_current_folder(tiny: Dataset) -> None:
    with pytest.raises(UsageError, match="a= names no run"):
        open_runs(["a="], tiny, [])


def split(text: str) -> tuple[str, str, str]:
    """`NAME=RUN`, or `RUN` alone."""
    name, equals, path = text.partition("=")
    return (name, equals, path) if equals else ("", "", name)


def test_what_is_no_finished_run_of_this_dataset_is_refused(tiny: Dataset, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="nowhere"):
        open_runs([str(tmp_path / "nowhere")], tiny, [])
    begun = RunFolder(tmp_path / "begun")
    begun.root.mkdir()
    begun.config.write_bytes(RunFolder(runs / "base").config.read_bytes())
    begun.write_environment(msgspec.structs.replace(RunFolder(runs / "base").read_environment(), finished=False))
    with pytest.raises(NotARunError, match="not finished"):
        open_runs([str(begun.root)], tiny, [])
    other = PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=30, items=60), split="leave-one-out")
    prepare(None, tmp_path / "other", other)
    with pytest.raises(DatasetMismatchError):
        open_runs([str(runs / "base")], Dataset(tmp_path / "other"), [])


def test_runs_come_first_and_once_whatever_the_seeds_are() -> None:
    methods = [METHODS["base"], finished_run("mine", told("mine", seed=9))]
    assert [cell.name for cell in plan_cells(["sasrec", "din"], methods, [0, 1])] == [
        "run-mine-9",
        "sasrec-base-0",
        "din-base-0",
        "sasrec-base-1",
        "din-base-1",
    ]
    assert [cell.name for cell in plan_cells(["sasrec"], methods[1:], [])] == ["run-mine-9"]


def test_a_run_is_measured_as_the_method_is(tiny: Dataset, tiny_job: Job, runs: Path, tmp_path: Path) -> None:
    """The same model as a cell that was trained and as a finished run: the same figures, device by device."""
    method = Cell("sasrec", "base", 0)
    run_cell(tiny_job, method, tiny, cell_folder(tmp_path, method), silent)
    (again,) = open_runs([f"again={cell_folder(tmp_path, method).fit}"], tiny, [])
    (cell,) = plan_cells([], [again], [])
    record = run_cell(tiny_job, cell, tiny, cell_folder(tmp_path, cell), silent)
    assert (record.backbone, record.family, record.run, record.validation) == (None, "global", again.run, None)
    assert record.provenance.config is not None
    assert record.provenance.config["model"]["method"] == "base"
    one, other = (cell_folder(tmp_path, each).by_device(METRICS).values for each in (method, cell))
    assert one.keys() == other.keys()
    for key, value_U in one.items():
        assert value_U.tobytes() == other[key].tobytes(), key


def silent(share: float, what: str) -> None:
    """Hears nothing."""


def test_a_run_that_has_changed_is_measured_anew(tiny: Dataset, tiny_job: Job, tmp_path: Path) -> None:
    def cell() -> Cell:
        (method,) = open_runs([str(tmp_path / "mine")], tiny, [])
        return plan_cells([], [method], [])[0]

    train(tiny, settings("base"), tmp_path / "mine")
    first = cell()
    before = run_cell(tiny_job, first, tiny, cell_folder(tmp_path, first), silent)
    assert cell_folder(tmp_path, cell()).read() == before
    train(tiny, settings("base", optimiser__learning_rate=0.1), tmp_path / "mine", overwrite=True)
    second = cell()
    assert second.name == first.name
    assert cell_folder(tmp_path, second).read() is None
    with pytest.raises(NotARunError, match="has changed"):
        run_cell(tiny_job, first, tiny, cell_folder(tmp_path / "elsewhere", first), silent)
    after = run_cell(tiny_job, second, tiny, cell_folder(tmp_path, second), silent)
    assert after.protocols[0].conditions != before.protocols[0].conditions
    assert cell_folder(tmp_path, first).read() is None


def test_a_row_named_base_is_what_the_others_are_compared_with() -> None:
    made = [by_hand("new", "duet", 0.03), by_hand("base", "base", 0.0)]
    (table,) = make_tables(["full"], [], [method for method, *_ in made], {cell: each for _, cell, each in made})
    assert (table.reference, table.backbone, [row.method for row in table.rows]) == ("base", None, ["new", "base"])
    one = table.against("new", "base")
    assert one is not None
    assert (one.outcome, one.mean) == ("ahead", pytest.approx(0.03, abs=0.005))


def with_runs(*made: tuple[Method, Cell, Finished]) -> Results:
    """Results of finished runs alone."""
    tables = make_tables(["full"], [], [method for method, *_ in made], {cell: each for _, cell, each in made})
    results = make_results()
    return msgspec.structs.replace(
        results,
        tables=tables,
        seeds=[],
        methods=[method.name for method, *_ in made],
        cells=[each.record for *_, each in made],
        verdict=verdict("made", tables, 0),
    )


def test_without_a_base_the_first_run_is_and_every_word_says_so() -> None:
    results = with_runs(by_hand("old", "duet", 0.0), by_hand("new", "duet", 0.03), by_hand("plain", "base", 0.01))
    (table,) = results.tables
    assert table.reference == "old"
    assert {one.reference for one in table.comparisons if one.question != "controls"} == {"old"}
    assert "new has the highest ndcg@10" in results.verdict
    assert "is ahead of old: +0.03" in results.verdict
    page = render(results)
    assert "against old" in page
    assert "against base" not in page
    assert "Difference to old" in page
    assert "Finished runs on the same data, with settings and seeds of their own: old, new, plain." in page
    assert "training budget" not in page
    assert "runs/new, content 0000" in page
    assert Results.from_json(results.to_json()) == results


def test_a_duet_run_may_be_what_the_others_are_compared_with() -> None:
    results = with_runs(by_hand("duet", "duet", 0.0), by_hand("new", "duet", 0.03))
    (table,) = results.tables
    found = [(one.method, one.reference) for one in table.comparisons if one.question == "methods"]
    assert found == [("new", "duet")] * 2
    assert quality_table(table).count('<th scope="col">against duet<') == 1


def test_a_missing_first_run_leaves_no_other_in_its_place() -> None:
    made = [by_hand("old", "duet", 0.0), by_hand("new", "duet", 0.03)]
    cells = {cell: each for _, cell, each in made[1:]}
    (table,) = make_tables(["full"], [], [method for method, *_ in made], cells)
    assert (table.reference, [row.method for row in table.rows]) == ("old", ["new"])
    assert {one.question for one in table.comparisons} == {"controls"}


def test_a_run_goes_with_every_seed_of_a_method() -> None:
    method, cell, made = by_hand("mine", "duet", 0.03)
    cells = {Cell("sasrec", "base", seed): finished("base", seed) for seed in (0, 1)} | {cell: made}
    (table,) = make_tables(["full"], ["sasrec"], [method, METHODS["base"]], cells)
    assert [row.method for row in table.rows] == ["base", "mine"]
    one = table.against("mine", "base")
    assert one is not None
    assert one.seeds == [0, 1]
    row = table.row("mine")
    assert row is not None
    assert (row.run, row.description) == (told("mine"), "a finished run, sasrec")


def test_results_of_an_older_file_say_base() -> None:
    content = json.loads(make_results().to_json())
    for table in content["tables"]:
        assert table.pop("reference") == "base"
        for row in table["rows"]:
            assert row.pop("run") is None
    for cell in content["cells"]:
        cell.pop("run")
    assert Results.from_json(json.dumps(content).encode()) == make_results()


@pytest.mark.usefixtures("forked_workers")
def test_finished_runs_alone_by_the_command(
    tiny: Dataset, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(tiny.root), "--out", str(tmp_path / "out"), "--staleness", "0", "--jobs", "1"]
    words += ["--runs", str(runs / "base"), "--runs", f"mine={runs / 'duet'}", "--protocol", "full"]
    main(words)
    out, err = capsys.readouterr()
    assert "full, met shown: 40 targets of 40 devices" in out
    assert "against base" in out
    assert "2 cells, 0 of them finished before" in err
    # Nothing is trained: no cell has a run of its own. What was measured is read.
    assert not list((tmp_path / "out/cells").glob("*/fit"))
    main([*words, "--methods", "", "--json"])
    results = json.loads(capsys.readouterr().out)
    assert (results["complete"], results["methods"], results["seeds"]) == (True, ["base", "mine"], [])
    assert [cell["run"]["kind"] for cell in results["cells"]] == ["base", "duet"]
    assert [row["run"]["path"] for row in results["tables"][0]["rows"]] == [str(runs / "base"), str(runs / "duet")]
