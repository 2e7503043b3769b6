"""One table each for backbones, encoders and policies: a toy is a class and a line, and everything takes its name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duetgen.backbones import BACKBONES
from duetgen.core import ENCODERS, KINDS, SequenceEncoder
from duetgen.device import POLICIES

ROOT = Path(__file__).parent.parent
TOYS = Path(__file__).with_name("toys.py")


def toys(*words: Any) -> subprocess.CompletedProcess[str]:
    """The command of a program that has the toys."""
    return subprocess.run([sys.executable, TOYS, *map(str, words)], capture_output=True, text=True, check=False)


def test_a_comparison_of_toys(tmp_path: Path) -> None:
    made = toys("prepare", "synthetic", "--people", "30", "--split", "leave-one-out", "--out", tmp_path / "data")
    assert made.returncode == 0, made.stderr
    settings = ["model.history.encoder=newest", "optimiser.epochs=1", "model.backbone.width=8", "model.history.width=8"]
    words = [word for setting in settings for word in ("--set", setting)]
    found = toys(
        "compare", tmp_path / "data", "--out", tmp_path / "out", "--backbones", "mean", "--methods", "base,duet",
        "--seeds", "1", "--jobs", "1", "--staleness", "0", "--cloud-model", "none", *words, "--json",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    results = json.loads(found.stdout)
    assert results["complete"]
    assert {(cell["backbone"], cell["method"]) for cell in results["cells"]} == {("mean", "base"), ("mean", "duet")}
    run = next((tmp_path / "out/cells").glob("mean-duet-0/**/config.toml")).read_text()
    assert 'encoder = "newest"' in run


def test_a_policy_of_a_toy() -> None:
    refused = toys("device", "nothing", "--policy", "twice", "--cloud", "http://127.0.0.1:1")
    assert "give one of always, every:N, after:SECONDS, drift:THRESHOLD, once" in refused.stderr
    accepted = toys("device", "nothing", "--policy", "once", "--cloud", "http://127.0.0.1:1")
    assert "nothing is not a bundle" in accepted.stderr


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/commands/train.md", BACKBONES),
        ("docs/commands/demo.md", BACKBONES),
        ("docs/configuration.md", BACKBONES),
        ("docs/configuration.md", [name for name, kind in ENCODERS.items() if issubclass(kind, SequenceEncoder)]),
        ("docs/concepts/method.md", [name for name, kind in ENCODERS.items() if issubclass(kind, SequenceEncoder)]),
        ("docs/concepts/any-module.md", KINDS),
        ("docs/concepts/any-module.md", ENCODERS),
        ("docs/commands/device.md", POLICIES),
    ],
)
def test_pages_name_what_the_tables_have(page: str, names: Any) -> None:
    text = (ROOT / page).read_text()
    assert [name for name in names if f"`{name}" not in text] == []
