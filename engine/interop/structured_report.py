"""A signed study as DICOM SR: Comprehensive SR, TID 1500 (PS3.16), one measurement group an image.

A group says what the reader says; what the model read stands in it as text, so that no receiver takes the model's
number for the result. A rectangle that the reader marked is a group of its own (TID 1410). What was not assessed says
so and why, and has no measurement. A correction is a new document that names the one it replaces."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.uid import ComprehensiveSRStorage
from pydicom.valuerep import DT

from engine.findings.answers import Fracture, Task
from engine.interop import dicom_study, report_text
from engine.interop.codes import PRIVATE_SCHEME, PRIVATE_SCHEME_UID, coded
from engine.interop.report_text import NO_ORGANIZATION, NOT_FOR_DIAGNOSIS, PRODUCT
from engine.interop.signed_study import DocumentKind, Region, SignedImage, SignedStudy, SourceImage, derived_uid

KIND = DocumentKind.STRUCTURED_REPORT
CONTAINS = sr.RelationshipTypeValues.CONTAINS
PROCEDURES = {
    Task.BONE_AGE: "report.bone_age",
    Task.ROP: "procedure.rop",
    Task.FRACTURE: "procedure.fracture",
    None: "report.imaging",
}


def structured_report(study: SignedStudy, *, with_comments: bool) -> Dataset:
    """Of a study whose images are DICOM."""
    groups = [group for number, image in enumerate(study.images, 1) for group in _groups(study, image, number)]
    report = sr.MeasurementReport(
        observation_context=_observers(study),
        procedure_reported=_concept(PROCEDURES[study.task]),
        imaging_measurements=groups,
        title=_concept("report.title"),
    )
    if study.is_phantom:
        report[0].ContentSequence.append(_text("not_for_diagnosis", NOT_FOR_DIAGNOSIS))
    report[0].ContentSequence.append(_text("summary", report_text.conclusion(study)))
    if with_comments:
        report[0].ContentSequence.extend(
            _text("comment", f"{report_text.place_words(study, image).capitalize()}: {image.comment}")
            for image in study.images
            if image.comment
        )
    replaced = study.replaced_uid(KIND)
    data = sr.ComprehensiveSR(
        evidence=dicom_study.evidence(study),
        content=report,
        is_complete=True,
        is_final=True,
        is_verified=True,
        verifying_observer_name=dicom_study.person_name(study.readers[0].name),
        verifying_organization=study.organization or NO_ORGANIZATION,
        previous_versions=[_previous(study, replaced)] if replaced else None,
        **dicom_study.series(study, KIND),
    )
    data.VerifyingObserverSequence = [_verifier(study, reader.name) for reader in study.readers]
    data.CodingSchemeIdentificationSequence = [_private_scheme()]
    dicom_study.complete(study, data)
    return data


def _observers(study: SignedStudy) -> sr.ObservationContext:
    models = "; ".join(study.models) or "no model read"
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", study.software, models),
        name=f"{PRODUCT} {study.software}",
        manufacturer_name=PRODUCT,
        model_name=models,
    )
    person = sr.PersonObserverIdentifyingAttributes(
        name=dicom_study.person_name(study.readers[0].name),
        login_name=study.readers[0].username,
        organization_name=study.organization,
    )
    return sr.ObservationContext(
        observer_person_context=sr.ObserverContext(dicom_codes.DCM.Person, person),
        observer_device_context=sr.ObserverContext(dicom_codes.DCM.Device, device),
    )


def _groups(study: SignedStudy, image: SignedImage, number: int) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    assert image.source is not None
    finding, measurements, evaluations = _said(study, image)
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(image.source, "finding", f"Image {number}"),
        finding_type=finding,
        finding_sites=[_site(study, image)],
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[sr.SourceImageForMeasurementGroup(*_instance(image.source))],
    )
    content = group[0].ContentSequence
    content.append(_text("summary", report_text.finding_words(study, image)))
    if study.task == Task.BONE_AGE and image.answer is not None:
        facts = report_text.bone_age_facts(study, image)
        said = report_text.sd_source(facts.sds) if facts.sds else f"none: {facts.why_no_sd}"
        content.append(_text("sd_source", said))
    if (read := report_text.read_words(image)) is not None:
        content.append(_text("model_read", read))
    yield group
    for index, region in enumerate(image.regions, 1):
        yield sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(image.source, f"region {index}", f"Image {number}, region {index}"),
            referenced_region=_region(image, region),
            finding_type=finding or _concept("selected_region"),
            finding_sites=[_site(study, image)],
            geometric_purpose=_concept("bounded_by"),
        )


def _said(
    study: SignedStudy, image: SignedImage
) -> tuple[sr.CodedConcept | None, list[sr.Measurement], list[sr.QualitativeEvaluation]]:
    """Finding, measurements and evaluations of one image."""
    if study.is_withdrawn:
        return None, [], [_evaluation("report.status", "report.status.withdrawn")]
    if image.answer is None:
        evaluations = [_evaluation("assessability", "assessability.not_assessable")]
        if image.reject_reason:
            evaluations.append(_evaluation("reject_reason", f"reject_reason.{image.reject_reason}"))
        return None, [], evaluations
    evaluations = [_addition(name, value) for name, value in image.additions.items()]
    if image.quality:
        evaluations.append(_evaluation("quality", f"quality.{image.quality}"))
    match study.task:
        case Task.BONE_AGE:
            method = _evaluation("bone_age.method", "bone_age.method.gp")
            return None, _bone_age(study, image), [method, *evaluations]
        case Task.ROP:
            graded = [_evaluation(name, f"{name}.{image.answer[name]}") for name in ("zone", "stage", "plus_disease")]
            return _rop_finding(str(image.answer["stage"])), [], [*graded, *evaluations]
        case _:
            said = f"fracture.{image.answer['fracture']}"
            is_fracture = image.answer["fracture"] != Fracture.NORMAL
            return _concept(said) if is_fracture else None, [], [_evaluation("fracture", said), *evaluations]


def _bone_age(study: SignedStudy, image: SignedImage) -> list[sr.Measurement]:
    facts, months = report_text.bone_age_facts(study, image), _concept("months")
    measured = [
        sr.Measurement(_concept("bone_age"), facts.months, months, method=_concept("bone_age.method.gp")),
    ]
    if facts.age_months is not None:
        measured.append(sr.Measurement(_concept("bone_age.subject_age"), round(facts.age_months, 2), months))
    if facts.sds is not None:
        measured.append(sr.Measurement(_concept("bone_age.sd"), round(facts.sds.sd_months, 2), months))
        measured.append(sr.Measurement(_concept("bone_age.z"), round(facts.sds.sds, 2), _concept("no_units")))
    return measured


def _rop_finding(stage: str) -> sr.CodedConcept | None:
    """The disease; None where there is none."""
    return None if stage == "0" else _concept(f"rop.disease.{stage}", otherwise="rop")


def _addition(name: str, value: bool | str) -> sr.QualitativeEvaluation:
    said = ("yes" if value else "no") if isinstance(value, bool) else f"{name}.{value}"
    return _evaluation(name, said)


def _evaluation(name: str, value: str) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(_concept(name), _concept(value))


def _site(study: SignedStudy, image: SignedImage) -> sr.FindingSite:
    site = f"site.{study.task}" if study.task else "site.image"
    if image.answer is not None and image.answer.get("fracture") == Fracture.DISTAL_RADIUS:
        site = "site.distal_radius"
    return sr.FindingSite(_concept(site), _concept(f"site.{image.laterality}") if image.laterality else None)


def _region(image: SignedImage, region: Region) -> sr.ImageRegion:
    """In the pixels of the source image, whose film may have been resampled (PS3.3 C.18.6.1.2: the corner of the first
    pixel is 0, 0)."""
    source = image.source
    assert source is not None
    x_scale, y_scale = source.cols / image.film_cols, source.rows / image.film_rows
    x0, x1, y0, y1 = region.x0 * x_scale, region.x1 * x_scale, region.y0 * y_scale, region.y1 * y_scale
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]])
    return sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, corners, sr.SourceImageForRegion(*_instance(source)))


def _instance(source: SourceImage) -> tuple[str, str, list[int] | None]:
    """Class, instance, and of several frames the one that was read."""
    return source.sop_class_uid, source.sop_instance_uid, [1] if source.frames > 1 else None


def _tracking(source: SourceImage, what: str, words: str) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=derived_uid(source.sop_instance_uid, what), identifier=words)


def _text(concept: str, text: str) -> sr.TextContentItem:
    return sr.TextContentItem(_concept(concept), report_text.plain(text), CONTAINS)


def _concept(concept: str, *, otherwise: str | None = None) -> sr.CodedConcept:
    row = coded(concept, otherwise=otherwise)
    return sr.CodedConcept(row.code, row.scheme, row.text)


def _verifier(study: SignedStudy, name: str) -> Dataset:
    item = Dataset()
    item.VerifyingObserverName = dicom_study.person_name(name)
    item.VerifyingOrganization = study.organization or NO_ORGANIZATION
    item.VerificationDateTime = DT(dicom_study.signed_at(study))
    item.VerifyingObserverIdentificationCodeSequence = []
    return item


def _private_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeUID = PRIVATE_SCHEME, PRIVATE_SCHEME_UID
    item.CodingSchemeName = f"{PRODUCT} private codes"
    return item


def _previous(study: SignedStudy, uid: str) -> Dataset:
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = ComprehensiveSRStorage, uid
    item.StudyInstanceUID = study.examination.study_instance_uid
    item.SeriesInstanceUID = dicom_study.series_uid(study, KIND, study.revision - 1)
    return item
