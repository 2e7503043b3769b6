"""The pages that the service shows: what is there, and what goes with it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from duetgen.cloud import ServiceConfig, create_app

from .conftest import Live


def client(version: Path, demo: bool) -> TestClient:
    return TestClient(create_app(ServiceConfig(sources=(str(version),), demo=demo)))


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/demo/", "text/html"),
        ("/demo/worker.js", "text/javascript"),
        ("/demo/sw.js", "text/javascript"),
        ("/dashboard/", "text/html"),
        ("/demo/icon.svg", "image/svg+xml"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ],
)
def test_a_page_and_its_files_load_nothing_from_elsewhere(version: Path, path: str, media: str) -> None:
    with client(version, demo=True) as made:
        found = made.get(path)
        again = made.get(path, headers={"if-none-match": found.headers["etag"]})
    assert (found.status_code, found.headers["content-type"].partition(";")[0]) == (200, media)
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert found.headers["x-content-type-options"] == "nosniff"
    assert b"http://" not in found.content.replace(b"http://www.w3.org/2000/svg", b"")
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/demo/", "/dashboard/"])
def test_a_page_comes_with_its_script_and_its_styles_and_may_run_no_others(version: Path, path: str) -> None:
    with client(version, demo=True) as made:
        found = made.get(path)
    assert (found.text.count("<script"), found.text.count("<style"), found.text.count("stylesheet")) == (1, 1, 0)
    for kind in ("script", "style"):
        inside = found.text.partition(f"<{kind}")[2].partition(">")[2].partition(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"; {kind}-src 'self' 'sha256-{digest}';" in found.headers["content-security-policy"]


def test_a_folder_leads_to_its_page(version: Path) -> None:
    with client(version, demo=True) as made:
        found = made.get("/demo", follow_redirects=False)
    assert (found.status_code, found.headers["location"]) == (307, "demo/")


@pytest.mark.parametrize(
    "path", ["/demo/nothing.js", "/dashboard/..%2fpages.py", "/demo/..%2f..%2fpages.py", "/assets/", "/dashboard/sw.js"]
)
def test_nothing_else_is_there(version: Path, path: str) -> None:
    with client(version, demo=True) as made:
        found = made.get(path)
    assert (found.status_code, found.json()["code"]) == (404, "not-found")


def test_the_demo_is_shown_only_where_it_is_asked_for(version: Path) -> None:
    with client(version, demo=False) as made:
        assert [made.get(path).status_code for path in ("/demo/", "/demo/worker.js", "/demo/icon.svg")] == [404] * 3
        assert made.get("/dashboard/").status_code == 200


def test_an_answer_says_how_long_it_took(version: Path) -> None:
    with client(version, demo=False) as made:
        found = made.post("/v1/parameters", json={"model_id": "latest", "device": "d", "history": [3]})
    name, _, duration = found.headers["server-timing"].partition(";dur=")
    assert name == "cloud"
    assert float(duration) > 0


def test_serve_says_where_the_demo_is_and_is_open_without_tokens(version: Path, live: Callable[..., Live]) -> None:
    service = live(version, "--demo")
    assert service.ready["mode"] == "open"
    assert service.ready["demo"] == f"{service.url}/demo/"
    with service.client() as made:
        assert made.get("/demo/").status_code == 200
