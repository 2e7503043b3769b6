"""The OpenAPI document, made from the same structs that decode requests."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from duetgen import __version__
from duetgen.cloud.models import DOWNLOADS
from duetgen.wire.limits import MAX_HEADER_BYTES
from duetgen.wire.messages import (
    BatchAnswer,
    BatchRequest,
    DeviceId,
    ErrorAnswer,
    ModelsAnswer,
    ParametersAnswer,
    ParametersRequest,
)

MESSAGES: Final = (ParametersRequest, ParametersAnswer, BatchRequest, BatchAnswer, ModelsAnswer, ErrorAnswer)
REFUSALS: Final = {
    "400": "invalid-request or invalid-history",
    "401": "unauthenticated",
    "403": "forbidden",
    "404": "unknown-model or not-found",
    "405": "method-not-allowed",
    "408": "request-timeout",
    "412": "precondition-failed",
    "413": "body-too-large",
    "415": "unsupported-content",
    "416": "invalid-range",
    "429": "rate-limited",
    "431": "headers-too-large",
    "503": "overloaded, stopping, not-ready or tokens-unavailable",
}
BINARY: Final = {"type": "string", "format": "binary"}


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    _, schemas = msgspec.json.schema_components(MESSAGES, ref_template="#/components/schemas/{name}")
    schemas["DeviceId"] = msgspec.json.schema(DeviceId)
    model_id = {
        "name": "model_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    }
    file = {"name": "file", "in": "path", "required": True, "schema": {"type": "string", "enum": list(DOWNLOADS)}}
    conditions = [
        {
            "name": name,
            "in": "header",
            "schema": {"type": "string", "maxLength": MAX_HEADER_BYTES, "examples": [example]},
        }
        for name, example in (
            ("range", "bytes=1000-"),
            ("if-none-match", "*"),
            ("if-match", "*"),
            ("if-range", '"0"'),
        )
    ]
    device = {
        "name": "device",
        "in": "query",
        "description": "the device to tell `latest` for, where the token is not a device's",
        "schema": {"$ref": "#/components/schemas/DeviceId"},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "duetgen",
            "version": __version__,
            "description": "A device's recent behaviour in, the device's own parameters out. Bodies are JSON "
            "with bytes as base64, or msgpack. `accept` says which the answer shall be; where it does not, the answer "
            "has the format of the request's body, or is JSON. Every refusal has a code, explained in docs/errors.",
        },
        "security": [{"token": []}],
        "paths": {
            "/v1/parameters": {"post": exchange("A device's parameters", ParametersRequest, ParametersAnswer)},
            "/v1/parameters:batch": {"post": exchange("Parameters of many devices", BatchRequest, BatchAnswer)},
            "/v1/models": {
                "get": {
                    "summary": "Versions in service",
                    "parameters": [device],
                    "responses": {"200": answer(reference(ModelsAnswer), True), **refusals()},
                }
            },
            "/v1/models/{model_id}": {
                "get": {
                    "summary": "All that a device has of a version, `latest` or another",
                    "parameters": [
                        {**model_id, "schema": {"type": "string", "pattern": "^(latest|[0-9a-f]{64})$"}},
                        device,
                    ],
                    "responses": {
                        "200": {"description": "the files, as a tar file", "content": anything()},
                        **refusals(),
                    },
                }
            },
            "/v1/models/{model_id}/{file}": {
                "get": {
                    "summary": "A file of a version",
                    "parameters": [model_id, file, *conditions],
                    "responses": {
                        "200": {"description": "the file", "content": anything()},
                        "206": {"description": "the part asked for", "content": anything()},
                        "304": {"description": "the caller has it"},
                        **refusals(),
                    },
                }
            },
            "/healthz": {"get": plain("The process answers")},
            "/readyz": {"get": plain("There is something to serve, and its canary is right")},
            "/metrics": {
                "get": {
                    "summary": "Metrics for Prometheus",
                    "responses": {"200": {"description": "metrics", "content": anything()}, **refusals()},
                }
            },
            "/openapi.json": {"get": plain("This document")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def reference(kind: type) -> dict[str, str]:
    """A message, by its name."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def answer(schema: dict[str, str], both: bool) -> dict[str, Any]:
    """An answer, in both formats or as JSON alone."""
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if both:
        content["application/msgpack"] = {"schema": schema}
    return {"description": "done", "content": content}


def anything() -> dict[str, Any]:
    """Content that no schema describes."""
    return {"*/*": {"schema": BINARY}}


def refusals() -> dict[str, Any]:
    """The refusals that any endpoint may answer with."""
    schema = {"schema": reference(ErrorAnswer)}
    content = {"application/json": schema, "application/msgpack": schema}
    return {status: {"description": text, "content": content} for status, text in REFUSALS.items()}


def exchange(summary: str, asked: type, answered: type) -> dict[str, Any]:
    """An endpoint that takes one message and answers with another."""
    schema = {"schema": reference(asked)}
    return {
        "summary": summary,
        "requestBody": {
            "required": True,
            "content": {"application/json": schema, "application/msgpack": schema},
        },
        "responses": {"200": answer(reference(answered), True), **refusals()},
    }


def plain(summary: str) -> dict[str, Any]:
    """An endpoint without a token that answers with some JSON."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "summary": summary,
        "security": [],
        "responses": {"200": {"description": "done", "content": content}, **refusals()},
    }
