"""The plan of `benchmarks/quality.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from duetgen.backbones import BACKBONES
from duetgen.comparison.methods.table import METHODS

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("quality", FOLDER / "quality.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["quality"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_every_cell_can_be_run_and_shown(quality: ModuleType) -> None:
    pages, seen = sys.modules["quality_pages"], dict[str, object]()
    for cell, plan in quality.CELLS.items():
        dataset, device = cell.split("/")
        assert set(plan.methods) <= set(METHODS)
        assert len(set(plan.methods)) == len(plan.methods)
        assert dataset in quality.INPUTS
        assert dataset in pages.DATASETS
        assert device in pages.DEVICES
        assert device.partition("-")[0] in BACKBONES
        assert (plan.width is not None) == ("-" in device)
        # A cloud model that is taken was trained before, on the same dataset, by its first seed.
        if plan.cloud_of is not None:
            assert plan.cloud_of.split("/")[0] == dataset
            assert "cloud" in seen[plan.cloud_of].methods  # type: ignore[attr-defined]
        seen[cell] = plan
