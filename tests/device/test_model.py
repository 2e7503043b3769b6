"""The device model: what it asks of the graph, and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duetgen.device import DeviceModel, load_model
from duetgen.device.errors import InvalidDeviceConfigError

from .conftest import WINDOW, Tiny


class Fatal:
    """A graph that ends the process when it is run, as a recurrent one does that is given no row."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the graph was asked for {name}")


@pytest.fixture
def model(tiny: Tiny) -> DeviceModel:
    return load_model(tiny.root)


def test_rows_score_as_each_does_alone(tiny: Tiny, model: DeviceModel) -> None:
    window_BL = np.array([[3, 7, 0, 0, 0], [9, 0, 0, 0, 0]])
    found_BC = model.score_rows(window_BL, np.array([[2, 5], [5, 11]]))
    np.testing.assert_allclose(
        found_BC, [tiny.scores([3, 7], [2, 5], None), tiny.scores([9], [5, 11], None)], atol=1e-5
    )


def test_many_candidates_are_scored_in_pieces(tiny: Tiny, model: DeviceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_V = model.score_catalogue(model.zeros_P, [3, 7])
    monkeypatch.setattr("duetgen.device.model.PIECE", 3)
    np.testing.assert_allclose(model.score_catalogue(model.zeros_P, [3, 7]), whole_V, atol=1e-6)
    assert model.score(model.zeros_P, [3, 7], range(2, 9)).tolist() == pytest.approx(whole_V[2:9].tolist(), abs=1e-6)


@pytest.mark.parametrize(("rows", "candidates"), [(0, 3), (3, 0), (0, 0)])
def test_no_rows_or_no_candidates_never_reach_the_graph(model: DeviceModel, rows: int, candidates: int) -> None:
    model.session = Fatal()  # type: ignore[assignment]
    window_BL = np.zeros((rows, WINDOW), dtype=np.int64)
    assert model.score_rows(window_BL, np.zeros((rows, candidates), dtype=np.int64)).shape == (rows, candidates)
    assert model.score(model.zeros_P, [3], []).shape == (0,)
    assert model.score(model.zeros_P, [3], np.zeros(0, dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize("root", [None, 7, b"bundle", "", "a\0b", "\ud800", ["bundle"]])
def test_what_is_no_path_is_refused(root: Any) -> None:
    with pytest.raises(InvalidDeviceConfigError, match="bundle"):
        load_model(root)


def test_onnx_runtime_tells_nobody_what_it_runs(tiny: Tiny, tmp_path: Path) -> None:
    """Since 1.29 it keeps an id in the home folder, and what it will send."""
    environment = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    loads = f"from duetgen.device import load_model; load_model({str(tiny.root)!r})"
    subprocess.run([sys.executable, "-c", loads], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
