"""Cells: planned, run in processes, kept, killed and taken up again."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from tests import forked
from tests.cloudmodel.graphs import counts
from tests.comparison.conftest import SETTINGS

from duetgen.cli.app import main
from duetgen.cloudmodel.errors import InvalidGraphError
from duetgen.comparison.cells.cell import cell_config, conditions_of, plan_cells, run_cell, starts_of
from duetgen.comparison.cells.records import Cell, Job, Work, cell_folder
from duetgen.comparison.cells.worker import start_worker
from duetgen.comparison.methods import changes
from duetgen.comparison.methods.table import METHODS, Method
from duetgen.comparison.report.assemble import assemble, folder_job, make_job, unfinished
from duetgen.comparison.report.results import METRICS
from duetgen.data.store import Dataset
from duetgen.documents import DamagedError
from duetgen.errors import OutputExistsError
from duetgen.jobfolder import FolderBusyError, alone_in, work_in
from duetgen.training import TrainConfig
from duetgen.training.run import DatasetMismatchError, RunFolder

CELLS = [Cell("sasrec", "base", 0), Cell("sasrec", "duet", 0)]
RunIn = Callable[[Path, Dataset, Job, list[Cell], int], Any]

pytestmark = pytest.mark.usefixtures("forked_workers")


def metrics_in(root: Path, cells: list[Cell] = CELLS) -> dict[str, dict[str, list[float]]]:
    """Every metric of every device of every cell; NaN, which equals nothing, as -1."""
    found = {}
    for cell in cells:
        table = cell_folder(root, cell).by_device(METRICS)
        found[cell.name] = {key: np.nan_to_num(value_U, nan=-1).tolist() for key, value_U in table.values.items()}
    return found


@pytest.fixture(scope="module")
def whole(tiny: Dataset, tiny_job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that ran without interruption, by the command."""
    root = tmp_path_factory.mktemp("cells") / "whole"
    main(words(tiny, root))
    return root


def words(dataset: Dataset, root: Path) -> list[str]:
    """`duet compare` on base and DUET, one seed."""
    words = ["compare", str(dataset.root), "--methods", "base,duet", "--seeds", "1", "--staleness", "0,20"]
    return [*words, *(word for setting in SETTINGS for word in ("--set", setting)), "--jobs", "1", "--out", str(root)]


def open_folder(root: Path, job: Job, overwrite: bool) -> None:
    """Begin a comparison in a folder, or take it up."""
    with work_in(root, folder_job(root, job), overwrite=overwrite):
        pass


def test_first_seeds_come_first_and_each_method_as_often_as_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "counted", Method("counted", "", "counting", METHODS["base"].fit, False, False))
    monkeypatch.setitem(METHODS, "drawn", Method("drawn", "", "counting", METHODS["base"].fit, False, True))
    cells = plan_cells(["sasrec", "din"], [METHODS[name] for name in ("base", "counted", "drawn")], [4, 5])
    assert [cell.name for cell in cells] == [
        "any-counted-4",
        "any-drawn-4",
        "sasrec-base-4",
        "din-base-4",
        "any-drawn-5",
        "sasrec-base-5",
        "din-base-5",
    ]


def test_what_others_begin_with_comes_first_and_serves_every_backbone() -> None:
    names = ("duet", "cloud-list", "popular", "base-distilled", "cloud", "base")
    cells = plan_cells(["sasrec", "din"], [METHODS[name] for name in names], [0])
    assert [cell.name for cell in cells] == [
        "any-popular-0",
        "any-cloud-0",
        "sasrec-base-0",
        "din-base-0",
        "sasrec-base-distilled-0",
        "din-base-distilled-0",
        "sasrec-duet-0",
        "any-cloud-list-0",
        "din-duet-0",
    ]
    starts = {
        "base": Cell("din", "base", 3),
        "cloud": Cell(None, "cloud", 3),
        "base-distilled": Cell("din", "base-distilled", 3),
    }
    assert starts_of(Cell("din", "duet", 3)) == starts
    assert starts_of(Cell("din", "base", 3)) == {}


def test_duet_takes_the_cloud_model_and_the_base_model_that_are_there(
    tiny: Dataset, tiny_job: Job, tmp_path: Path, run_in: RunIn
) -> None:
    names = ("base", "base-distilled", "cloud", "cloud-list", "duet")
    cells = plan_cells(["sasrec"], [METHODS[name] for name in names], [0])
    # Two side by side: what begins with another waits for it.
    outcome = run_in(tmp_path / "out", tiny, tiny_job, cells, 2)
    assert (outcome.failed, outcome.left) == ([], [])
    runs = {cell.method: cell_folder(tmp_path / "out", cell).fit for cell in cells}
    assert sorted(path.name for path in runs["duet"].iterdir()) == ["run"]
    assert not runs["cloud-list"].exists()
    taken = RunFolder(runs["duet"] / "run").read_environment()
    assert taken.cloud_model_sha256 == RunFolder(runs["cloud"]).read_environment().weights_sha256
    bases = [RunFolder(root).read_environment() for root in (runs["base"], runs["base-distilled"] / "run")]
    assert bases[1].cloud_model_sha256 == taken.cloud_model_sha256
    assert taken.global_model_sha256 == max(bases, key=lambda one: one.best).weights_sha256
    ranked, listed = (cell_folder(tmp_path / "out", cell).read() for cell in cells if cell.method.startswith("cloud"))
    assert ranked is not None
    assert listed is not None
    assert (ranked.headline, listed.headline, listed.family) == ("zero", "own", "cloud")
    assert (ranked.cost.device_bytes, ranked.cost.scoring_ms, listed.cost.device_bytes) == (0, 0, 0)
    # The ten best of a list stand in the order of the cloud's ranking.
    fresh = {one.name: one.metrics["ndcg@10"] for one in listed.protocols[0].conditions}["own"]
    assert fresh == pytest.approx(ranked.protocols[0].conditions[0].metrics["ndcg@10"])


def test_a_cloud_model_that_is_named_serves_every_cell(
    whole: Path, tiny: Dataset, tiny_job: Job, tmp_path: Path
) -> None:
    run = RunFolder(cell_folder(whole, CELLS[1]).fit / "cloud")
    job = msgspec.structs.replace(
        tiny_job, config=changes.with_settings(tiny_job.config, {"cloud_model": str(run.root)})
    )
    for method, seed in (("cloud", 0), ("cloud-list", 5), ("base", 0)):
        cell = Cell("sasrec" if METHODS[method].uses_backbone else None, method, seed)
        folder = cell_folder(tmp_path, cell)
        record = run_cell(job, cell, tiny, folder, lambda share, what: None)
        assert record.fit_seconds == run.read_environment().seconds or method == "base"
        assert folder.fit.exists() == (method == "base")


def test_settings_of_a_cell_are_those_of_all_but_for_backbone_and_seed(tiny_job: Job) -> None:
    config = cell_config(tiny_job, Cell("din", "duet", 7))
    assert (config.model.name, config.seed, config.model.backbone.width) == ("din", 7, 8)


def test_fresh_theta_is_always_measured(tiny: Dataset) -> None:
    names = [condition.name for condition in conditions_of(tiny, [5])]
    assert names == ["own", "own+5", "zero", "another", "random"]
    parts = [condition.name for condition in conditions_of(tiny, [5], parts=True)]
    assert parts[2:-3] == ["own-weights", "own-weights+5", "own-bias", "own-bias+5"]


def test_a_cell_keeps_every_condition_and_cost(whole: Path) -> None:
    base, duet = (cell_folder(whole, cell).read() for cell in CELLS)
    assert base is not None
    assert duet is not None
    assert [[c.name for c in found.conditions] for found in base.protocols] == [["zero"]] * 2
    parts = ["own", "own+20", "own-weights", "own-weights+20", "own-bias", "own-bias+20"]
    assert [c.name for c in duet.protocols[0].conditions] == [*parts, "zero", "another", "random"]
    assert (base.cost.theta_bytes, base.cost.generation_ms, base.oscillation) == (0, None, None)
    assert 0 < duet.cost.opinion_bytes <= duet.cost.theta_bytes
    assert duet.cost.parameters > duet.cost.device_parameters == base.cost.parameters
    # 61 indices of 8 values in int8 with a scale each, all else as float32.
    others = base.cost.parameters - 61 * 8
    assert base.cost.device_bytes == duet.cost.device_bytes == 61 * (8 + 4) + 4 * others
    assert duet.cost.generation_ms is not None
    assert duet.cost.generation_ms > 0
    assert duet.cost.recommendation_flops > 2 * 8 * 100
    assert duet.oscillation is not None
    assert 0 < duet.oscillation.theta < 2


def test_metrics_of_devices_average_to_those_of_the_cell(whole: Path) -> None:
    record = cell_folder(whole, CELLS[1]).read()
    table = cell_folder(whole, CELLS[1]).by_device(METRICS)
    assert record is not None
    for found in record.protocols:
        for condition in found.conditions:
            for metric in METRICS:
                value_U = table.of(found.protocol, condition.name, "all", metric)
                assert value_U is not None
                assert value_U.mean() == pytest.approx(condition.metrics[metric], abs=1e-6)
    cold_U = table.of("full", "own", "cold", "ndcg@10")
    assert cold_U is not None
    groups = record.protocols[0].conditions[0].groups
    assert groups["cold"].devices == np.isfinite(cold_U).sum() > 0
    assert groups["cold"].devices + groups["warm"].devices == record.protocols[0].devices


def test_two_side_by_side_give_what_one_after_the_other_gives(
    whole: Path, tiny: Dataset, tiny_job: Job, tmp_path: Path, run_in: RunIn
) -> None:
    outcome = run_in(tmp_path / "two", tiny, tiny_job, CELLS, 2)
    assert (outcome.failed, outcome.left) == ([], [])
    assert metrics_in(tmp_path / "two") == metrics_in(whole)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_killed_at_any_moment_it_ends_with_the_same_figures(
    whole: Path, tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "cut"
    base = cell_folder(root, CELLS[0])
    # Once while the first cell is fitted, once in the second cell.
    for moment in (base.fit / "config.toml", cell_folder(root, CELLS[1]).fit / "run/config.toml"):
        process = forked.start(main, words(tiny, root), told=tmp_path / "told")
        while not moment.exists() and process.is_alive():
            time.sleep(0.005)
        assert process.pid is not None
        workers = children_of(process.pid)
        process.kill()
        process.join()
        assert not (root / "results.json").exists()
        # Workers end by themselves when the process that started them is gone; none may go on writing.
        assert workers
        deadline = time.monotonic() + 60
        while any(worker.exists() for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    before = (base.record.stat().st_mtime_ns, base.devices.stat().st_mtime_ns, base.record.read_bytes())
    main(words(tiny, root))
    assert "2 cells, 1 of them finished before" in capsys.readouterr().err
    assert (base.record.stat().st_mtime_ns, base.devices.stat().st_mtime_ns, base.record.read_bytes()) == before
    assert metrics_in(root) == metrics_in(whole)


def children_of(process: int) -> list[Path]:
    """The processes that a process has started, as folders of `/proc`."""
    return [Path("/proc") / child for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_failing_cell_is_told_by_its_code_and_stops_no_other(
    tiny: Dataset, tiny_job: Job, tmp_path: Path, run_in: RunIn
) -> None:
    root = tmp_path / "out"
    occupied = cell_folder(root, CELLS[0])
    open_folder(root, tiny_job, False)
    occupied.fit.mkdir(parents=True)
    (occupied.fit / "somebody").write_text("else")
    outcome = run_in(root, tiny, tiny_job, CELLS, 1)
    assert [(failure.cell, failure.code) for failure in outcome.failures(root)] == [("sasrec-base-0", "output-exists")]
    assert b"output-exists" in occupied.failed.read_bytes()
    assert cell_folder(root, CELLS[1]).read() is not None
    methods = [METHODS["base"], METHODS["duet"]]
    results = assemble(root, tiny, tiny_job, CELLS, ["sasrec"], methods, [0], outcome.failures(root))
    assert (results.complete, results.missing) == (False, [])
    (occupied.fit / "somebody").unlink()
    assert run_in(root, tiny, tiny_job, CELLS, 1).failed == []
    assert not occupied.failed.exists()


def test_a_process_that_is_killed_fails_its_cell_alone(tiny: Dataset, tiny_job: Job, tmp_path: Path) -> None:
    from duetgen.comparison.cells.runner import run_cells

    class Killer:
        killed = False

        def cell_started(self, work: Work) -> None:
            if work.cell.method == "base":
                (child,) = multiprocessing.active_children()
                child.kill()
                self.killed = True

        def cell_told(self, work: Work, share: float, what: str) -> None: ...
        def cell_ended(self, work: Work, failure: Any) -> None: ...

    open_folder(tmp_path / "out", tiny_job, False)
    killer = Killer()
    works = [Work(tmp_path / "out", tiny.root, tiny_job, cell) for cell in CELLS]
    outcome = run_cells(works, jobs=1, threads=1, deadline=None, watcher=killer)
    assert killer.killed
    failures = outcome.failures(tmp_path / "out")
    assert [(failure.cell, failure.code) for failure in failures] == [("sasrec-base-0", "cell-crashed")]
    assert "signal 9" in failures[0].message
    assert cell_folder(tmp_path / "out", CELLS[1]).read() is not None


def test_a_worker_without_a_cell_ends_by_itself() -> None:
    worker = start_worker(1, 0)
    worker.stop()
    assert worker.process.exitcode == 0


def test_a_damaged_record_is_no_finished_cell(tmp_path: Path) -> None:
    folder = cell_folder(tmp_path, CELLS[0])
    folder.root.mkdir(parents=True)
    folder.record.write_text("{")
    assert folder.read() is None
    assert unfinished(tmp_path, CELLS) == CELLS


def test_damaged_metrics_of_devices_are_no_finished_cell(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    folder = cell_folder(tmp_path / "copy", CELLS[0])
    content = folder.devices.read_bytes()
    folder.devices.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert folder.read() is None
    folder.devices.unlink()
    assert unfinished(tmp_path / "copy", CELLS) == CELLS[:1]


def test_one_changed_digit_of_a_record_is_no_finished_cell(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    folder = cell_folder(tmp_path / "copy", CELLS[0])
    content = folder.record.read_text()
    found = re.search(r'"ndcg@10": 0\.(\d)', content)
    assert found is not None
    place, digit = found.start(1), 9 - int(found[1])
    folder.record.write_text(content[:place] + str(digit) + content[place + 1 :])
    assert unfinished(tmp_path / "copy", CELLS) == CELLS[:1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format_version": 5}'])
def test_a_comparison_whose_job_is_damaged_is_told_so(tiny_job: Job, tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "out"
    open_folder(root, tiny_job, False)
    (root / "comparison.json").write_bytes(content)
    with pytest.raises(DamagedError, match=r"comparison\.json is damaged"):
        open_folder(root, tiny_job, False)
    open_folder(root, tiny_job, True)


def test_a_folder_is_taken_up_by_the_same_job_only(tiny: Dataset, tiny_job: Job, tmp_path: Path) -> None:
    root = tmp_path / "out"
    open_folder(root, tiny_job, False)
    open_folder(root, tiny_job, False)
    other = make_job(tiny, TrainConfig(), ["full"], [0], None)
    with pytest.raises(OutputExistsError, match="another comparison: protocols is"):
        open_folder(root, other, False)
    (root / "cells").mkdir()
    (root / "notes").touch()
    with pytest.raises(OutputExistsError, match="holds notes, which is not of it"):
        open_folder(root, other, True)
    (root / "notes").unlink()
    open_folder(root, other, True)
    assert not (root / "cells").exists()


def test_a_cloud_model_that_has_changed_behind_its_path_is_another_comparison(
    whole: Path, tiny: Dataset, tiny_job: Job, tmp_path: Path
) -> None:
    def job(cloud: dict[str, Any]) -> Job:
        return make_job(tiny, changes.with_settings(tiny_job.config, cloud), ["full"], [0], None)

    run = cell_folder(whole, CELLS[1]).fit / "cloud"
    by_run = job({"cloud_model": str(run)})
    assert by_run.cloud_model_sha256 == RunFolder(run).read_environment().weights_sha256
    open_folder(tmp_path / "run", by_run, False)
    open_folder(tmp_path / "run", by_run, False)
    with pytest.raises(OutputExistsError, match="sha256 differs"):
        open_folder(tmp_path / "run", msgspec.structs.replace(by_run, cloud_model_sha256="0" * 64), False)
    # A folder that was begun when nobody kept the digest is taken up.
    open_folder(tmp_path / "old", msgspec.structs.replace(by_run, cloud_model_sha256=""), False)
    open_folder(tmp_path / "old", by_run, False)

    graph = tmp_path / "own.onnx"
    own = {"model.cloud.kind": "onnx", "model.cloud.graph": str(graph)}
    onnx.save(counts(tiny.vocabulary), graph)
    open_folder(tmp_path / "graph", job(own), False)
    open_folder(tmp_path / "graph", job(own), False)
    onnx.save(counts(tiny.vocabulary, scores=np.eye(tiny.vocabulary)), graph)
    with pytest.raises(OutputExistsError, match="sha256 differs"):
        open_folder(tmp_path / "graph", job(own), False)
    graph.write_bytes(b"nothing")
    with pytest.raises(InvalidGraphError):
        job(own)


def test_somebody_elses_folder_is_never_replaced(tiny_job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError):
            open_folder(tmp_path, tiny_job, overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(FolderBusyError), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_finetuning_takes_the_base_run_that_is_there_and_comes_to_the_same(
    whole: Path, tiny: Dataset, tiny_job: Job, tmp_path: Path
) -> None:
    cell = Cell("sasrec", "finetune", 0)
    root = tmp_path / "beside"
    shutil.copytree(whole, root)
    for place in (root, tmp_path / "alone"):
        folder = cell_folder(place, cell)
        assert run_cell(tiny_job, cell, tiny, folder, lambda share, what: None).personal
        assert (folder.fit / "base").is_dir() == (place.name == "alone")
        # What a device trains itself is not sent.
        record = folder.read()
        assert record is not None
        assert (record.cost.theta_parameters, record.cost.theta_bytes) == (0, 0)
        assert record.cost.finetuning_ms is not None
    assert metrics_in(root, [cell]) == metrics_in(tmp_path / "alone", [cell])


def test_a_dataset_that_has_changed_since_the_comparison_began_is_refused(
    tiny: Dataset, tiny_job: Job, tmp_path: Path
) -> None:
    before = msgspec.structs.replace(tiny_job, dataset_sha256="0" * 64)
    folder = cell_folder(tmp_path, CELLS[0])
    with pytest.raises(DatasetMismatchError, match="has changed since the comparison began"):
        run_cell(before, CELLS[0], tiny, folder, lambda share, what: None)
    assert not folder.root.exists()
