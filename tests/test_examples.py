"""The examples, run whole: what each prints is what it shows."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_device_is_right_with_its_own_theta_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(path.read_text().splitlines()) < 150
    accuracy = runpy.run_path(str(path))["main"]()
    assert accuracy["own theta"] > 0.85
    assert accuracy["own theta"] > accuracy["theta = 0"] + 0.2
    assert accuracy["own theta"] > accuracy["another's theta"] + 0.2
    printed = capsys.readouterr().out
    assert all(f"{name}: {value:.1%}" in printed for name, value in accuracy.items())
