"""The OpenAPI document against the service that it describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from .conftest import Live


@pytest.fixture(scope="module")
def described(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a live service."""
    service = Live(tmp_path_factory.mktemp("openapi"), version, "--open", "--rate", "0")
    yield schemathesis.openapi.from_url(service.url + "/openapi.json")
    assert service.stop() == 0


def test_no_input_makes_the_service_fail(described: Any) -> None:
    seen = set()
    for found in described.get_all_operations():
        operation = found.ok()
        seen.add(operation.path)

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def attempt(case: Any) -> None:
            response = case.call()
            assert response.status_code < 500, response.content
            if response.status_code >= 400:
                assert response.headers["content-type"][0] in ("application/json", "application/msgpack")

        attempt()
    # It leaves out the path of the document itself.
    assert len(seen) == 8


def test_document_names_every_endpoint_and_error(client: Any) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/parameters",
        "/v1/parameters:batch",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/models/{model_id}/{file}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }
    assert set(document["components"]["schemas"]) >= {"ParametersRequest", "ParametersAnswer", "ErrorAnswer"}
