"""`duet compare` as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import forked
from tests.cli.test_cli import duet_here, refused

from duetgen.cli.app import main
from duetgen.cli.compare import choose, names_of, parse_policies
from duetgen.cli.prepare import UsageError
from duetgen.data.store import Dataset
from duetgen.jobfolder import alone_in

QUICK = ("--set", "optimiser.epochs=1", "--set", "model.backbone.width=8", "--staleness", "0,20", "--jobs", "1")

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset folder."""
    root = tmp_path_factory.mktemp("compare") / "data"
    made = duet_here("prepare", "synthetic", "--people", "40", "--split", "leave-one-out", "--out", root)
    assert made.returncode == 0, made.stderr
    return root


def test_the_page_names_every_option() -> None:
    result = duet_here("compare", "--help")
    assert result.returncode == 0
    page = (Path(__file__).parent.parent.parent / "docs/commands/compare.md").read_text()
    options = {word.strip("*[],") for word in result.stdout.split() if word.startswith("--")}
    assert [option for option in sorted(options) if option not in page and option != "--help"] == []


def test_a_comparison_from_start_to_end(data: Path, tmp_path: Path) -> None:
    words = ["compare", data, "--methods", "base,duet", "--out", tmp_path / "out", *QUICK]
    # No time at all: nothing is trained, and it is said plainly.
    nothing = duet_here(*words, "--seeds", "1", "--budget", "0")
    assert nothing.returncode == 0, nothing.stderr
    assert "Not run: 2 cells (sasrec-base-0, sasrec-duet-0)" in nothing.stdout
    assert "Nothing was measured on synthetic yet (2 of the cells asked for are missing)." in nothing.stdout
    assert not (tmp_path / "out/cells").exists()
    one = duet_here(*words, "--seeds", "1")
    assert one.returncode == 0, one.stderr
    for part in (
        "sasrec, full, met shown:",
        "sasrec, candidates, met shown:",
        "against base",
        "θ bytes",
        "On synthetic (40 devices), duet ",
    ):
        assert part in one.stdout
    assert "1/2  sasrec-base-0  done" in one.stderr
    # Another seed is added: what is finished is read.
    two = duet_here(*words, "--seeds", "2", "--budget", "0", "--json")
    results = json.loads(two.stdout)
    assert (results["complete"], results["missing"]) == (False, ["sasrec-base-1", "sasrec-duet-1"])
    assert [cell["method"] for cell in results["cells"]] == ["base", "duet"]
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    assert "sasrec-duet-1" in (tmp_path / "out/report.html").read_text()
    refused(duet_here(*words, "--seeds", "1", "--limit-devices", "5"), "output-exists")


def test_methods_without_a_cloud_model_are_named_where_its_state_is_to_be_read(data: Path, tmp_path: Path) -> None:
    words = ["--set", "model.history.encoder=cloud", "--budget", "0", "--out", tmp_path / "out"]
    assert duet_here("compare", data, *words).stderr.count("encoders read the history itself: apg.") == 1
    assert duet_here("compare", data, *words, "--quiet").stderr == ""


@pytest.mark.parametrize("kind", ["none", "ease"])
def test_an_encoder_of_a_state_that_no_cloud_model_has_is_refused_before_the_first_cell(
    data: Path, tmp_path: Path, kind: str
) -> None:
    words = ["--cloud-model", kind, "--set", "model.history.encoder=cloud", "--methods", "base,duet"]
    refused(duet_here("compare", data, *words, "--out", tmp_path / "out"), "invalid-config")
    assert not (tmp_path / "out").exists()


def test_several_datasets_are_compared_at_once_in_one_report(data: Path, tmp_path: Path) -> None:
    second, out = tmp_path / "second", tmp_path / "out"
    made = ("prepare", "synthetic", "--people", "30", "--split", "leave-one-out", "--name", "second", "--out", second)
    assert duet_here(*made).returncode == 0
    words = ["--methods", "popular,item-knn", "--seeds", "1", *QUICK]
    ran = duet_here("compare", data, second, "--out", out, *words)
    assert ran.returncode == 0, ran.stderr
    assert "4 cells, 0 of them finished before" in ran.stderr
    assert "data: any-popular-0  done" in ran.stderr
    assert "second: any-item-knn-0  done" in ran.stderr
    # Each is a comparison of its own, which the same command on it alone goes on with.
    alone = duet_here("compare", second, "--out", out / "second", *words, "--json")
    assert alone.returncode == 0, alone.stderr
    results = json.loads((out / "results.json").read_text())
    assert [one["dataset"]["name"] for one in results] == ["synthetic", "second"]
    assert results[1] == json.loads(alone.stdout)
    report = (out / "report.html").read_text()
    assert "All data sets" in report
    assert "second: Without a backbone" in report


def test_datasets_of_one_name_are_told_by_their_folders(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "again")
    roots = {tmp_path / "x": Dataset(data), tmp_path / "y": Dataset(tmp_path / "again")}
    assert list(names_of(roots).values()) == ["x", "y"]
    assert list(names_of({tmp_path / "x": Dataset(data)}).values()) == ["synthetic"]


def test_several_datasets_replace_no_file_that_no_comparison_wrote(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "again")
    words = [data, tmp_path / "again", "--methods", "popular", "--seeds", "1", "--quiet"]
    for name in ("results.json", "report.html", "comparison.json"):
        out = tmp_path / f"of {name}"
        out.mkdir()
        (out / name).write_text("precious")
        refused(duet_here("compare", *words, "--out", out), "output-exists")
        assert [path.name for path in out.iterdir()] == [name]


def test_one_process_at_a_time_compares_several_datasets_in_one_folder(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "again")
    (tmp_path / "out").mkdir()
    with alone_in(tmp_path / "out"):
        words = [data, tmp_path / "again", "--methods", "popular", "--seeds", "1", "--quiet"]
        refused(duet_here("compare", *words, "--out", tmp_path / "out"), "folder-busy")


def test_the_backbone_is_that_of_the_settings_and_the_option_goes_before_it(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[model]\nname = "gru4rec"\n')
    words = ["compare", data, "--methods", "base", "--seeds", "1", "--budget", "0", "--quiet"]
    settings = ["--config", tmp_path / "config.toml"]
    for more, cell in (
        ([], "sasrec-base-0"),
        (settings, "gru4rec-base-0"),
        (["--set", "model.name=din"], "din-base-0"),
        ([*settings, "--backbones", "sasrec"], "sasrec-base-0"),
    ):
        ran = duet_here(*words, *more, "--out", tmp_path / "out", "--overwrite")
        assert f"Not run: 1 cell ({cell})." in ran.stdout, ran.stderr


def test_finished_cells_that_the_report_leaves_out_are_told(data: Path, tmp_path: Path) -> None:
    words = ["compare", data, "--seeds", "1", "--out", tmp_path / "out", *QUICK]
    assert "not in the report" not in duet_here(*words, "--methods", "popular").stderr
    told = duet_here(*words, "--methods", "recent-popular").stderr
    assert "not in the report, for they were not asked for: 1 finished cell (any-popular-0)" in told
    assert "not in the report" not in duet_here(*words, "--methods", "popular,recent-popular").stderr


def test_several_datasets_that_do_not_go_together(data: Path, tmp_path: Path) -> None:
    assert "one name" in duet_here("compare", data, data, "--out", tmp_path / "x").stderr
    assert "of one dataset" in duet_here("compare", data, data, "--runs", "r", "--out", tmp_path / "x").stderr
    assert "needs a dataset" in duet_here("compare", "--out", tmp_path / "x").stderr


def in_a_session(words: list[str]) -> None:
    """The command with its workers in a group of its own, as from a terminal."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(words)


def test_stopped_by_the_keyboard_it_says_so_and_leaves_no_process(data: Path, tmp_path: Path) -> None:
    words = [
        "compare",
        data,
        "--methods",
        "base",
        "--seeds",
        "1",
        "--set",
        "optimiser.epochs=1000",
        "--out",
        tmp_path / "o",
    ]
    told = tmp_path / "told"
    process = forked.start(in_a_session, [*map(str, words), "--jobs", "1"], told=told)
    while not (tmp_path / "o/cells").exists() and process.is_alive():
        time.sleep(0.01)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130
    assert told.read_text().splitlines()[-2:] == [
        "duet: stopped by the keyboard [interrupted]",
        "  hint: the same command goes on where it stopped",
    ]
    # The lock is free again: nobody works there any more.
    with alone_in(tmp_path / "o"):
        pass


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--methods", "base,duett"], "--methods has no 'duett'"),
        (["--backbones", "sasrek"], "--backbones has no 'sasrek'"),
        (["--methods", ","], "--methods names nothing"),
        (["--seeds", "0"], "--seeds 0 is out of range"),
        (["--jobs", "0"], "--jobs 0 is out of range"),
        (["--staleness", "0,2000000"], "--staleness 2000000 is out of range"),
        (["--budget", "-1"], "--budget -1 is no time"),
        (["--budget", "nan"], "--budget nan is no time"),
        (["--policies", "every:5,evry"], "--policies has no 'evry'"),
        (
            ["--policies", "always", "--methods", "base,finetune"],
            "--policies replays θ, and none of these generates it",
        ),
    ],
)
def test_words_that_mean_nothing_are_one_line_with_a_hint(
    data: Path, words: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(data), "--out", str(data.parent / "none"), *words])
    assert ended.value.code == 2
    cause, hint = capsys.readouterr().err.splitlines()
    assert cause.startswith(f"duet: {found}")
    assert cause.endswith("[usage]")
    assert hint.startswith("  hint: ")
    assert not (data.parent / "none").exists()


def test_a_protocol_that_the_data_cannot_serve_is_refused_before_anything_is_trained(data: Path) -> None:
    result = duet_here("compare", data, "--out", data.parent / "none", "--protocol", "given")
    refused(result, "protocol-unavailable")
    assert not (data.parent / "none").exists()


def test_near_names_are_suggested_and_all_are_listed() -> None:
    with pytest.raises(UsageError) as error:
        choose("--methods", "dut", ("base", "duet"))
    assert error.value.hint == "did you mean duet? choose among base, duet"
    assert choose("--methods", "all", ("base", "duet")) == ["base", "duet"]
    assert choose("--methods", "duet, base,duet", ("base", "duet")) == ["duet", "base"]


def test_a_policy_has_one_name_however_it_is_written() -> None:
    assert parse_policies("every:5, every:05,always,every:10,every:1_0") == ["every:5", "always", "every:10"]
    assert parse_policies("after:60,after:60.0,after:1e3,drift:0.10,drift:.1") == [
        "after:60",
        "after:1000",
        "drift:0.1",
    ]
    assert parse_policies(" ") == []


@pytest.mark.slow
def test_replayed_policies_stand_in_the_results_and_leave_nothing_open(data: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    made = duet_here("train", data, "--method", "duet", "--epochs", "1", "--width", "8", "--out", run)
    assert made.returncode == 0, made.stderr
    words = ["--policies", "every:05", "--limit-devices", "5", "--staleness", "0", "--jobs", "1", "--quiet"]
    # A process of its own tells when it ends what its workers left open, by a warning that `-W error` would swallow.
    command = [sys.executable, "-c", "from duetgen.cli import main; main()", "compare", data, "--runs", f"mine={run}"]
    result = subprocess.run([*command, "--out", out, *words], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    results = json.loads((out / "results.json").read_text())
    replayed = [[one["policy"] for one in table["rows"][0]["policies"]] for table in results["tables"]]
    # By the first protocol alone.
    assert replayed == [["every:5"], []]
    assert [one["policy"] for one in results["cells"][0]["policies"]] == ["every:5"]
