"""Imports among readers, catalogue and description go one way, those for types and those inside functions too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import duetgen

ROOT = Path(duetgen.__file__).parent


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("part", ["data/sources", "data/catalogue", "data/describe"])
def test_no_circle(part: str) -> None:
    files = {module_of(path): path for path in (ROOT / part).rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        graph[name] = found & set(files) - {name}
    assert len(list(TopologicalSorter(graph).static_order())) == len(files)
