"""A signed study as a FHIR R4B bundle: one DiagnosticReport, one Observation an image, and what they came from.

R4B is R4's wire format for everything used here (https://hl7.org/fhir/R4B/). Sent again the bundle changes nothing:
what it holds is created or replaced by its identifier, and every identifier follows from the study. The child appears
by number alone, as the receiver knows it. engine.interop.fhir_check says what a bundle has to hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from engine.findings.answers import Task
from engine.interop import fhir_check, report_text
from engine.interop.codes import PRIVATE_SCHEME, SYSTEMS, coded, table
from engine.interop.report_text import NOT_FOR_DIAGNOSIS, PRODUCT
from engine.interop.signed_study import SignedImage, SignedReader, SignedStudy, derived_uuid
from engine.settings import settings

Resource = dict[str, Any]

URI = "urn:ietf:rfc:3986"  # the system of identifiers that are URIs themselves
DICOM_UID = "urn:dicom:uid"
READER_SYSTEM = f"{SYSTEMS[PRIVATE_SCHEME]}.1"
REPORT_CODES = {Task.BONE_AGE: "report.bone_age"}  # others: report.imaging
OBSERVATION_CODES = {
    Task.BONE_AGE: "bone_age",
    Task.ROP: "rop.grading",
    Task.FRACTURE: "fracture",
    None: "image_review",
}


def fhir_bundle(study: SignedStudy, *, with_comments: bool) -> Resource:
    """A transaction. Raises DocumentRefused where it would not be valid."""
    device = _device(study)
    imaging = _imaging_study(study) if study.has_dicom_source else None
    observations = [_observation(study, image, with_comments) for image in study.images]
    report, provenance = _report(study), _provenance(study)
    entries = [
        _entry(study, device, _replace(device)),
        *([_entry(study, imaging, _create_once(imaging))] if imaging else []),
        *(_entry(study, one, _replace(one)) for one in observations),
        _entry(study, report, _replace(report)),
        _entry(study, provenance, {"method": "PUT", "url": f"Provenance/{provenance['id']}"}),
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    fhir_check.check(bundle)
    return bundle


def report_identifier(study: SignedStudy) -> str:
    """Of the study's DiagnosticReport, the same in every revision."""
    return _urn(study, "DiagnosticReport")


def _urn(study: SignedStudy, *what: str) -> str:
    """Identifier and place within the bundle of what belongs to the study."""
    return f"urn:uuid:{derived_uuid(study.examination.study_instance_uid, *what)}"


def _image_urn(study: SignedStudy, image: SignedImage) -> str:
    name = image.source.sop_instance_uid if image.source else f"image {study.images.index(image) + 1}"
    return _urn(study, "Observation", name)


def _device_urn(study: SignedStudy) -> str:
    return f"urn:uuid:{derived_uuid('device', study.software, *study.models)}"


def _entry(study: SignedStudy, resource: Resource, request: Resource) -> Resource:
    if study.is_phantom and resource["resourceType"] != "Device":
        resource["meta"] = {"tag": [_coding("fhir.tag.phantom")]}
    return {"fullUrl": resource.pop("fullUrl"), "resource": resource, "request": request}


def _replace(resource: Resource) -> Resource:
    """Conditional update: the receiver's own resource of this identifier, or a new one."""
    return {"method": "PUT", "url": f"{resource['resourceType']}?{_by_identifier(resource)}"}


def _create_once(resource: Resource) -> Resource:
    """Conditional create: one that the receiver has already is left as it is."""
    return {"method": "POST", "url": resource["resourceType"], "ifNoneExist": _by_identifier(resource)}


def _by_identifier(resource: Resource) -> str:
    identifier = resource["identifier"][0]
    return f"identifier={identifier['system']}|{identifier['value']}"


def _device(study: SignedStudy) -> Resource:
    versions = [("software", study.software), *(("model", model) for model in study.models)]
    note = [{"text": NOT_FOR_DIAGNOSIS}] if study.is_phantom else []
    return _with_known(
        {
            "fullUrl": _device_urn(study),
            "resourceType": "Device",
            "identifier": [{"system": URI, "value": _device_urn(study)}],
            "status": "active",
            "manufacturer": PRODUCT,
            "deviceName": [{"name": PRODUCT, "type": "user-friendly-name"}],
            "version": [{"type": {"text": kind}, "value": value} for kind, value in versions],
            "note": note,
        }
    )


def _imaging_study(study: SignedStudy) -> Resource:
    series: dict[str, Resource] = {}
    for image in study.images:
        source = image.source
        assert source is not None
        modality = f"modality.{image.modality}"
        known = {"modality": _coding(modality)} if modality in table() else {}
        one = series.setdefault(
            source.series_instance_uid, {"uid": source.series_instance_uid, **known, "instance": []}
        )
        sop_class = {"system": URI, "code": f"urn:oid:{source.sop_class_uid}"}
        one["instance"].append({"uid": source.sop_instance_uid, "sopClass": sop_class})
    return _with_known(
        {
            "fullUrl": _urn(study, "ImagingStudy"),
            "resourceType": "ImagingStudy",
            "identifier": [{"system": DICOM_UID, "value": f"urn:oid:{study.examination.study_instance_uid}"}],
            "status": "available",
            "subject": _subject(study),
            "started": _examined_on(study),
            "series": list(series.values()),
        }
    )


def _observation(study: SignedStudy, image: SignedImage, with_comments: bool) -> Resource:
    notes = [report_text.read_words(image), image.comment if with_comments else None]
    if study.is_phantom:
        notes.insert(0, NOT_FOR_DIAGNOSIS)
    return _with_known(
        {
            "fullUrl": _image_urn(study, image),
            "resourceType": "Observation",
            "identifier": [{"system": URI, "value": _image_urn(study, image)}],
            "status": _status(study),
            "category": [_concept("fhir.category.observation")],
            "code": _concept(OBSERVATION_CODES[study.task]),
            "subject": _subject(study),
            "effectiveDateTime": _examined_on(study),
            "issued": _instant(image.signed_at),
            "performer": [_reader(image.reader)],
            "bodySite": _body_site(study, image),
            "device": {"reference": _device_urn(study)},
            "derivedFrom": _derived_from(study, image),
            "note": [{"text": report_text.plain(note)} for note in notes if note],
            **_value(study, image),
        }
    )


def _value(study: SignedStudy, image: SignedImage) -> Resource:
    """What was found, or why nothing was."""
    words, side = report_text.finding_words(study, image), []
    if study.task != Task.ROP and image.laterality:
        side = [_component("laterality", f"site.{image.laterality}")]
    if study.is_withdrawn:
        return {"dataAbsentReason": _concept("fhir.absent.withdrawn", text=words), "component": side}
    if image.answer is None:
        why = [_component("reject_reason", f"reject_reason.{image.reject_reason}")] if image.reject_reason else []
        return {"dataAbsentReason": _concept("fhir.absent.not_assessable", text=words), "component": [*side, *why]}
    added = [_addition(name, value) for name, value in image.additions.items()]
    if image.quality:
        added.append(_component("quality", f"quality.{image.quality}"))
    answer = image.answer
    match study.task:
        case Task.BONE_AGE:
            return {
                "valueQuantity": _quantity(int(answer["bone_age_months"]), "months"),
                "method": _concept("bone_age.method.gp"),
                "component": [*side, *_beside_bone_age(study, image), *added],
            }
        case Task.ROP:
            stage = str(answer["stage"])
            disease = coded("rop.none" if stage == "0" else f"rop.disease.{stage}", otherwise="rop").concept
            graded = [_component(name, f"{name}.{answer[name]}") for name in ("zone", "stage", "plus_disease")]
            return {"valueCodeableConcept": _concept(disease, text=words), "component": [*graded, *added]}
        case _:
            said = _concept(f"fracture.{answer['fracture']}", text=words)
            return {"valueCodeableConcept": said, "component": [*side, *added]}


def _beside_bone_age(study: SignedStudy, image: SignedImage) -> list[Resource]:
    facts, found = report_text.bone_age_facts(study, image), []
    if facts.age_months is not None:
        found.append(_measured("bone_age.subject_age", facts.age_months, "months"))
    if facts.sds is not None:
        found.append(_measured("bone_age.sd", facts.sds.sd_months, "months"))
        found.append(_measured("bone_age.z", facts.sds.sds, "no_units"))
        found.append({"code": _concept("sd_source"), "valueString": report_text.sd_source(facts.sds)})
    return found


def _addition(name: str, value: bool | str) -> Resource:
    return _component(name, ("yes" if value else "no") if isinstance(value, bool) else f"{name}.{value}")


def _component(name: str, value: str) -> Resource:
    return {"code": _concept(name), "valueCodeableConcept": _concept(value)}


def _measured(name: str, value: float, unit: str) -> Resource:
    return {"code": _concept(name), "valueQuantity": _quantity(round(value, 2), unit)}


def _quantity(value: float, unit: str) -> Resource:
    row = coded(unit)
    return {"value": value, "unit": row.meaning, "system": row.system, "code": row.code}


def _body_site(study: SignedStudy, image: SignedImage) -> Resource:
    if study.task is None:
        return {"text": report_text.place_words(study, image)}
    is_eye = study.task == Task.ROP and image.laterality is not None
    site = f"eye.{image.laterality}" if is_eye else f"site.{study.task}"
    return _concept(site, text=report_text.place_words(study, image))


def _derived_from(study: SignedStudy, image: SignedImage) -> list[Resource]:
    if not study.has_dicom_source or image.source is None:
        return []
    study_uid, image_uid = study.examination.study_instance_uid, image.source.sop_instance_uid
    return [
        {
            "reference": _urn(study, "ImagingStudy"),
            "type": "ImagingStudy",
            "identifier": {"system": DICOM_UID, "value": f"urn:oid:{study_uid}"},
        },
        {
            "type": "Media",
            "identifier": {"system": DICOM_UID, "value": f"urn:oid:{image_uid}"},
            "display": "the image that was read",
        },
    ]


def _report(study: SignedStudy) -> Resource:
    radiology = "fhir.category.report.imaging" if study.task in (Task.ROP, None) else "fhir.category.report.radiology"
    accession = study.examination.accession_number
    order = {"type": _concept("fhir.identifier.accession"), "value": accession}
    return _with_known(
        {
            "fullUrl": report_identifier(study),
            "resourceType": "DiagnosticReport",
            "identifier": [{"system": URI, "value": report_identifier(study)}],
            "basedOn": [{"type": "ServiceRequest", "identifier": order}] if accession else [],
            "status": _status(study),
            "category": [_concept(radiology)],
            "code": _concept(REPORT_CODES.get(study.task, "report.imaging"), text=report_text.TITLES[study.task]),
            "subject": _subject(study),
            "effectiveDateTime": _examined_on(study),
            "issued": _instant(study.signed_at),
            "resultsInterpreter": [_reader(reader) for reader in study.readers],
            "result": [{"reference": _image_urn(study, image)} for image in study.images],
            "imagingStudy": [{"reference": _urn(study, "ImagingStudy")}] if study.has_dicom_source else [],
            "conclusion": f"{report_text.conclusion(study)}\n{report_text.version_words(study).capitalize()}.",
        }
    )


def _provenance(study: SignedStudy) -> Resource:
    """Of this revision."""
    unique = derived_uuid(study.examination.study_instance_uid, str(study.revision), "Provenance")
    organization = {"onBehalfOf": {"display": study.organization}} if study.organization else {}
    readers = [
        {"type": _concept("fhir.agent.reader"), "who": _reader(reader), **organization} for reader in study.readers
    ]
    return {
        "fullUrl": f"urn:uuid:{unique}",
        "resourceType": "Provenance",
        "id": str(unique),
        "target": [{"reference": report_identifier(study)}],
        "recorded": _instant(study.signed_at),
        "agent": [*readers, {"type": _concept("fhir.agent.device"), "who": {"reference": _device_urn(study)}}],
    }


def _status(study: SignedStudy) -> str:
    if study.is_withdrawn:
        return "entered-in-error"
    return "final" if study.replaced_revision is None else "corrected"


def _subject(study: SignedStudy) -> Resource:
    """By number, in the hospital's numbering where that is known."""
    number: Resource = {"type": _concept("fhir.identifier.patient"), "value": study.patient.patient_id}
    if settings().patient_system:
        number["system"] = settings().patient_system
    if study.patient.issuer:
        number["assigner"] = {"display": study.patient.issuer}
    return {"type": "Patient", "identifier": number}


def _reader(reader: SignedReader) -> Resource:
    return {
        "type": "Practitioner",
        "identifier": {"system": READER_SYSTEM, "value": reader.username},
        "display": reader.name,
    }


def _examined_on(study: SignedStudy) -> str | None:
    return study.examination.acquired_on.isoformat() if study.examination.acquired_on else None


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _coding(concept: str) -> Resource:
    row = coded(concept)
    return {"system": row.system, "code": row.code, "display": row.text}


def _concept(concept: str, *, text: str | None = None) -> Resource:
    return {"coding": [_coding(concept)], "text": text or coded(concept).text}


def _with_known(resource: Resource) -> Resource:
    """Without what is not known: FHIR has no empty values."""
    return {name: value for name, value in resource.items() if value not in (None, [], {})}
