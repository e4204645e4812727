"""The FHIR bundle: valid by fhir.resources and by our own checks, which catch what that does not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation
from pydantic import ValidationError

from engine.errors import DocumentRefused
from engine.findings.answers import Task, bone_age_answer, fracture_answer
from engine.interop import fhir_check
from engine.interop.documents import documents_of, why_not
from engine.interop.signed_study import DocumentKind, SignedStudy
from engine.settings import settings
from tests.engine.interop import signed

FHIR = DocumentKind.FHIR_BUNDLE
KINDS = pytest.mark.parametrize("make", signed.EVERY_KIND.values(), ids=signed.EVERY_KIND)


def bundle_of(study: SignedStudy, *, with_comments: bool = False) -> dict[str, Any]:
    (document,) = documents_of(study, [FHIR], with_comments=with_comments)
    return json.loads(document.content)


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def components(observation: dict[str, Any]) -> dict[str, Any]:
    return {
        one["code"]["text"]: one.get("valueQuantity", {}).get("value", one.get("valueCodeableConcept", {}).get("text"))
        for one in observation["component"]
    }


@KINDS
def test_it_is_valid(make) -> None:
    bundle = bundle_of(make(), with_comments=True)
    Bundle.model_validate(bundle)
    assert fhir_check.problems(bundle) == []
    for kind, model in (("Observation", Observation), ("DiagnosticReport", DiagnosticReport)):
        for resource in resources(bundle, kind):
            model.model_validate(resource)


def test_bone_age() -> None:
    bundle = bundle_of(signed.bone_age())
    (observation,), (report,) = resources(bundle, "Observation"), resources(bundle, "DiagnosticReport")
    assert observation["code"]["coding"][0]["code"] == "85151-9"
    value = observation["valueQuantity"]
    assert (value["value"], value["system"], value["code"]) == (114, "http://unitsofmeasure.org", "mo")
    said = components(observation)
    assert (said["Subject Age"], said["Standard deviation of population"]) == (111.94, 9.79)
    assert (said["Z-Score of measurement"], said["Laterality"]) == (0.21, "Left")
    assert (report["status"], report["code"]["coding"][0]["code"]) == ("final", "37362-1")
    assert report["effectiveDateTime"] == "2026-03-03" and report["issued"] == "2026-03-04T09:30:15+00:00"
    assert report["conclusion"].startswith("Left hand: 9 y 6 m (114 months)")
    assert report["resultsInterpreter"][0]["display"] == "Anna Reader"


def test_each_eye_has_its_observation() -> None:
    right, left = resources(bundle_of(signed.both_eyes()), "Observation")
    assert [one["bodySite"]["coding"][0]["code"] for one in (right, left)] == ["18944008", "8966001"]
    assert right["valueCodeableConcept"]["coding"][0]["code"] == "408849009"
    assert components(right)["ROP zone (ICROP3)"] == "Zone I" and components(right)["Aggressive ROP (A-ROP)"] == "Yes"
    assert left["valueCodeableConcept"]["coding"][0]["code"] == "NO-ROP"
    uids = {one["derivedFrom"][1]["identifier"]["value"] for one in (right, left)}
    assert uids == {"urn:oid:1.2.826.0.1.3680043.8.498.1.1", "urn:oid:1.2.826.0.1.3680043.8.498.1.2"}


def test_every_finding_leads_to_its_dicom_study() -> None:
    bundle = bundle_of(signed.fracture())
    (imaging,), (observation,) = resources(bundle, "ImagingStudy"), resources(bundle, "Observation")
    study = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.0.1.3680043.8.498.77"}
    assert imaging["identifier"] == [study] and observation["derivedFrom"][0]["identifier"] == study
    assert imaging["series"][0]["instance"][0]["uid"] == "1.2.826.0.1.3680043.8.498.1.1"


@pytest.mark.parametrize(
    ("make", "status"),
    [(signed.bone_age, "final"), (signed.corrected, "corrected"), (signed.withdrawn, "entered-in-error")],
)
def test_status(make, status: str) -> None:
    bundle = bundle_of(make())
    of_kinds = [*resources(bundle, "DiagnosticReport"), *resources(bundle, "Observation")]
    assert {one["status"] for one in of_kinds} == {status}
    if status == "entered-in-error":
        assert not any(name.startswith("value") for one in of_kinds for name in one)


@pytest.mark.parametrize("make", [signed.rejected, signed.one_eye_rejected])
def test_what_was_not_assessed_has_no_value(make) -> None:
    observation = resources(bundle_of(make()), "Observation")[-1]
    assert not any(name.startswith("value") for name in observation)
    assert observation["dataAbsentReason"]["text"].startswith("not assessable: ")
    assert "Why the image was not assessed" in components(observation)


def test_revisions_replace_each_other_and_a_repeat_changes_nothing() -> None:
    """As a receiver applies it: by identifier, and by id for the provenance of each revision."""
    first, again, second = bundle_of(signed.bone_age()), bundle_of(signed.bone_age()), bundle_of(signed.corrected())
    assert first == again
    keys = [
        [entry["request"].get("ifNoneExist") or entry["request"]["url"] for entry in bundle["entry"]]
        for bundle in (first, second)
    ]
    assert len(set(keys[0])) == len(keys[0])
    assert keys[0][:-1] == keys[1][:-1]
    assert keys[0][-1].startswith("Provenance/") and keys[0][-1] != keys[1][-1]


def test_another_study_of_the_child_stays_another() -> None:
    other = replace(signed.bone_age(), examination=replace(signed.bone_age().examination, study_instance_uid="1.2.9"))
    urls = [
        {entry["request"]["url"] for entry in bundle_of(one)["entry"] if "Observation" in entry["request"]["url"]}
        for one in (signed.bone_age(), other)
    ]
    assert not urls[0] & urls[1]


def test_a_photo_has_a_bundle_and_no_dicom_document() -> None:
    photo = signed.study_of(Task.BONE_AGE, signed.image_of(bone_age_answer(100), source=None))
    assert [one.kind for one in documents_of(photo)] == [FHIR]
    bundle = bundle_of(photo)
    assert resources(bundle, "ImagingStudy") == [] and "derivedFrom" not in resources(bundle, "Observation")[0]
    for kind in (DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE):
        with pytest.raises(DocumentRefused) as refusal:
            documents_of(photo, [kind])
        assert refusal.value.code == "no_dicom_source" and why_not(photo, kind) is not None
    assert why_not(photo, FHIR) is None


def test_the_child_appears_by_number_alone() -> None:
    text = json.dumps(bundle_of(signed.fracture()), ensure_ascii=False)
    for planted in ("Quixotesson", "2016-11-05", "Planted", "Referrer"):
        assert planted not in text
    bundle = bundle_of(signed.fracture())
    for entry in bundle["entry"]:
        entry["resource"].pop("subject", None)
        entry["resource"].pop("basedOn", None)
    for planted in (signed.PATIENT_ID, signed.ACCESSION):
        assert planted in text and planted not in json.dumps(bundle)


def test_the_number_is_named_in_the_hospitals_system(monkeypatch: pytest.MonkeyPatch) -> None:
    (report,) = resources(bundle_of(signed.bone_age()), "DiagnosticReport")
    assert "system" not in report["subject"]["identifier"]
    monkeypatch.setenv("PEDISCREEN_PATIENT_SYSTEM", "urn:oid:1.2.3.4")
    settings.cache_clear()
    (report,) = resources(bundle_of(signed.bone_age()), "DiagnosticReport")
    settings.cache_clear()
    assert report["subject"]["identifier"]["system"] == "urn:oid:1.2.3.4"
    assert report["subject"]["identifier"]["value"] == signed.PATIENT_ID


def test_what_a_phantom_made_says_so() -> None:
    bundle = bundle_of(signed.phantom())
    for kind in ("Observation", "DiagnosticReport", "ImagingStudy", "Provenance"):
        for resource in resources(bundle, kind):
            assert resource["meta"]["tag"][0]["code"] == "HTEST"
    assert resources(bundle, "DiagnosticReport")[0]["conclusion"].startswith("Phantom: not for diagnostic use.")
    assert "HTEST" not in json.dumps(bundle_of(signed.both_eyes()))


def test_comments_leave_only_where_they_are_asked_for() -> None:
    study = signed.study_of(Task.FRACTURE, signed.image_of(fracture_answer("buckle"), comment="Jane fell"))
    assert "Jane" not in json.dumps(bundle_of(study))
    assert "Jane fell" in json.dumps(bundle_of(study, with_comments=True))


def _status(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["resource"]["status"] = "done"


def _unknown_code(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["resource"]["code"]["coding"][0]["code"] = "00000-0"


def _other_meaning(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["resource"]["code"]["coding"][0]["display"] = "Height"


def _unknown_system(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["resource"]["bodySite"]["coding"][0]["system"] = "http://example.org"


def _unit(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["resource"]["valueQuantity"]["code"] = "months"


def _no_unit_system(bundle: dict[str, Any]) -> None:
    del bundle["entry"][2]["resource"]["valueQuantity"]["system"]


def _category(bundle: dict[str, Any]) -> None:
    bundle["entry"][3]["resource"]["category"] = [{"text": "X-ray"}]


def _no_value(bundle: dict[str, Any]) -> None:
    del bundle["entry"][2]["resource"]["valueQuantity"]


def _dangling(bundle: dict[str, Any]) -> None:
    bundle["entry"][3]["resource"]["result"][0]["reference"] = f"urn:uuid:{uuid.uuid4()}"


def _doubles(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["request"] = {"method": "POST", "url": "Observation"}


def _field(bundle: dict[str, Any]) -> None:
    bundle["entry"][2]["resource"]["boneAge"] = 1


def _naive_time(bundle: dict[str, Any]) -> None:
    bundle["entry"][3]["resource"]["issued"] = "2026-03-04T09:30:15"


FAULTS = (
    _status,
    _unknown_code,
    _other_meaning,
    _unknown_system,
    _unit,
    _no_unit_system,
    _category,
    _no_value,
    _dangling,
    _doubles,
    _field,
    _naive_time,
)


@pytest.mark.parametrize("break_it", FAULTS)
def test_a_broken_bundle_is_caught(break_it: Callable[[dict[str, Any]], None]) -> None:
    broken = bundle_of(signed.bone_age())
    fhir_check.check(broken)
    break_it(broken)
    with pytest.raises(DocumentRefused) as refusal:
        fhir_check.check(broken)
    assert refusal.value.code == "fhir_not_valid"


def test_the_library_alone_would_let_most_of_them_pass() -> None:
    passed = []
    for break_it in FAULTS:
        broken = bundle_of(signed.bone_age())
        break_it(broken)
        try:
            Bundle.model_validate(broken)
        except ValidationError:
            continue
        passed.append(break_it)
    assert passed == list(FAULTS[:10])
