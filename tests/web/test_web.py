"""The browser device and its pages: types, units on the golden files, sizes, and a browser against a real cloud."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from .conftest import ROOT, Node

LOADED = {"index.js": 900, "worker.js": 14_000, "asking-worker.js": 5_250}
"""The most bytes, gzipped, of what a page with a SASRec loads; the last file asks for theta."""
RANKING = 15_000
"""The most of what a ranking needs."""


def test_types(node: Node) -> None:
    node("tsc", "--noEmit")


def test_units(node: Node) -> None:
    assert "passed" in node("vitest", "run")


def test_units_of_the_built_package(node: Node, package: Path) -> None:
    assert "passed" in node("vitest", "run", "tests/device.test.ts", "tests/sessions.test.ts", DUET_DIST=package)


def test_the_pages_in_the_package_are_the_build_of_their_sources(node: Node, tmp_path: Path) -> None:
    for page in ("demo", "dashboard"):
        node("vite", "build", "--mode", page, "--logLevel", "error", DUET_PAGES=tmp_path / "static")
    assert tree(ROOT / "src/duetgen/cloud/static") == tree(tmp_path / "static")


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_a_page_loads_is_small(package: Path) -> None:
    sizes = {name: len(gzip.compress((package / name).read_bytes(), 9)) for name in LOADED}
    assert all(sizes[name] <= most for name, most in LOADED.items()), sizes
    assert sizes["index.js"] + sizes["worker.js"] <= RANKING, sizes


def test_no_lock_file_names_a_registry() -> None:
    assert '"resolved"' not in (ROOT / "web/package-lock.json").read_text()


@pytest.mark.parametrize("spec", ["demo", "dashboard", "page"])
def test_in_a_browser(browse: Node, spec: str) -> None:
    assert "passed" in browse(f"{spec}.spec.ts")
