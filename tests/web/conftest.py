"""Node and Chromium, where they can be had: the tests of `web/` run with them, and are skipped elsewhere."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
NODE = 20
INSTALL_SECONDS = 300

Node = Callable[..., str]


def run(*command: str | Path, timeout: float = 900, **environment: str | Path) -> str:
    """What a command in `web/` says; a failing one fails the test with all of it."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=WEB,
        env=os.environ | {name: str(value) for name, value in environment.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def installed() -> str:
    """Why the packages of `web/` are not here; empty if they are, or could be installed now."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no Node here"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    match = re.match(r"v(\d+)", version)
    if match is None or int(match[1]) < NODE:
        return f"Node {version.strip()} is here, {NODE} is needed"
    mark, lock = WEB / "node_modules/.package-lock.json", WEB / "package-lock.json"
    if mark.is_file() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return ""
    try:
        subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=WEB, check=True, capture_output=True, timeout=INSTALL_SECONDS
        )
    except (subprocess.SubprocessError, OSError):
        return "the packages of web/ cannot be installed here"
    mark.touch()
    return ""


@pytest.fixture(scope="session")
def node() -> Node:
    """`node(TOOL, …)` runs a tool of `web/node_modules`."""
    with (Path(__file__).parent / "__init__.py").open("rb") as lock:
        # Workers of one run must not install at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason = installed()
    if reason:
        pytest.skip(reason)

    def call(tool: str, *arguments: str | Path, **environment: str | Path) -> str:
        return run(WEB / "node_modules/.bin" / tool, *arguments, **environment)

    return call


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here")
    return found


@pytest.fixture(scope="session")
def package(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is published."""
    out = tmp_path_factory.mktemp("web") / "dist"
    node("vite", "build", "--config", "vite.package.ts", "--outDir", out, "--logLevel", "error")
    return out


@pytest.fixture(scope="session")
def web_bundles(advised_folder: Path, bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, `first` and `second`."""
    root = tmp_path_factory.mktemp("bundles")
    shutil.copytree(advised_folder, root / "first")
    shutil.copytree(bundle_folder, root / "second")
    return root


@pytest.fixture(scope="session")
def browse(
    node: Node, chromium: str, package: Path, web_bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> Node:
    """`browse(SPEC)` runs tests in a browser, against clouds of their own."""

    def call(spec: str, **environment: str | Path) -> str:
        return node(
            "playwright",
            "test",
            spec,
            DUET_PYTHON=sys.executable,
            DUET_BUNDLES=web_bundles,
            DUET_DIST=package,
            DUET_CHROMIUM=chromium,
            DUET_RESULTS=tmp_path_factory.mktemp("results"),
            PYTHONPATH=ROOT / "src",
            **environment,
        )

    return call
