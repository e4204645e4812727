"""A FHIR server that does what the specification says of a transaction with conditional requests, and no more; every
resource is read by fhir.resources."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fhir.resources.R4B import get_fhir_model_class

from tests.engine.interop.sending.counterparts import Asked


@dataclass
class FhirDouble:
    """`resources` by type, then by its own id. Pass `answer` to a WebServer."""

    resources: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    transactions: int = 0

    def answer(self, asked: Asked) -> tuple[int, str, bytes]:
        bundle = json.loads(asked.body)
        assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
        self.transactions += 1
        responses = [self._do(entry["request"], entry["resource"]) for entry in bundle["entry"]]
        said = {"resourceType": "Bundle", "type": "transaction-response", "entry": responses}
        return 200, "application/fhir+json", json.dumps(said).encode()

    def _do(self, request: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
        kind = resource["resourceType"]
        get_fhir_model_class(kind).model_validate(resource)
        here = self.resources.setdefault(kind, {})
        kind_asked, _, query = request.get("url").partition("?")
        named = kind_asked.partition("/")[2]
        query = request.get("ifNoneExist") or query
        matches = [own for own, one in here.items() if query and _matches(one, query)]
        assert len(matches) <= 1, "412 Precondition Failed"
        own = named or (matches[0] if matches else str(len(here) + 1))
        is_there = own in here
        if request["method"] == "PUT" or not is_there:
            here[own] = resource
        status = "200 OK" if is_there else "201 Created"
        return {"response": {"status": status, "location": f"{kind}/{own}/_history/1"}}


def _matches(resource: dict[str, Any], query: str) -> bool:
    ((parameter, wanted),) = parse_qsl(query)
    assert parameter == "identifier"
    return wanted in {f"{one['system']}|{one['value']}" for one in resource.get("identifier", ())}
