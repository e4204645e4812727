"""The code table, and that nothing leaves with a code outside it, or in release mode with one nobody has verified."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from itertools import product

import pytest
from pydicom.sr._concepts_dict import concepts

from db.models import RejectReason
from engine.errors import DocumentRefused
from engine.findings import additions
from engine.findings.answers import (
    ALLOWED,
    Fracture,
    Plus,
    Stage,
    Task,
    Zone,
    bone_age_answer,
    fracture_answer,
    rop_answer,
)
from engine.interop import codes, dicom_study, fhir, fhir_check
from engine.interop.codes import CodeStatus, coded, table
from engine.interop.documents import documents_of
from engine.interop.signed_study import DocumentKind, SignedStudy
from engine.interop.structured_report import structured_report
from engine.settings import settings
from tests.engine.interop import signed


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PEDISCREEN_RELEASE", "1")
    settings.cache_clear()
    yield
    settings.cache_clear()


def everything_that_can_be_said() -> Iterator[SignedStudy]:
    """Every word of every closed set: answers, additions, reasons."""
    for make in signed.EVERY_KIND.values():
        yield make()
    yield signed.bone_age(0)
    for stage, zone, plus in zip(Stage, [*Zone][:3] * 2, [*Plus] * 2, strict=True):
        yield signed.study_of(Task.ROP, signed.image_of(rop_answer(zone, stage, plus)))
    for answer in ALLOWED[Task.FRACTURE]:
        yield signed.study_of(Task.FRACTURE, signed.image_of(answer, quality="good"))
    for reason in RejectReason:
        yield signed.study_of(Task.ROP, signed.image_of(None, reject_reason=reason.value))
    some = {
        Task.BONE_AGE: bone_age_answer(100),
        Task.ROP: rop_answer("II", "5", "none"),
        Task.FRACTURE: fracture_answer("distal_radius"),
    }
    for task, fields in additions.FIELDS.items():
        for name, kind in fields.items():
            for value in [True, False] if kind is bool else [one.value for one in kind if issubclass(kind, StrEnum)]:
                if value not in additions.NOT_SAID and not (value is False and name != "displaced"):
                    yield signed.study_of(task, signed.image_of(some[task], additions={name: value}))


def emitted_by(study: SignedStudy) -> set[tuple[str, str]]:
    found = set(fhir_check.codes_in(fhir.fhir_bundle(study, with_comments=True)))
    return found | set(dicom_study.codes_in(structured_report(study, with_comments=True)))


def test_every_row_is_whole() -> None:
    rows = list(table().values())
    assert len({(row.scheme, row.code) for row in rows}) == len(rows)
    for row in rows:
        assert row.code and row.meaning and len(row.text) <= 64, row
        assert (row.status is CodeStatus.PRIVATE) == (row.scheme == codes.PRIVATE_SCHEME), row
        assert row.source or row.status is CodeStatus.PRIVATE, row
        assert len(row.code) <= 16 or row.scheme not in ("DCM", "SCT", "LN", codes.PRIVATE_SCHEME), row


def test_meanings_agree_with_those_that_pydicom_ships() -> None:
    """The standard's own tables, as far as they go: what claims to be in them is, with the same meaning."""
    for row in table().values():
        if "as pydicom ships it" in row.source or row.source.startswith("TID 1500") and row.scheme != "RFC5646":
            known = [by_code[row.code][0] for by_code in concepts[row.scheme].values() if row.code in by_code]
            meanings = {re.sub(r" \([a-z ]+\)$", "", meaning.lower()) for meaning in known}
            assert row.meaning.lower() in meanings, (row, known)


def test_whatever_is_said_is_said_in_codes_of_the_table() -> None:
    emitted: set[tuple[str, str]] = set()
    for study in everything_that_can_be_said():
        emitted |= emitted_by(study)
    codes.check(emitted)
    # and the table has no row that nothing can say
    said = {row.concept for row in table().values() if (row.scheme, row.code) in emitted}
    assert set(table()) - said == {"rop"}  # which stands in for stage 5 in release mode


def test_in_release_mode_no_unverified_code_is_emitted(release: None) -> None:
    """Whatever is said; an eye of stage 5 leaves with the disease's verified code."""
    status_of = {(row.scheme, row.code): row.status for row in table().values()}
    for study in everything_that_can_be_said():
        emitted = emitted_by(study)
        assert CodeStatus.UNVERIFIED not in {status_of[pair] for pair in emitted}
        codes.check(emitted)


def test_outside_of_release_mode_an_unverified_code_says_so() -> None:
    study = signed.study_of(Task.ROP, signed.image_of(rop_answer("I", "5", "plus")))
    report, bundle = documents_of(study, [DocumentKind.STRUCTURED_REPORT, DocumentKind.FHIR_BUNDLE])
    for document in (report, bundle):
        assert b"ROP stage 5 - total retinal detachment (unverified code)" in document.content


@pytest.mark.parametrize("kind", [DocumentKind.STRUCTURED_REPORT, DocumentKind.FHIR_BUNDLE])
def test_release_mode_refuses_and_names_what_is_unverified(
    release: None, kind: DocumentKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would be if a code without a verified substitute lost its status."""
    doubted = {name: replace(row, status=CodeStatus.UNVERIFIED) for name, row in table().items() if name == "bone_age"}
    monkeypatch.setattr(
        codes, "_by_code", lambda: {(row.scheme, row.code): row for row in (table() | doubted).values()}
    )
    with pytest.raises(DocumentRefused, match=r"LN 85151-9 \(XR Bone age\)") as refusal:
        documents_of(signed.bone_age(), [kind])
    assert refusal.value.code == "unverified_codes"


def test_a_code_outside_the_table_is_refused_in_every_mode() -> None:
    with pytest.raises(DocumentRefused, match="LN 00000-0") as refusal:
        codes.check([("LN", "85151-9"), ("LN", "00000-0")])
    assert refusal.value.code == "unknown_codes"
    with pytest.raises(KeyError):
        coded("no such concept")


def test_closed_sets_have_a_code_each() -> None:
    names = [f"fracture.{one}" for one in Fracture] + [f"stage.{one}" for one in Stage]
    names += [f"reject_reason.{one}" for one in RejectReason]
    for fields in additions.FIELDS.values():
        for name, kind in fields.items():
            names += [name] if kind is bool else [f"{name}.{one}" for one in kind if one not in additions.NOT_SAID]
    names += [f"{name}.{side}" for name, side in product(("site", "eye"), "LR")]
    assert [name for name in names if name not in table()] == []
