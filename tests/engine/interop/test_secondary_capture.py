"""The rendered page: a valid Secondary Capture, stamped, with nobody named on it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from engine.findings.answers import Task, bone_age_answer, rop_answer
from engine.interop import report_page
from engine.interop.documents import documents_of
from engine.interop.signed_study import DocumentKind, SignedStudy
from tests.engine.interop import signed
from tests.engine.interop.validators import dciodvfy_errors

SC = DocumentKind.SECONDARY_CAPTURE
KINDS = pytest.mark.parametrize("make", signed.EVERY_KIND.values(), ids=signed.EVERY_KIND)


def read(study: SignedStudy) -> pydicom.Dataset:
    (document,) = documents_of(study, [SC])
    return pydicom.dcmread(io.BytesIO(document.content))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn on a page."""
    texts: list[str] = []
    draw_text = report_page.ImageDraw.ImageDraw.text

    def listen(self, at, text, *arguments, **options):
        texts.append(text)
        return draw_text(self, at, text, *arguments, **options)

    monkeypatch.setattr(report_page.ImageDraw.ImageDraw, "text", listen)
    return texts


@KINDS
def test_it_keeps_to_the_standard(make, tmp_path: Path) -> None:
    for document in documents_of(make(), [SC]):
        path = tmp_path / document.file_name
        path.write_bytes(document.content)
        assert dciodvfy_errors(path) == []


def test_a_broken_page_is_caught(tmp_path: Path) -> None:
    data = read(signed.bone_age())
    del data.ConversionType
    data.save_as(tmp_path / "broken.dcm")
    assert any("ConversionType" in one for one in dciodvfy_errors(tmp_path / "broken.dcm"))


def test_what_is_written_on_it(drawn: list[str]) -> None:
    data = read(signed.phantom())
    assert data.BurnedInAnnotation == "YES" and "not for diagnostic use" in data.SeriesDescription
    page = " ".join(drawn)
    for said in (
        "Phantom: not for diagnostic use",
        "Retinopathy of prematurity",
        "Girl, 9 y 3 m · examined 3 March 2026",
        "RIGHT EYE Zone I, stage 3, plus, A-ROP",
        "LEFT EYE Fully vascularised",
        "Signed by Anna Reader",
        "Children's Hospital · 4 March 2026, 09:30 UTC",
        "PediScreen 0.3.0 (abc1234) · pediscreen-phantom 0.3",
        "Version 1",
    ):
        assert said in page, said


def test_the_numbers_of_a_bone_age(drawn: list[str]) -> None:
    read(signed.corrected())
    page = " ".join(drawn)
    assert "10 y 0 m (120 months)" in page and "+0.82 SD (one SD is 9.8 months)" in page
    assert "Version 2, replaces version 1" in page


def test_what_was_not_assessed_is_said_as_such(drawn: list[str]) -> None:
    read(signed.rejected())
    assert "Not assessable: not" in " ".join(drawn) and "nothing was excluded" in " ".join(drawn)


def test_a_withdrawn_report_shows_no_finding(drawn: list[str]) -> None:
    study = replace(signed.withdrawn(), images=(replace(signed.withdrawn().images[0], picture=signed.film()),))
    page = read(study).pixel_array
    assert "Withdrawn: this report no longer holds" in drawn and "Withdrawn by Anna Reader" in drawn
    grey = (page[300:, :, 0] == page[300:, :, 1]) & (page[300:, :, 0] > 230)
    assert not grey.any()  # the bright bar of the film


def test_nobody_is_named(drawn: list[str]) -> None:
    comment = f"{signed.NAME} has a brother"
    image = signed.image_of(bone_age_answer(90), comment=comment)
    (document,) = documents_of(signed.study_of(Task.BONE_AGE, image), [SC], with_comments=True)
    for planted in ("Quixotesson", signed.PATIENT_ID, signed.ACCESSION, "2016", "brother", "Referrer"):
        assert planted not in " ".join(drawn)
    data = pydicom.dcmread(io.BytesIO(document.content), stop_before_pixels=True)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
        delattr(data, keyword)
    for planted in ("Quixotesson", "774411", signed.ACCESSION, "20161105", "brother"):
        assert planted not in str(data) + document.file_name


def test_the_film_and_the_marks_are_on_it() -> None:
    page = read(signed.fracture()).pixel_array
    accent = np.array([0x56, 0xB4, 0xE9])
    where = np.argwhere((page == accent).all(axis=-1) & (np.arange(page.shape[0]) > 200)[:, None])
    (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0)
    height = 1060 - 190 - 212 - 40  # of the film on the page: as high as there is room, at most 560
    scale = min(560, height) / 1280
    assert abs((right - left) - 120 * scale) <= 3 and abs((bottom - top) - 100 * scale) <= 3
    assert abs(left - (64 + 400 * scale)) <= 3


def test_many_images_take_several_pages(drawn: list[str], tmp_path: Path) -> None:
    images = [signed.image_of(rop_answer("II", "1", "none"), number, "R") for number in range(1, 8)]
    documents = documents_of(signed.study_of(Task.ROP, *images), [SC])
    pages = [pydicom.dcmread(io.BytesIO(one.content), stop_before_pixels=True) for one in documents]
    assert [one.InstanceNumber for one in pages] == [1, 2, 3]
    assert len({one.SeriesInstanceUID for one in pages}) == 1
    assert len({one.SOPInstanceUID for one in pages}) == len({one.file_name for one in documents}) == 3
    assert sum("RIGHT EYE" in text for text in drawn) == 7
    assert any("page 3 of 3" in text for text in drawn)


def test_letters_without_a_glyph_are_never_an_empty_box(drawn: list[str]) -> None:
    read(signed.unusual_names())
    page = " ".join(drawn)
    assert "Łucja Żółć-O'Neill" in page and "Ærø <script>" in page and "??" in page and "山" not in page


def test_a_long_word_is_broken_within_the_page(drawn: list[str]) -> None:
    read(replace(signed.bone_age(), organization="X" * 400))
    font = report_page._font(26)
    assert max(font.getlength(text) for text in drawn if "XXX" in text) <= report_page.WIDTH - 2 * 64 + 30


def test_the_same_study_gives_the_same_bytes() -> None:
    assert documents_of(signed.both_eyes(), [SC]) == documents_of(signed.both_eyes(), [SC])
