"""What a device downloads: files of versions, whole or in part; and nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from duetgen.cloud.models import archive
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


@pytest.mark.parametrize("path", ["{m}", "latest", "latest?device=d-1"])
def test_a_version_comes_as_one_tar_file(client: Any, version: Path, model_id: str, path: str) -> None:
    response = client.get("/v1/models/" + path.format(m=model_id))
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-tar")
    assert response.headers["content-length"] == str(len(response.content))
    assert ("immutable" in response.headers["cache-control"]) == (path == "{m}")
    with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
        found = [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]
    names = ["manifest.json", "signature.json", "canary.json", "items.json", "device.onnx"]
    assert found == [(name, (version / name).read_bytes()) for name in names]


def test_a_file_that_is_longer_than_a_piece_comes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duetgen.cloud.models.PIECE", 7)
    sizes = {}
    for size in (0, 6, 7, 8, 512, 513):
        path = tmp_path / str(size)
        path.write_bytes(b"x" * size)
        sizes[path] = size
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive(sizes)))) as found:
        assert [(int(member.name), member.size) for member in found] == [(size, size) for size in sizes.values()]


def test_etag_is_the_digest_that_the_manifest_names(client: Any, version: Path, model_id: str) -> None:
    digest = open_bundle(version).manifest.files["device.onnx"].sha256
    assert client.get(f"/v1/models/{model_id}/device.onnx").headers["etag"] == f'"{digest}"'


@pytest.mark.parametrize(
    "span",
    ["bytes=99999999-", "bytes=5-2", "bytes=-0", "bytes=-", "bytes=a-b", "bytes=", "bytes=99999999-,5-2"],
)
def test_range_that_the_file_does_not_have_refused(client: Any, model_id: str, span: str) -> None:
    response = client.get(f"/v1/models/{model_id}/items.json", headers={"range": span, "accept": JSON})
    refused(response, 416, "invalid-range")
    size = len(client.get(f"/v1/models/{model_id}/items.json").content)
    assert response.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize("span", ["lines=1-2", "bytes=0-1,3-4", "bytes=0-1,99999999-", "nonsense"])
def test_range_that_need_not_be_understood_gives_the_whole(client: Any, model_id: str, span: str) -> None:
    response = client.get(f"/v1/models/{model_id}/items.json", headers={"range": span})
    assert (response.status_code, "content-range" in response.headers) == (200, False)


def test_range_beyond_the_end_is_cut_and_counts_for_get_alone(client: Any, version: Path, model_id: str) -> None:
    path, content = f"/v1/models/{model_id}/items.json", (version / "items.json").read_bytes()
    for span in ("bytes=10-99999999", "bytes=10-", f"bytes=-{len(content) - 10}", "Bytes = 10-"):
        response = client.get(path, headers={"range": span})
        assert (response.status_code, response.content) == (206, content[10:])
        assert response.headers["content-range"] == f"bytes 10-{len(content) - 1}/{len(content)}"
    assert client.head(path, headers={"range": "bytes=10-"}).status_code == 200
    assert client.get(path, headers={"range": "bytes=99999999-", "if-range": '"other"'}).status_code == 200


def test_conditions_of_a_request(client: Any, model_id: str) -> None:
    path = f"/v1/models/{model_id}/items.json"
    tag = client.get(path).headers["etag"]
    for tags, status in (("*", 304), (tag, 304), (f"W/{tag}", 304), (f'"a", {tag}', 304), ('"a"', 200), ("", 200)):
        assert client.get(path, headers={"if-none-match": tags}).status_code == status
    several = [("if-none-match", '"a"'), ("if-none-match", tag)]
    assert client.get(path, headers=several).status_code == 304
    for tags in ("*", tag):
        assert client.get(path, headers={"if-match": tags}).status_code == 200
    for tags in ('"a"', f"W/{tag}"):
        refused(client.get(path, headers={"if-match": tags}), 412, "precondition-failed")
    assert "last-modified" not in client.get(path).headers


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
        refused(client.get("/v1/models/latest", headers={"accept": JSON}), 503, "not-ready")


def test_unknown_paths_and_methods_have_codes(client: Any) -> None:
    refused(client.get("/nothing"), 404, "not-found")
    for method, path, allowed in (
        ("GET", "/v1/parameters", {"POST"}),
        ("PUT", "/v1/parameters:batch", {"POST"}),
        ("HEAD", "/v1/parameters", {"POST"}),
        ("DELETE", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("BREW", "/v1/models", {"GET", "HEAD"}),
    ):
        response = client.request(method, path)
        assert response.status_code == 405
        assert set(response.headers["allow"].split(", ")) == allowed
        if method != "HEAD":
            refused(response, 405, "method-not-allowed")


@pytest.mark.parametrize("query", ["device=%F0%9F%98%80", "device=", "device=a/b", "device=a%0A", "device=a&device=b"])
def test_device_of_a_malformed_id_refused(client: Any, query: str) -> None:
    for path in ("/v1/models", "/v1/models/latest"):
        refused(client.get(f"{path}?{query}"), 400, "invalid-request")
