"""The OpenAPI description and the page made from it: examples that hold, errors that can happen, one shape for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from fastapi.testclient import TestClient

from engine.api import examples
from engine.api.app import api
from engine.api.docs import docs_page, examples_of

DESCRIPTION = api.openapi()
SCHEMAS = DESCRIPTION["components"]["schemas"]


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            if operation["tags"] != ["DICOMweb"]:  # of the standard's own shapes
                yield f"{method.upper()} {path}", operation


OPERATIONS = list(operations())


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "request", kind, content
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            yield status, kind, content


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_request_and_answer_has_an_example_that_fits_its_schema(name: str, operation: dict) -> None:
    for where, kind, content in contents(operation):
        found = examples_of(content, SCHEMAS)
        assert found, f"{name}: no example of the {where} as {kind}"
        for example in found:
            schema = {**content["schema"], "components": {"schemas": SCHEMAS}}
            jsonschema.Draft202012Validator(schema).validate(example)


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_refusal_that_can_happen_is_described_in_the_one_shape(name: str, operation: dict) -> None:
    statuses = set(operation["responses"])
    if operation.get("security"):
        assert {"401", "403", "429", "500", "503"} <= statuses
    if "{study_id}" in name:
        assert "404" in statuses
    if "requestBody" in operation:
        assert {"400", "413", "422"} <= statuses
    for status in statuses - {"200", "201", "304"}:
        content = operation["responses"][status]["content"]["application/json"]["schema"]
        shapes = [one["$ref"] for one in content.get("anyOf", [content])]
        for shape in shapes:
            assert "error" in SCHEMAS[shape.rsplit("/", 1)[-1]]["required"], (name, status)


def test_writes_take_a_key_and_reads_take_an_etag() -> None:
    for name, operation in OPERATIONS:
        headers = {one["name"].lower() for one in operation.get("parameters", []) if one["in"] == "header"}
        if name.startswith("POST") and "analyze" not in name:  # an analysis stores nothing that could come twice
            assert "idempotency-key" in headers, name
        if name.startswith("GET") and ("queue" in name or "studies" in name):
            assert "if-none-match" in headers, name


def test_the_examples_of_a_read_are_reads(client: TestClient) -> None:
    assert sum(examples.PROBABILITIES.values()) == pytest.approx(1)
    low, high = examples.SCORED_READ["interval_months"]
    assert low <= examples.SCORED_READ["median_months"] <= high


def test_the_page_shows_scopes_examples_and_errors() -> None:
    page = docs_page(DESCRIPTION, "/api")
    for name, operation in OPERATIONS:
        begin = page.index(f'<h2 id="{operation["operationId"]}">')
        part = page[begin : page.index("<h2", begin + 4)]
        if operation.get("security"):
            [scope] = operation["security"][0]["token"]
            assert f'<code class="scope">{scope}</code>' in part, name
            assert "not_signed_in" in part and "too_many_requests" in part, name
        if "requestBody" in operation:
            assert "Sent, for example" in part, name
        if "pixels" not in name:
            assert "Answered, for example" in part, name
    assert "curl -F image=@film.dcm -F sex=F" in page
    assert "&quot;verdict&quot;: &quot;confirmed&quot;" in page
