"""The command as a user meets it: what it prints, what it leaves behind, and that it goes on when it was killed."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests import forked

from duetgen.cli.app import main
from duetgen.cli.evaluate import parse_ages
from duetgen.cli.prepare import UsageError
from duetgen.cli.settings import build_config
from duetgen.training import TrainConfig
from duetgen.training.config import InvalidConfigError
from duetgen.training.run import RunFolder

VERBS = ("demo", "prepare", "train", "evaluate")


def duet(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without a terminal."""
    command = [sys.executable, "-W", "error", "-c", "from duetgen.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def duet_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has imported what takes a new one longest."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(result: subprocess.CompletedProcess[str], code: str) -> str:
    """The one line of cause of a refusal that has the code; the next line is its hint, and there is no more."""
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert lines[-2].startswith("duet: ")
    assert lines[-2].endswith(f"[{code}]")
    assert lines[-1].startswith("  hint: ")
    return lines[-2]


class StoppedAt:
    """Finds no module; the keyboard stops the process where it looks for one."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.module:
            raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["duetgen.cli.data", "duetgen.cli.train"])
def test_stopped_while_modules_are_imported_it_says_so_too(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [StoppedAt(module), *sys.meta_path])
    words = {
        "prepare log.csv --out d": "nothing was written",
        "train d": "the same command goes on",
        "device b --state s": "what it keeps, with --state, is whole",
    }
    for command, hint in words.items():
        result = duet_here(*command.split())
        assert result.returncode == 130
        assert hint in result.stderr
        refused(result, "interrupted")


def test_a_signal_stops_as_the_keyboard_does_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr("duetgen.data.prepare.read", killed)
    result = duet_here("prepare", "synthetic", "--out", tmp_path / "d")
    assert result.returncode == 143
    assert "stopped by SIGTERM" in refused(result, "interrupted")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_names_are_printed_as_they_stand_and_command_no_terminal(tmp_path: Path) -> None:
    name = "[red]x[/] :heart:\n" + "long " * 60
    result = duet_here(
        "prepare", "synthetic", "--people", "20", "--name", f"{name}\x1b[31m", "--out", tmp_path / "d[b]"
    )
    name = name.replace("\n", " ")
    assert result.stdout.startswith(f"{name}\N{REPLACEMENT CHARACTER}[31m: 20 devices")
    assert f"dataset folder: {tmp_path}/d[b]\n" in result.stdout


def test_a_word_that_is_quoted_in_a_refusal_commands_no_terminal() -> None:
    assert "\x1b" not in refused(duet_here("prepare", "synthetic", "--met", "x\n\x1b[31m"), "usage")


def test_a_name_in_another_encoding_is_refused(tmp_path: Path) -> None:
    refused(duet_here("prepare", os.fsdecode(b"log-\xff.csv"), "--out", tmp_path / "d"), "usage")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("prepare", "", "--out", "d"), ("prepare", "synthetic", "--out", ""), ("prepare", "synthetic", "--out=")],
)
def test_an_empty_argument_is_not_the_folder_that_one_is_in(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("user,item\n" + "a,x\na,y\n" * 5)
    assert "is empty" in refused(duet_here(*arguments), "usage")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    "words",
    [
        *("recommend r d --out x.csv --threads 0", "train d --threads -1", "export r d --out b --threads 99999"),
        *("train d --epochs 0", "compare d --out o --patience 0", "demo --epochs 0", "train d --epochs 100001"),
        *("evaluate r d --seed -1", "evaluate r d --bootstrap -1", "evaluate r d --bootstrap 99999999999"),
        *("evaluate r d --limit-devices 0", "data describe d --seed -1", "demo --seed -1", "device b --top 0"),
        *("device b --workers 3", "device b --seed 4", "device b --limit-devices 3", "device b --protocol full"),
        *("device b --replay d --cloud http://x --top 3", "device b --replay d --cloud http://x --state s"),
        *(
            "device b --replay d --cloud http://x --speed-up nan",
            "device b --replay d --cloud http://x --workers 1025",
            "recommend r d --out no/x.csv",
            "demo --vision --no-live",
        ),
    ],
)
def test_a_number_out_of_range_and_an_option_that_would_do_nothing_are_refused_at_once(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(duet_here(*words.split()), "usage")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only some systems have a device that is full")
@pytest.mark.parametrize("words", ["--help", "data list", "data list --json", "prepare synthetic --people 40 --out d"])
def test_a_result_that_cannot_be_printed_is_one_line(words: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "duetgen", *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert ended.returncode == 2
    cause, hint = ended.stderr.splitlines()
    assert cause == "duet: cannot print the result: No space left on device [output-unwritable]"
    assert hint.startswith("  hint: free some space")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("code", [0, 2])
def test_a_standard_stream_that_was_closed_leads_nowhere(code: int, closed: str, tmp_path: Path) -> None:
    if code:
        (tmp_path / "key").write_text("somebody's")
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "duetgen", "keys", "new", "--out", "key"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "key").read_text().startswith("somebody's" if code else "-----BEGIN PRIVATE KEY-----")


@pytest.mark.skipif(os.name != "posix", reason="only some systems remove a folder that somebody is in")
@pytest.mark.parametrize("words", ["tokens list", "keys new --out key", "prepare synthetic --out d", "serve b --open"])
def test_a_folder_that_is_gone_is_one_line(words: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", sys.executable, "-m", "duetgen", *words.split()]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "gone", check=False)
    cause, hint = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert cause == "duet: the folder that this command was started in is gone [input-missing]"
    assert hint.startswith("  hint: ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["data list", "data list --json"])
def test_a_result_that_a_disk_takes_in_part_is_told(words: str, unbuffered: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with (tmp_path / "out").open("w") as out:
        ended = subprocess.run(
            [sys.executable, "-m", "duetgen", *words.split()],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("duet: cannot print the result: File too large [output-unwritable]\n  hint: ")


def test_the_streams_of_a_program_that_runs_a_command_stay_its_own() -> None:
    program = """
import contextlib, gc, io, sys, tempfile
from duetgen.cli import main
def version():
    with contextlib.suppress(SystemExit):
        main(["--version"])
with tempfile.TemporaryFile(buffering=0) as file, contextlib.redirect_stdout(io.TextIOWrapper(file)) as theirs:
    version()
    assert sys.stdout is theirs
    gc.collect()
    theirs.flush()
    assert file.seek(0, 2) > 0
version()
gc.collect()
print("and more", flush=True)
"""
    ended = subprocess.run([sys.executable, "-u", "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "and more"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["data list", "data list --json"])
def test_a_result_that_nobody_reads_ends_as_a_pipe_does(words: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "duetgen", *words.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_help_names_every_verb() -> None:
    result = duet("--help")
    assert result.returncode == 0
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_a_page(verb: str) -> None:
    result = duet_here(verb, "--help")
    assert result.returncode == 0
    assert "--json" in result.stdout
    page = Path(__file__).parent.parent.parent / "docs/commands" / f"{verb}.md"
    options = {word.strip("*[],.:") for word in result.stdout.split() if word.startswith("--")}
    text = page.read_text()
    assert [option for option in sorted(options) if option not in text and option != "--help"] == []


def test_prepare_says_what_it_made(folder: Path, tmp_path: Path) -> None:
    result = duet("prepare", "synthetic", "--people", "60", "--out", tmp_path / "data")
    assert "60 devices" in result.stdout
    assert "temporal split" in result.stdout
    assert "checks passed" in result.stdout


def test_prepare_tells_the_source_from_the_file(tmp_path: Path) -> None:
    rows = [f"{u}\t{1 + (u + i) % 7}\t4\t{1000 * u + i}" for u in range(1, 9) for i in range(6)]
    (tmp_path / "u.data").write_text("\n".join(rows) + "\n")
    result = duet_here("prepare", tmp_path / "u.data", "--split", "leave-one-out", "--out", tmp_path / "data", "--json")
    assert result.returncode == 0, result.stderr
    manifest = json.loads(result.stdout)
    assert manifest["source"]["kind"] == "movielens-100k"
    assert manifest["counts"]["devices"] == 8


def test_evaluate_prints_a_table_of_all_conditions(folder: Path) -> None:
    result = duet_here("evaluate", folder / "duet", folder / "data", "--by-history", "--staleness", "0,3")
    assert result.returncode == 0, result.stderr
    for words in ("ndcg@10", "theta 3 events old", "theta = 0", "another device's theta", "random history", "100+"):
        assert words in result.stdout


def test_evaluate_json_holds_every_figure_with_its_interval(folder: Path) -> None:
    result = duet_here(
        "evaluate", folder / "duet", folder / "data", "--protocol", "full", "--protocol", "candidates", "--json"
    )
    full, candidates = json.loads(result.stdout)
    names = [condition["name"] for condition in full["conditions"]]
    own = [f"{part}{age}" for part in ("own", "own-weights", "own-bias") for age in ("", "+1", "+5", "+20")]
    assert names == [*own, "zero", "another", "random"]
    for metric in ("ndcg@5", "ndcg@10", "ndcg@20", "hr@5", "hr@10", "hr@20", "mrr", "user_auc", "log_loss"):
        for evaluation in (full, candidates):
            value = evaluation["conditions"][0]["metrics"][metric]
            assert value["low"] <= value["mean"] <= value["high"]
    assert "auc" in candidates["conditions"][0]["metrics"]
    assert full["provenance"]["dataset_sha256"]
    assert full["provenance"]["config"]["model"]["method"] == "duet"


def test_of_several_devices_one_alone_has_targets(tmp_path: Path) -> None:
    early = [f"u{i % 4},i{i % 7},{1_600_000_000 + i}" for i in range(40)]
    late = [f"u9,i{i % 7},{1_600_001_000 + i}" for i in range(40)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *early, *late, ""]))
    small = ("--epochs", "1", "--width", "4", "--cloud-model", "none", "--quiet")
    data, run = tmp_path / "data", tmp_path / "run"
    assert duet_here("prepare", tmp_path / "log.csv", "--out", data).returncode == 0
    assert duet_here("train", data, "--out", run, *small).returncode == 0
    told = json.loads(duet_here("evaluate", run, data, "--bootstrap", "0", "--json").stdout)
    names = [one["condition"]["kind"] for one in told[0]["conditions"]]
    assert "own" in names
    assert "another" not in names


def test_a_base_run_is_measured_with_its_global_model_alone(folder: Path) -> None:
    result = duet_here("evaluate", folder / "base", folder / "data", "--json")
    assert [condition["name"] for condition in json.loads(result.stdout)[0]["conditions"]] == ["zero"]


def test_several_runs_are_compared_with_the_first(folder: Path) -> None:
    runs = [str(folder / name) for name in ("base", "duet")]
    result = duet_here("evaluate", *runs, str(folder / "data"), "--staleness", "0,5", "--bootstrap", "50", "--quiet")
    assert result.returncode == 0
    last = result.stdout.partition(f"less {runs[0]} (full, met ")[2]
    assert "DUET, theta 5 events old" in last
    assert "base" not in last.replace(runs[0], "")
    found = json.loads(duet_here("evaluate", *runs, str(folder / "data"), "--bootstrap", "50", "--json").stdout)
    assert [one["run"] for one in found["runs"]] == runs
    values = [one["evaluations"][0]["conditions"][0]["metrics"]["ndcg@10"]["mean"] for one in found["runs"]]
    fresh = found["differences"][0]
    assert (fresh["run"], fresh["condition"], fresh["reference_condition"]) == (runs[1], "own", "zero")
    assert fresh["mean"] == pytest.approx(values[1] - values[0])
    assert fresh["low"] <= fresh["mean"] <= fresh["high"]
    assert fresh["verdict"] in ("ahead", "behind", "not told apart")


def test_evaluate_without_a_dataset_is_refused(folder: Path) -> None:
    result = duet_here("evaluate", str(folder / "base"))
    assert result.returncode == 2
    assert "needs a run and its dataset" in result.stderr


def test_training_twice_says_that_it_is_done(folder: Path) -> None:
    result = duet_here("train", folder / "data", "--method", "base", "--epochs", "2", "--out", folder / "base")
    assert result.returncode == 0
    assert "was trained before" in result.stdout


def test_a_generator_for_a_finished_global_model_takes_over_its_settings(folder: Path, tmp_path: Path) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    small = ("--method", "base", "--width", "8", "--window", "4", "--epochs", "1")
    assert duet_here("train", folder / "data", *small, "--out", base).returncode == 0
    arguments = ("train", folder / "data", "--global-model", base, "--out", run)
    trained = duet_here(*arguments)
    assert trained.returncode == 0, trained.stderr
    config = RunFolder(run).config.read_text()
    for line in (
        "width = 8",
        "window = 4",
        "epochs = 1",
        'method = "duet"',
        f'global_model = "{base}"',
        "staleness = 20",
    ):
        assert line in config.splitlines(), line
    alone = json.loads(duet_here("train", folder / "data", *small, "--out", base, "--json").stdout)[
        "validation_ndcg@10"
    ]
    again = duet_here(*arguments)
    assert "was trained before" in again.stdout
    assert f"by its global model alone: {alone:.4f}" in again.stdout
    told = json.loads(duet_here(*arguments, "--json").stdout)
    assert told["global_model_validation_ndcg@10"] == alone
    assert ("gains nothing" in again.stdout) == (told["validation_ndcg@10"] <= alone)
    zero = json.loads(duet_here("evaluate", run, folder / "data", "--json").stdout)[0]
    plain = json.loads(duet_here("evaluate", base, folder / "data", "--json").stdout)[0]
    metrics = {one["name"]: one["metrics"] for one in zero["conditions"]}
    assert metrics["zero"] == plain["conditions"][0]["metrics"]
    assert metrics["own"] != metrics["zero"]


@pytest.mark.slow
def test_a_killed_training_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = ["train", folder / "data", "--method", "base", "--epochs", "6", "--out"]
    assert duet_here(*arguments, tmp_path / "whole").returncode == 0
    process = forked.start(main, [*map(str, arguments), str(tmp_path / "cut")], told=tmp_path / "told")
    metrics = tmp_path / "cut/metrics.jsonl"
    while not metrics.exists() and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    gone_on = duet(*arguments, tmp_path / "cut")
    assert gone_on.returncode == 0, gone_on.stderr
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_demo_ends_with_a_table_and_files(tmp_path: Path) -> None:
    rows = [f"{u}\t{1 + (u * 3 + i * (1 + u % 3)) % 40}\t4\t{10_000 * i + u}" for u in range(1, 60) for i in range(20)]
    (tmp_path / "u.data").write_text("\n".join(rows) + "\n")
    arguments = ["demo", tmp_path / "u.data", "--out", tmp_path / "demo", "--epochs", "2"]
    result = duet_here(*arguments)
    assert result.returncode == 0, result.stderr
    for words in (
        "1. Prepare",
        "2. Train the base model",
        "3. Train DUET",
        "4. Measure",
        "against base",
        "another device",
    ):
        assert words in result.stdout
    files = {path.name for path in (tmp_path / "demo").iterdir()}
    made = {"demo.json", "dataset", "base", "duet", "results.json"}
    assert files == made | {"bundle", "key", "cloud.log"}
    saved = json.loads((tmp_path / "demo/results.json").read_text())
    again = duet_here(*arguments, "--json", "--no-live")
    assert json.loads(again.stdout)["rows"] == saved["rows"]
    refused(duet_here(*arguments[:-1], "3"), "output-exists")
    assert duet_here(*arguments[:-1], "3", "--overwrite", "--no-live").returncode == 0


class TestBadInput:
    """Each is one line of cause, one of hint, a non-zero exit, and nothing left behind."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path: Path) -> object:
        yield
        assert not (tmp_path / "out").exists()
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]

    def prepare(self, tmp_path: Path, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return duet_here("prepare", path, "--out", tmp_path / "out", *more)

    def test_missing_file(self, tmp_path: Path) -> None:
        assert "u.data" in refused(self.prepare(tmp_path, tmp_path / "u.data"), "input-missing")

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "u.data").write_text("")
        refused(self.prepare(tmp_path, tmp_path / "u.data"), "input-empty")

    def test_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "logs").mkdir()
        refused(self.prepare(tmp_path, tmp_path / "logs"), "input-is-folder")

    def test_truncated_gzip(self, tmp_path: Path) -> None:
        content = gzip.compress(b"user,item,timestamp\n" + b"\n".join(b"%d,%d,%d" % (i, i * 7, i) for i in range(999)))
        (tmp_path / "log.csv.gz").write_bytes(content[: len(content) // 2])
        refused(self.prepare(tmp_path, tmp_path / "log.csv.gz"), "input-truncated")

    def test_wrong_source_named(self, tmp_path: Path) -> None:
        (tmp_path / "u.data").write_text("1\t2\t3\t4\n" * 5)
        result = duet_here("prepare", "movielens-1m", tmp_path / "u.data", "--out", tmp_path / "out")
        assert result.returncode != 0
        assert "hint:" in result.stderr

    def test_non_numeric_rating(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,rating,timestamp\na,b,4,1\na,c,good,2\n")
        assert "3" in refused(self.prepare(tmp_path, tmp_path / "log.csv"), "bad-rating")

    def test_all_events_at_one_time(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,timestamp\n" + "a,b,5\na,c,5\nb,c,5\nb,d,5\n" * 5)
        refused(self.prepare(tmp_path, tmp_path / "log.csv"), "no-boundary")

    def test_no_event_left_after_filtering(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("user,item,rating,timestamp\n" + "a,b,3,1\na,c,2,2\n" * 5)
        refused(self.prepare(tmp_path, tmp_path / "log.csv", "--min-rating", "5"), "no-events-left")

    def test_a_log_without_input(self, tmp_path: Path) -> None:
        refused(duet_here("prepare", "amazon-2018-csv", "--out", tmp_path / "out"), "usage")

    def test_an_unknown_option(self, tmp_path: Path) -> None:
        refused(duet_here("prepare", "synthetic", "--out", tmp_path / "out", "--pepole", "3"), "usage")
        result = duet_here("evaluate", tmp_path, tmp_path, "--devices", "3")
        assert "Did you mean --limit-devices?" in refused(result, "usage")
        assert result.stderr.endswith("  hint: see `duet evaluate --help`\n")

    def test_refusals_as_json(self, tmp_path: Path) -> None:
        result = self.prepare(tmp_path, tmp_path / "nothing.csv", "--json")
        assert result.returncode != 0
        assert json.loads(result.stdout)["error"]["code"] == "input-missing"

    def test_a_dataset_folder_that_is_none(self, tmp_path: Path) -> None:
        refused(duet_here("train", tmp_path, "--out", tmp_path / "out"), "not-a-dataset")

    def test_an_unknown_setting(self, folder: Path, tmp_path: Path) -> None:
        refused(
            duet_here("train", folder / "data", "--out", tmp_path / "out", "--set", "optimiser.speed=9"),
            "invalid-config",
        )

    def test_a_setting_out_of_range(self, folder: Path, tmp_path: Path) -> None:
        refused(duet_here("train", folder / "data", "--out", tmp_path / "out", "--window", "0"), "invalid-config")

    def test_rows_that_are_not_there(self, folder: Path, tmp_path: Path) -> None:
        result = duet_here("train", folder / "data", "--out", tmp_path / "out", "--feed", "rows")
        refused(result, "training-failed")

    def test_a_run_of_another_dataset(self, folder: Path, tmp_path: Path) -> None:
        assert duet_here("prepare", "synthetic", "--people", "50", "--out", tmp_path / "other").returncode == 0
        refused(duet_here("evaluate", folder / "base", tmp_path / "other"), "dataset-mismatch")

    def test_a_global_model_that_is_none(self, folder: Path, tmp_path: Path) -> None:
        words = ("train", folder / "data", "--out", tmp_path / "out", "--global-model")
        refused(duet_here(*words, tmp_path / "nowhere"), "not-a-run")
        refused(duet_here(*words, folder / "base", "--width", "16"), "invalid-config")
        refused(duet_here(*words, folder / "base", "--method", "base"), "invalid-config")

    def test_a_run_folder_of_another_version(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        content = json.loads((folder / "base/environment.json").read_text()) | {"format_version": 0}
        (tmp_path / "run/environment.json").write_text(json.dumps(content))
        assert "run format 0" in refused(duet_here("evaluate", tmp_path / "run", folder / "data"), "not-a-run")

    def test_an_unwritable_output(self) -> None:
        refused(duet_here("prepare", "synthetic", "--people", "50", "--out", "/proc/duetgen"), "output-unwritable")


def test_a_half_written_output_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/events.npy").write_bytes(b"half")
    for more in ([], ["--overwrite"]):
        refused(duet_here("prepare", "synthetic", "--people", "50", "--out", tmp_path / "out", *more), "output-exists")
    assert (tmp_path / "out/events.npy").read_bytes() == b"half"


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "0,,1", "0,1000001"])
def test_ages_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ages(text)


def test_fewer_resamples_than_an_interval_can_be_read_from_are_refused(folder: Path) -> None:
    for number in ("1", "39", "-1"):
        refused(duet_here("evaluate", folder / "base", folder / "data", "--bootstrap", number), "usage")


def test_ages_are_kept_in_order_and_once() -> None:
    assert parse_ages("20,0,5,0") == (20, 0, 5)


def test_precedence_of_settings(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("seed = 3\n[model]\nname = 'din'\n[optimiser]\nepochs = 4\nclip = 2.0\n")
    config = build_config(tmp_path / "config.toml", {"optimiser.epochs": 5}, ["optimiser.clip=0.5"])
    assert (config.seed, config.model.name, config.optimiser.epochs, config.optimiser.clip) == (3, "din", 5, 0.5)


@pytest.mark.parametrize(
    "assignment", ["clip=1", "optimiser=1", "optimiser.clip", "optimiser.clip=much", "=", "a.b.c=1"]
)
def test_assignments_that_mean_nothing_are_refused(assignment: str) -> None:
    with pytest.raises(InvalidConfigError):
        build_config(None, {}, [assignment])


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("optimiser.epoch", "did you mean optimiser.epochs?"),
        ("epochs", "did you mean optimiser.epochs?"),
        ("model.widht", "did you mean model.backbone.width?"),
        ("optimizer.learning_rate", "did you mean optimiser.learning_rate?"),
        ("zzz", "see docs/configuration.md for every setting"),
        ("finetune", "finetune has several: finetune.scope, finetune.steps, finetune.learning_rate, …"),
    ],
)
def test_a_setting_that_does_not_exist_is_told_with_the_one_that_was_meant(key: str, hint: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        build_config(None, {}, [f"{key}=1"])
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("content", "cause", "hint"),
    [
        ("[optimiser]\nepoch = 3", "there is no setting optimiser.epoch", "did you mean optimiser.epochs?"),
        ("sede = 3", "there is no setting sede", "did you mean seed?"),
        ("[model]\nmethod = 'dute'", "Invalid enum value 'dute'", "did you mean duet?"),
        ("[model.backbone]\ndropout = 'aut'", "Invalid enum value 'aut'", "did you mean auto?"),
        ("[finetune]\nscope = 'hole'", "Invalid enum value 'hole'", "did you mean whole?"),
        ("[model]\nmethod = 'x'", "Invalid enum value 'x'", "choose among base, cloud, duet, finetune"),
        ("seed = -1", "seed is -1", "it must lie in 0 to 2,147,483,647"),
        (
            "[model.backbone]\nhead = 'low-rank'\nrank = 65",
            "model.backbone.rank 65 is more than the matrices of a head have",
            "choose at most the width of the device model, 64",
        ),
        ("[seed]\nx = 1", "there is no setting seed.x", "did you mean seed?"),
        ("model = 3", "Expected `object`", "see docs/configuration.md for every setting"),
        ("seed = 'one'", "Expected `int`", "see docs/configuration.md for every setting"),
    ],
)
def test_what_a_file_of_settings_says_wrongly_is_told_with_what_was_meant(
    tmp_path: Path, content: str, cause: str, hint: str
) -> None:
    (tmp_path / "my.toml").write_text(content)
    with pytest.raises(InvalidConfigError, match=cause) as caught:
        build_config(tmp_path / "my.toml", {}, [])
    assert caught.value.message.startswith(f"{tmp_path}/my.toml: ")
    assert caught.value.hint == hint


def test_an_empty_file_of_settings_leaves_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[model]\n[model.history]\n")
    assert build_config(tmp_path / "my.toml", {}, []) == TrainConfig()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("train", "data", "--out", "run", "--method", "dute"), "duet"),
        (("train", "data", "--out", "run", "--backbone", "sasrce"), "sasrec"),
        (("train", "data", "--out", "run", "--widht", "8"), "--width"),
        (("train", "data", "--out", "run", "--set", "model.name=gru4rce"), "gru4rec"),
        (("compare", "data", "--out", "out", "--widht", "8"), "--width"),
        (("compare", "data", "--out", "out", "--objective", "softmx"), "softmax"),
        (("compare", "data", "--out", "out", "--methods", "dute"), "duet"),
        (("compare", "data", "--out", "out", "--set", "epoch=1"), "optimiser.epochs"),
        (("prepare", "movielns-100k", "u.data", "--out", "out"), "movielens-100k"),
        (("evalute", "run", "data"), "evaluate"),
    ],
)
def test_every_unknown_name_is_told_with_the_one_that_was_meant(
    words: tuple[str, ...],
    meant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(list(words))
    told = capsys.readouterr().err.lower()
    assert f"did you mean {meant}?" in told.replace('"', "")


def test_importing_the_package_imports_nothing_heavy() -> None:
    imports = "import sys, duetgen, duetgen.wire.limits, duetgen.errors"
    code = f"{imports}; print([name for name in ('torch', 'polars') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def text_log(root: Path) -> Path:
    """A train and a test file in the duet-text format: thirty users walk in circles of forty items."""
    random = np.random.default_rng(0)
    rows: dict[str, list[str]] = {"train": [], "test": []}
    for user in range(1, 31):
        items = [1 + (user * 5 + step * (1 + user % 2)) % 40 for step in range(16)]
        for step in range(3, 16):
            past = items[:step][-10:]
            sequence = ",".join(map(str, past + [0] * (10 - len(past))))
            others = [item for item in range(1, 41) if item not in items]
            kind = "test" if step == 15 else "train"
            drawn = random.choice(others, 9 if kind == "test" else 4, replace=False)
            for item, label in [(items[step], 1), *((int(item), 0) for item in drawn)]:
                rows[kind].append(f"{user};{item};{sequence};{sequence};{label}")
    random.shuffle(rows["train"])
    for kind, lines in rows.items():
        (root / f"{kind}.txt").write_text("\n".join(lines) + "\n")
    return root / "train.txt"


@pytest.mark.parametrize("method", ["base", "duet"])
def test_rows_of_the_text_format_train_as_they_stand(tmp_path: Path, method: str) -> None:
    prepared = duet_here("prepare", "duet-text", text_log(tmp_path), "--out", tmp_path / "data")
    assert prepared.returncode == 0, prepared.stderr
    arguments = ["train", tmp_path / "data", "--feed", "rows", "--method", method, "--window", "10", "--history", "10"]
    arguments += ["--epochs", "3", "--set", "optimiser.batch_positions=128", "--out", tmp_path / "run", "--json"]
    trained = duet_here(*arguments)
    assert trained.returncode == 0, trained.stderr
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    measured = duet_here("evaluate", tmp_path / "run", tmp_path / "data", "--protocol", "given", "--json")
    assert measured.returncode == 0, measured.stderr
    found = json.loads(measured.stdout)
    assert (found[0]["protocol"], found[0]["targets"], found[0]["candidates"]) == ("given", 30, 10)
