"""Real files through the real decoder: what an upload may be, and what becomes of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Image, Quarantine
from engine.findings.answers import Task
from engine.services import images, ingest, quarantine, review
from engine.services.ingest import PatientEntry
from engine.settings import PROJECT_DIR
from tests.engine.imaging.synthetic import radiograph, ramp, saved
from tests.engine.services.conftest import READER

FOREIGN = PROJECT_DIR.parent / "shared" / "testdata" / "dicom"
ENTRY = PatientEntry("K1", "F", date(2020, 1, 1), date(2024, 7, 1), "L", "Site B")


def picture(format: str, size: tuple[int, int] = (240, 300)) -> bytes:
    out = io.BytesIO()
    Pillow.effect_noise(size, 40).save(out, format)
    return out.getvalue()


def test_a_radiograph(session: Session, data_dir: Path, tmp_path: Path) -> None:
    path = saved(radiograph(ramp()), tmp_path / "hand.dcm")
    result = ingest.ingest_file(session, READER, path, "hand.dcm")
    assert (result.outcome, result.task) == ("accepted", Task.BONE_AGE)
    study = review.load_study(session, READER, result.study_id)
    assert study.age_words == "9 y 3 m" and study.sex == "F" and study.images[0].laterality == "L"
    assert (study.images[0].rows, study.images[0].cols) == (256, 256) and study.images[0].vois
    np.testing.assert_array_equal(images.film(session, READER, result.image_id).pixels, ramp())


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_photo(session: Session, data_dir: Path, tmp_path: Path, format: str) -> None:
    path = tmp_path / "wrist"
    path.write_bytes(picture(format))
    result = ingest.ingest_file(session, READER, path, "wrist", entry=ENTRY, task=Task.FRACTURE)
    assert result.outcome == "accepted", result.reason
    study = review.load_study(session, READER, result.study_id)
    assert (study.age_months, study.site, study.task) == (54, "Site B", Task.FRACTURE)


def damaged(tmp_path: Path) -> dict[str, bytes]:
    whole = saved(radiograph(ramp()), tmp_path / "whole.dcm").read_bytes()
    return {
        "empty": b"",
        "text": b"Dear colleague, please find attached\n",
        "html": b"<html><script>alert(1)</script></html>",
        "zip": b"PK\x03\x04" + bytes(200),
        "truncated dicom": whole[: len(whole) // 2],
        "header only": whole[:200],
        "truncated png": picture("PNG")[:400],
        "truncated jpeg": picture("JPEG")[:400],
        "small png": picture("PNG", (20, 20)),
        "no patient": saved(radiograph(ramp(), PatientID=None), tmp_path / "a.dcm").read_bytes(),
        "born later": saved(radiograph(ramp(), PatientBirthDate="20250101"), tmp_path / "b.dcm").read_bytes(),
        "raw detector image": saved(
            radiograph(ramp(), PresentationIntentType="FOR PROCESSING"), tmp_path / "c.dcm"
        ).read_bytes(),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "html",
        "zip",
        "truncated dicom",
        "header only",
        "truncated png",
        "truncated jpeg",
        "small png",
        "no patient",
        "born later",
        "raw detector image",
    ],
)
def test_bad_files_are_kept_with_a_reason(session: Session, data_dir: Path, tmp_path: Path, kind: str) -> None:
    content = damaged(tmp_path)[kind]
    path = tmp_path / "upload"
    path.write_bytes(content)
    entry = ENTRY if "png" in kind or "jpeg" in kind else None
    result = ingest.ingest_file(session, READER, path, f"{kind}.bin", entry=entry)
    assert result.outcome == "quarantined" and result.reason_code and len(result.reason or "") > 20
    (row,) = quarantine.quarantine_page(session, READER).rows
    assert row.file_sha256 == result.file_sha256 and row.reason == result.reason
    assert quarantine.original_path(row.file_sha256).read_bytes() == content
    assert session.scalar(select(func.count(Image.id))) == 0
    assert not list((data_dir / "incoming").iterdir())


@pytest.mark.skipif(not FOREIGN.is_dir(), reason="foreign DICOM files are not beside this checkout")
@pytest.mark.parametrize("folder", ["broken", "charset", "hostile", "fuzz"])
def test_foreign_files_end_on_the_worklist_or_in_quarantine(
    session: Session, data_dir: Path, folder: str, record_property: Callable[[str, object], None]
) -> None:
    files = sorted(path for path in (FOREIGN / folder).rglob("*") if path.is_file())[:25]
    results = [ingest.ingest_file(session, READER, path, path.name) for path in files]
    record_property("outcomes", [(result.file_name, result.outcome, result.reason_code) for result in results])
    accepted = [result for result in results if result.outcome == "accepted"]
    quarantined = {result.file_sha256 for result in results if result.outcome == "quarantined"}
    assert session.scalar(select(func.count(Image.id))) == len(accepted)
    assert set(session.scalars(select(Quarantine.file_sha256))) == quarantined
    for result in results:
        kept = images.original_path if result.outcome in ("accepted", "duplicate") else quarantine.original_path
        assert kept(result.file_sha256).exists()
    for result in accepted:
        review.load_study(session, READER, result.study_id)
