"""The documentation against the code: its Python runs, its links lead somewhere, and nothing lacks its page."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import duetgen
from duetgen.errors import DuetError

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def all_errors() -> list[type[DuetError]]:
    for module in pkgutil.walk_packages(duetgen.__path__, "duetgen."):
        importlib.import_module(module.name)
    found, waiting = [], [DuetError]
    while waiting:
        for error in waiting.pop().__subclasses__():
            found.append(error)
            waiting.append(error)
    return [error for error in found if error.__module__.startswith("duetgen")]


@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=lambda p: p.name)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(BLOCK.findall(page.read_text()))
    exec(compile(code, str(page), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http", "mailto:")):
            assert (page.parent / target).exists(), target


def test_every_error_has_a_page_of_its_code() -> None:
    errors = all_errors()
    assert len(errors) > 8
    for error in errors:
        page = ROOT / "docs/errors" / f"{error.code}.md"
        assert page.is_file(), f"{error.__name__} has no page {page.name}"
        assert page.read_text().startswith(f"# {error.code}\n")


def test_every_page_of_an_error_has_its_error() -> None:
    codes = {error.code for error in all_errors()}
    assert {page.stem for page in (ROOT / "docs/errors").glob("*.md")} - {"index"} == codes | {"usage"}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name in navigation or name.startswith("errors/"), name


def test_every_package_has_its_page_of_the_api() -> None:
    packages = {path.parent.name for path in (ROOT / "src/duetgen").glob("*/__init__.py")} - {"cli"}
    assert packages == {page.stem for page in (ROOT / "docs/api").glob("*.md")} - {"errors", "recommender"}
