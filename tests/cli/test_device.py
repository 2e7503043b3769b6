"""`duet device`: what is typed, what is refused; the replay itself is in tests/e2e."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from duetgen.cli import console
from duetgen.cli.device import parse_policy, read_tokens
from duetgen.cli.device_shell import find, run_shell
from duetgen.cli.prepare import UsageError
from duetgen.data.store import Dataset
from duetgen.device import AfterSeconds, Always, DailyBudget, Device, Drift, EveryEvents, load_model

from ..device.cloud import FakeCloud, Server
from ..device.conftest import Tiny, make_tiny
from .test_cli import duet_here, refused

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("device") / "bundle")


@pytest.mark.parametrize(
    ("text", "budget", "policy"),
    [
        ("always", None, Always()),
        ("every:3", None, EveryEvents(3)),
        ("after:90.5", None, AfterSeconds(90.5)),
        ("drift:0.2", 4, DailyBudget(Drift(0.2), 4)),
    ],
)
def test_policies(text: str, budget: int | None, policy: object) -> None:
    assert parse_policy(text, budget) == policy


@pytest.mark.parametrize(
    "text", ["", "always:3", "every", "every:0", "every:x", "after:-1", "drift:0", "never", "every:1:2"]
)
def test_policies_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_policy(text, None)


def test_a_budget_below_nothing() -> None:
    with pytest.raises(UsageError):
        parse_policy("always", -1)


def test_titles_are_found_by_id_title_beginning_and_part(tiny: Tiny) -> None:
    model = load_model(tiny.root)
    assert find(model, "item-7") == ["item-7"]
    assert find(model, "title OF 7") == ["item-7"]
    assert find(model, "Title of 2") == ["item-2"]
    assert len(find(model, "title of")) == 28
    assert find(model, "of 13") == ["item-13"]
    assert find(model, "nothing") == []


def test_what_is_typed_moves_the_ranking(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(FakeCloud(tiny))
    typed = "Title of 7\n\ntitle of 2\n:status\n:ask\nof\nzzz\n[/x]\n:rollback\n:update\n:forget\n:help\n:quit\nof 9\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    try:
        with Device(tiny.root, cloud=server.url, token="secret", policy=Always()) as device:
            run_shell(device, 4)
            events = device.status().events
    finally:
        server.stop()
    console.results.file.flush()
    printed = capsys.readouterr().out
    for words in (
        "the global model (theta = 0)",
        "observed Title of 7 (item-7)",
        "own theta, 0 events",
        '"source": "theta"',
        "a new theta",
        "28 items match",
        "nothing is called 'zzz'",
        "nothing is called '[/x]'",
        "this device keeps no versions",
        "no new version: the device keeps none; give --state FOLDER",
        "forgotten",
        ":rollback go back",
    ):
        assert words in printed, words
    assert events == 2


def test_the_quickstart_of_the_docs_runs(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(FakeCloud(tiny))
    (code,) = re.findall(r"^```py\n(.*?)^```", (ROOT / "docs/device.md").read_text(), re.MULTILINE | re.DOTALL)
    for word, here in {"https://cloud.example": server.url, "…": "secret", '"bundle"': repr(str(tiny.root))}.items():
        assert word in code
        code = code.replace(word, here)
    monkeypatch.chdir(tmp_path)
    try:
        exec(compile(code, "docs/device.md", "exec"), {"__name__": "example"})
    finally:
        server.stop()
    assert len(capsys.readouterr().out.splitlines()) == 12


def test_refusals(tiny: Tiny, tmp_path: Path) -> None:
    refused(duet_here("device", tmp_path), "invalid-bundle")
    refused(duet_here("device", tiny.root, "--replay", tmp_path), "usage")
    for words in (
        ("--cloud", "localhost:8000"),
        ("--cloud", "http://h", "--token", "abc\n"),
        ("--device-id", "my kiosk"),
        ("--trust", "abc"),
    ):
        refused(duet_here("device", tiny.root, *words), "invalid-device-config")
    replay = ("device", tiny.root, "--replay", tmp_path)
    refused(duet_here(*replay, "--cloud", "http://127.0.0.1:9"), "not-a-dataset")
    (tmp_path / "tokens.json").write_text("[]")
    tokens = ("--tokens-file", tmp_path / "tokens.json")
    refused(duet_here(*replay, "--cloud", "http://h", *tokens), "invalid-tokens-file")
    refused(duet_here(*replay, "--cloud", "http://h", "--token", "abc", *tokens), "usage")


def test_a_replay_of_a_version_that_the_cloud_does_not_serve(tiny: Tiny, wandering: Dataset, tmp_path: Path) -> None:
    other = make_tiny(tmp_path / "other", seed=1)
    server = Server(FakeCloud(other))
    try:
        words = ("--cloud", server.url, "--token", "secret", "--replay", wandering.root, "--limit-devices", "2")
        ended = duet_here("device", tiny.root, *words)
        assert ended.returncode == 3
        assert f"version {tiny.model_id[:12]}…, but {other.model_id[:12]}… [cloud-refused]" in ended.stderr
        assert duet_here("device", other.root, *words).returncode == 0
    finally:
        server.stop()


def test_tokens_files(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text('{"device-0": "abc"}')
    assert read_tokens(tmp_path / "tokens.json") == {"device-0": "abc"}
    assert read_tokens(None) is None


def test_the_verb_has_help_and_a_page() -> None:
    printed = duet_here("device", "--help").stdout
    page = (ROOT / "docs/commands/device.md").read_text()
    options = {word.strip("*[],") for word in printed.split() if word.startswith("--")}
    assert [option for option in sorted(options) if option not in page and option != "--help"] == []


def test_a_theta_that_was_not_asked_for_is_said_with_the_reason(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for cloud in (None, "http://127.0.0.1:9"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(":ask\n:update\n"))
        with Device(tiny.root, cloud=cloud, state=tmp_path) as device:
            run_shell(device, 4)
    console.results.file.flush()
    printed = capsys.readouterr().out
    assert "no theta: the device is offline" in printed
    assert "no theta: there is nothing to make one from" in printed
    assert "no new version: the device is offline; give --cloud URL" in printed
