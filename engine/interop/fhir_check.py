"""What a FHIR bundle has to hold before it leaves.

fhir.resources checks the shape, and takes any status and any code. What receivers rely on beyond that is checked here:
the required value sets, our code table, UCUM units, references that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError

from engine.errors import DocumentRefused
from engine.interop.codes import SYSTEMS, table

# Required bindings of the elements used here: https://hl7.org/fhir/R4B/
REQUIRED = {
    ("Bundle", "type"): {"transaction", "collection"},
    ("DiagnosticReport", "status"): {"final", "corrected", "entered-in-error"},  # of those, the ones that are used
    ("Observation", "status"): {"final", "corrected", "entered-in-error"},
    ("ImagingStudy", "status"): {"available"},
    ("Device", "status"): {"active"},
}
CATEGORIES = {
    "Observation": {("observation-category", "imaging")},
    "DiagnosticReport": {("v2-0074", "RAD"), ("v2-0074", "IMG")},
}
OTHER_SYSTEMS = {"urn:ietf:rfc:3986", "urn:dicom:uid"}  # of identifiers and SOP classes


def check(bundle: dict[str, Any]) -> None:
    """Raises DocumentRefused with everything that is wrong."""
    wrong = problems(bundle)
    if wrong:
        raise DocumentRefused("fhir_not_valid", f"the FHIR bundle is not valid: {'; '.join(wrong)}")


def problems(bundle: dict[str, Any]) -> list[str]:
    try:
        Bundle.model_validate(bundle)
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    resources = [bundle, *(entry["resource"] for entry in bundle["entry"])]
    places = {entry["fullUrl"] for entry in bundle["entry"]}
    return [
        *_wrong_requests(bundle),
        *(problem for one in resources for problem in _wrong_bindings(one)),
        *(problem for one in _objects(bundle) for problem in (*_wrong_coding(one), *_wrong_quantity(one))),
        *(
            f"{one['reference']} is not in the bundle"
            for one in _objects(bundle)
            if "reference" in one and one["reference"] not in places
        ),
    ]


def codes_in(bundle: dict[str, Any]) -> set[tuple[str, str]]:
    """(scheme, code) of everything coded in it."""
    schemes = {system: scheme for scheme, system in SYSTEMS.items()}
    return {
        (schemes.get(one["system"], one["system"]), one["code"])
        for one in _objects(bundle)
        if "code" in one and "system" in one and one["system"] not in OTHER_SYSTEMS
    }


def _wrong_requests(bundle: dict[str, Any]) -> Iterator[str]:
    """Everything has to say how sending it twice is told from sending two."""
    for entry in bundle["entry"]:
        request = entry.get("request", {})
        kind = entry["resource"]["resourceType"]
        is_update = request.get("method") == "PUT" and request.get("url", "").startswith((f"{kind}?", f"{kind}/"))
        if not (is_update or (request.get("method") == "POST" and request.get("ifNoneExist"))):
            yield f"{kind}: sent twice, it would be there twice"


def _wrong_bindings(resource: dict[str, Any]) -> Iterator[str]:
    kind = resource["resourceType"]
    for (of_kind, element), allowed in REQUIRED.items():
        if kind == of_kind and resource.get(element) not in allowed:
            yield f"{kind}.{element} must be one of {', '.join(sorted(allowed))}, found {resource.get(element)!r}"
    if kind in CATEGORIES:
        given = {
            (coding.get("system"), coding.get("code"))
            for one in resource.get("category", ())
            for coding in one.get("coding", ())
        }
        if not given & {(SYSTEMS[scheme], code) for scheme, code in CATEGORIES[kind]}:
            yield f"{kind}.category must say that it is imaging"
    if kind == "Observation":
        is_valued = any(name.startswith("value") for name in resource)
        if is_valued == ("dataAbsentReason" in resource):
            yield "Observation must have a value or a dataAbsentReason, and not both"


def _wrong_coding(one: dict[str, Any]) -> Iterator[str]:
    if "code" not in one or not isinstance(one["code"], str) or "value" in one or one.get("system") in OTHER_SYSTEMS:
        return
    key = (one.get("system"), one["code"])
    if key not in _meanings():
        yield f"{key[0]} {key[1]} is not in engine/interop/codes.csv"
    elif one.get("display") != _meanings()[key]:
        yield f"{key[0]} {key[1]} means {_meanings()[key]!r}, found {one.get('display')!r}"


@cache
def _meanings() -> dict[tuple[str | None, str], str]:
    return {(row.system, row.code): row.text for row in table().values() if row.scheme in SYSTEMS}


def _wrong_quantity(one: dict[str, Any]) -> Iterator[str]:
    if not ("value" in one and isinstance(one["value"], int | float)):
        return
    units = {row.code for row in table().values() if row.scheme == "UCUM"}
    if one.get("system") != SYSTEMS["UCUM"] or one.get("code") not in units:
        yield f"the unit of {one['value']} must be a UCUM code, found {one.get('system')} {one.get('code')}"


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object within."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _objects(child)
