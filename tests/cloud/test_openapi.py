"""The OpenAPI document against the service that it describes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from .conftest import Live


@pytest.fixture(scope="module")
def described(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a live service."""
    service = Live(tmp_path_factory.mktemp("openapi"), version, "--open", "--rate", "0")
    yield schemathesis.openapi.from_url(service.url + "/openapi.json")
    assert service.stop() == 0


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_input_makes_the_service_fail(case: Any) -> None:
    response = case.call()
    case.validate_response(response, checks=[not_a_server_error])
    assert response.status_code < 500
    if response.status_code >= 400:
        assert response.headers["content-type"] in ("application/json", "application/msgpack")


def test_document_names_every_endpoint_and_error(client: Any) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/parameters",
        "/v1/parameters:batch",
        "/v1/models",
        "/v1/models/{model_id}/{file}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    }
    assert set(document["components"]["schemas"]) >= {"ParametersRequest", "ParametersAnswer", "ErrorAnswer"}
