"""What a device downloads: files of versions, whole or in part; and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duetgen.wire.bundle import open_bundle
from duetgen.wire.messages import ModelsAnswer

from .conftest import TestClient
from .test_parameters import JSON, read, refused


@pytest.fixture
def model_id(version: Path) -> str:
    return open_bundle(version).manifest.model_id


def test_versions_in_service_are_listed(client: Any, version: Path, model_id: str) -> None:
    found = read(client.get("/v1/models", headers={"accept": JSON}), ModelsAnswer)
    sizes = [(version / name).stat().st_size for name in ("device.onnx", "items.json", "canary.json")]
    assert found.latest == model_id
    assert [(model.model_id, model.backbone, model.bytes) for model in found.models] == [
        (model_id, "sasrec", sum(sizes))
    ]


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "device.onnx", "items.json", "canary.json"])
def test_files_are_what_was_published_and_may_be_kept_for_ever(
    client: Any, version: Path, model_id: str, name: str
) -> None:
    response = client.get(f"/v1/models/{model_id}/{name}")
    content = (version / name).read_bytes()
    assert response.content == content
    assert "immutable" in response.headers["cache-control"]
    tag = response.headers["etag"]
    again = client.get(f"/v1/models/{model_id}/{name}", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    part = client.get(f"/v1/models/{model_id}/{name}", headers={"range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, content[10:30])
    rest = client.get(f"/v1/models/{model_id}/{name}", headers={"range": "bytes=30-", "if-range": tag})
    assert (rest.status_code, rest.content) == (206, content[30:])
    whole = client.get(f"/v1/models/{model_id}/{name}", headers={"range": "bytes=30-", "if-range": '"other"'})
    assert (whole.status_code, whole.content) == (200, content)


def test_etag_is_the_digest_that_the_manifest_names(client: Any, version: Path, model_id: str) -> None:
    digest = open_bundle(version).manifest.files["device.onnx"].sha256
    assert client.get(f"/v1/models/{model_id}/device.onnx").headers["etag"] == f'"{digest}"'


@pytest.mark.parametrize(
    "span",
    ["bytes=99999999-", "bytes=5-2", "bytes=-0", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=" * 100],
)
def test_range_that_the_file_does_not_have_refused(client: Any, model_id: str, span: str) -> None:
    response = client.get(f"/v1/models/{model_id}/items.json", headers={"range": span, "accept": JSON})
    refused(response, 416, "invalid-range")


@pytest.mark.parametrize(
    "path",
    [
        "{m}/generator.onnx",
        "{m}/tokens.sqlite",
        "{m}/../{m}/generator.onnx",
        "{m}/..%2f..%2fetc%2fpasswd",
        "{m}/%2e%2e/%2e%2e/etc/passwd",
        "{m}/..\\..\\etc\\passwd",
        "{m}/manifest.json%00",
        "{m}//manifest.json",
        "..%2f{m}/manifest.json",
        "latest/manifest.json",
        "{m}",
        "0" * 64 + "/manifest.json",
        "%ff%fe/manifest.json",
    ],
)
def test_path_traversal_and_files_that_are_not_for_devices_refused(client: Any, model_id: str, path: str) -> None:
    response = client.get("/v1/models/" + path.format(m=model_id), headers={"accept": JSON})
    assert response.status_code == 404
    assert response.json()["code"] in ("not-found", "unknown-model")


def test_file_changed_after_it_was_verified_is_not_sent(tmp_path: Path) -> None:
    from duetgen.cloud import ServiceConfig, create_app

    from .versions import make_version

    model_id = make_version(tmp_path / "bundle")
    with TestClient(create_app(ServiceConfig(sources=(str(tmp_path / "bundle"),), poll_seconds=60))) as client:
        (tmp_path / "bundle/items.json").write_bytes(b"other")
        response = client.get(f"/v1/models/{model_id}/items.json", headers={"accept": JSON})
        refused(response, 503, "not-ready")


def test_unknown_paths_and_methods_have_codes(client: Any) -> None:
    refused(client.get("/nothing"), 404, "not-found")
    refused(client.get("/v1/parameters"), 405, "method-not-allowed")
    refused(client.put("/v1/models"), 405, "method-not-allowed")
    refused(client.post("/healthz"), 405, "method-not-allowed")
