"""One table each for backbones, encoders, policies and sources: a toy is a class and a line, and has its name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duetgen.backbones import BACKBONES
from duetgen.core import ENCODERS, KINDS, SequenceEncoder
from duetgen.data.sources.kinds import KINDS as KINDS_OF_LOGS
from duetgen.device import POLICIES
from duetgen.training import TrainConfig
from duetgen.training.config import ranges
from tests import forked

ROOT = Path(__file__).parent.parent
TOYS = Path(__file__).with_name("toys.py")


def toys(*words: Any, **variables: Path) -> subprocess.CompletedProcess[str]:
    """The command of a program that has the toys."""
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.run(
        [sys.executable, TOYS, *map(str, words)], capture_output=True, text=True, check=False, env=environment
    )


def test_a_comparison_of_toys(tmp_path: Path) -> None:
    """A log of the toy source by its name, with the toy backbone and encoder, replayed by the toy policy."""
    lines = [f"user-{u}~{1000 * u + 60 * n}~item-{(u * (1 + n % 3) + n) % 11}" for u in range(30) for n in range(8)]
    (tmp_path / "shop").write_text("\n".join(lines))
    settings = ["model.history.encoder=newest", "optimiser.epochs=1", "model.backbone.width=8", "model.history.width=8"]
    words = [word for setting in settings for word in ("--set", setting)]
    found = toys(
        "compare", "shop", "--out", tmp_path / "out", "--backbones", "mean", "--methods", "base,duet",
        "--seeds", "1", "--jobs", "1", "--staleness", "0", "--cloud-model", "none", "--policies", "once,always",
        *words, "--json", DUETGEN_DATA=tmp_path, DUETGEN_CACHE=tmp_path / "cache",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    results = json.loads(found.stdout)
    assert results["complete"]
    cells = {cell["method"]: cell for cell in results["cells"]}
    assert {cell["backbone"] for cell in cells.values()} == {"mean"}
    run = next((tmp_path / "out/cells").glob("mean-duet-0/**/config.toml")).read_text()
    assert 'encoder = "newest"' in run
    manifest = json.loads((tmp_path / "cache/datasets/shop/manifest.json").read_text())
    assert (manifest["source"]["kind"], manifest["counts"]["events"]) == ("tildes", 240)
    assert cells["base"]["policies"] == []
    once, always = cells["duet"]["policies"]
    assert (once["policy"], once["requests"], always["policy"]) == ("once", 1, "always")
    targets = cells["duet"]["protocols"][0]["targets"] / cells["duet"]["protocols"][0]["devices"]
    assert always["requests"] == pytest.approx(targets)
    assert once["zero"] == always["zero"]


def with_toys(words: list[str]) -> None:
    """The same in a process that has torch already."""
    from tests.toys import main

    main(words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "device nothing --cloud http://127.0.0.1:1 --policy twice",
            "give one of always, every:N, after:SECONDS, drift:THRESHOLD, once",
        ),
        ("device nothing --cloud http://127.0.0.1:1 --policy once", "nothing is not a bundle"),
        ("compare nothing --out nowhere --policies once,twice", "--policies has no 'twice'"),
    ],
)
def test_a_policy_of_a_toy(words: str, told: str, tmp_path: Path) -> None:
    process = forked.start(with_toys, words.split(), told=tmp_path / "told")
    process.join()
    assert process.exitcode
    assert told in (tmp_path / "told").read_text()


def number(text: str) -> float:
    """A number as pages write it: 2³¹ − 1, 10,000, 1e-9."""
    base, power, less = re.fullmatch(r"([\d.,e-]+?)([⁰¹²³⁴⁵⁶⁷⁸⁹]*)( − 1)?", text).groups()  # type: ignore[union-attr]
    value = float(base.replace(",", ""))
    digits = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789"))
    return value ** int(digits or 1) - bool(less)


def test_the_page_of_settings_has_the_range_of_each_number() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \|[^|]*\|[^|]*\|([^|]*)\|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE
    )
    told = {name: range_.strip().split(" to ") for name, range_ in rows}
    for name, _, low, high in ranges(TrainConfig()):
        least, most = told[name]
        assert number(least) == low, name
        if most[0].isdigit():
            assert number(most) == high, name
        else:  # Another setting.
            assert most.strip("`").startswith(("width", "model.")), name


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
        ("docs/concepts/data.md", KINDS_OF_LOGS),
    ],
)
def test_pages_name_what_the_tables_have(page: str, names: Any) -> None:
    text = (ROOT / page).read_text()
    assert [name for name in names if f"`{name}" not in text] == []
