"""`pediscreen report` with real files: phantoms of every task from ingest to documents."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import pydicom
import pytest
from sqlalchemy.orm import Session

from db.models import Verdict
from engine.cli import main
from engine.findings.answers import TASK_OF_VIEW, View
from engine.phantoms.write import make_phantoms
from engine.services import ingest, review
from engine.services.ingest import PatientEntry
from engine.services.review import Decision
from tests.engine.interop.validators import dciodvfy_errors, dsrdump
from tests.engine.services.conftest import READER


def decided(session: Session, path: Path, answer: dict, entry: PatientEntry | None = None, **details: object) -> int:
    result = ingest.ingest_file(session, READER, path, path.name, entry=entry, task=None)
    if result.task is None:
        view = View(path.name.split("-")[0])
        review.set_facts(session, READER, result.image_id, task=TASK_OF_VIEW[view])
    review.record_review(
        session, READER, result.image_id, Decision(Verdict.CORRECTED, answer, details=details, seconds=3.0)
    )
    return result.study_id


@pytest.mark.parametrize("task", ["hand", "fundus", "wrist"])
def test_a_signed_phantom_as_files(
    task: str, session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made,) = make_phantoms(tmp_path / "in", task, 1, 7)
    regions = [{"x0": 100, "y0": 200, "x1": 300, "y1": 400}]
    study_id = decided(session, made.path, made.answer, regions=regions)
    assert main(["report", str(study_id), str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["revision"], said["replaces"], said["phantom"], said["left_out"]) == (1, None, True, [])
    by_kind = {one["kind"]: Path(one["path"]) for one in said["documents"]}
    report, page, bundle = (by_kind[kind] for kind in ("structured_report", "secondary_capture", "fhir_bundle"))
    for path in (report, page):
        assert dciodvfy_errors(path) == []
        source, document = pydicom.dcmread(made.path), pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
                        "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):  # fmt: skip
            assert document[keyword].value == source[keyword].value, keyword
    assert "not for diagnostic use" in dsrdump(report)
    content = hd.sr.srread(report).content
    (region,) = content.get_planar_roi_measurement_groups()
    assert region.roi.value.tolist()[0] == [100, 200]
    (group,) = content.get_image_measurement_groups()
    assert group.source_images[0].referenced_sop_instance_uid == source.SOPInstanceUID
    months = [one.value for one in group.get_measurements() if one.name.value == "85151-9"]
    assert months == ([made.answer["bone_age_months"]] if task == "hand" else [])
    assert json.loads(bundle.read_bytes())["resourceType"] == "Bundle"

    before = {path: path.read_bytes() for path in by_kind.values()}
    assert main(["report", str(study_id), str(tmp_path / "out")]) == 0
    assert {path: path.read_bytes() for path in before} == before
    printed = capsys.readouterr()
    assert printed.out.split() == [str(path) for path in by_kind.values()]
    assert "not for diagnostic use" in printed.err


def test_a_photo_leaves_as_fhir_alone(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made,) = make_phantoms(tmp_path / "in", "wrist", 1, 8, format="png")
    study_id = decided(session, made.path, made.answer, PatientEntry("P-1", laterality="L"))
    assert main(["report", str(study_id), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(tmp_path / "out" / f"study-{study_id}-v1-fhir-bundle.json")]
    assert printed.err.count("came as PNG or JPEG") == 2


def test_an_unsigned_study_is_refused(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made,) = make_phantoms(tmp_path / "in", "hand", 1, 9)
    result = ingest.ingest_file(session, READER, made.path, made.path.name)
    assert main(["report", str(result.study_id), str(tmp_path / "out"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "undecided"
    assert not (tmp_path / "out").exists()
