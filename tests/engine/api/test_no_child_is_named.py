"""Names, patient IDs, birth dates and accession numbers go in and never come out: not in any route's answer or error,
not in the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom import dcmread
from sqlalchemy.orm import Session

from engine.api.app import api
from engine.findings.answers import Task, fracture_answer
from engine.services import quality_rules
from engine.services.accounts import demo_admin
from engine.services.quality_rules import Rule
from tests.api_process import new_token
from tests.engine.api.conftest import Acting
from tests.fake_door import WordyReader, door_of_this_machine
from tests.workstation import AddCase, write_film

PLANTED = {
    "PatientName": "Zwetschkenbaum^Ottilie",
    "PatientID": "PID-8842-Q",
    "PatientBirthDate": "20160229",
    "AccessionNumber": "ACC-7731-Z",
    "OtherPatientIDs": "OTHER-5521",
    "PatientAddress": "Nussbaumgasse 7",
    "PatientMotherBirthName": "Marillenknoedel",
    "ReferringPhysicianName": "Powidl^Karl",
}
TELLS = (
    *("zwetschkenbaum", "ottilie", "pid-8842", "20160229", "2016-02-29", "29.02.2016", "acc-7731"),
    *("other-5521", "nussbaum", "marillen", "powidl"),
)


STOW = 'multipart/related; type="application/dicom"; boundary="b"'


def stow_body(film: bytes) -> bytes:
    return b"--b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--b--\r\n" % film


def tells(text: str) -> list[str]:
    return [planted for planted in TELLS if planted in text.lower()]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that any logger says meanwhile."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    assert tells(caplog.text) == []


def test_no_route_answers_with_what_identifies_a_child(
    client: TestClient,
    acting: Acting,
    add_case: AddCase,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    for task in Task:
        add_case(task, **PLANTED)
    quality_rules.set_rule(session, demo_admin(), Rule(Task.FRACTURE, blind_first=True))
    film = write_film(tmp_path / "a.dcm", **PLANTED).read_bytes()
    form = {"patient_id": PLANTED["PatientID"], "birth_date": "2016-02-29", "sex": "F", "acquired_on": "2025-07-10"}
    review = {"verdict": "corrected", "answer": {"task": "bone_age", "bone_age_months": 100}}
    routes = {
        ("get", "/radiology/queue"): [{"params": {"search": PLANTED["PatientID"]}}, {}],
        ("get", "/radiology/studies/{study_id}"): [{}],
        ("get", "/radiology/studies/{study_id}/pixels"): [{}],
        ("post", "/radiology/studies"): [
            {"files": [("files", ("x", film))]},
            {"files": [("files", ("x", film))], "data": form},  # a duplicate
            {"files": [("files", ("y", png()))], "data": form},
        ],
        ("post", "/radiology/studies/{study_id}/review"): [{"json": review}, {"json": review}],
        ("post", "/radiology/studies/{study_id}/blind-answer"): [{"json": {"answer": fracture_answer("normal")}}],
        **{
            ("post", f"/radiology/analyze-{task}"): [{"files": {"image": ("x", film)}}]
            for task in ("bone-age", "rop", "fracture")
        },
        ("post", "/dicom-web/studies"): [{"content": stow_body(film), "headers": {"Content-Type": STOW}}],
        ("get", "/radiology/models"): [{}],
        ("get", "/health"): [{}],
    }
    described = {(method, path) for path, methods in api.openapi()["paths"].items() for method in methods}
    assert set(routes) == described, "a route that nobody has looked at here"
    with door_of_this_machine(WordyReader(), monkeypatch):
        for program in (client, acting(demo_admin())):
            for (method, path), requests in routes.items():
                study_id = 3 if path.endswith("blind-answer") else 1
                for request in requests:
                    answer = program.request(method.upper(), path.format(study_id=study_id), **request)
                    assert answer.status_code < 500, answer.text
                    said = answer.text + str({name: value for name, value in answer.headers.items() if name != "link"})
                    assert tells(said) == [], (path, said)


BAD_FILES = {
    "birth_after_study": {"StudyDate": "20100101", "AcquisitionDate": "20100101"},
    "not_a_film": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
    "bad_uid": {"StudyInstanceUID": "1.2.x"},
    "no_patient_id": {"PatientID": None},
    "size": {"Rows": 2, "Columns": 2},
    "truncated": {},
    "study_of_another_patient": {},
    "sop_instance_uid_reused": {},
}


@pytest.mark.parametrize("code", BAD_FILES)
def test_no_refusal_quotes_what_identifies_a_child(
    client: TestClient, add_case: AddCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log, code: str
) -> None:
    path = write_film(tmp_path / "a.dcm", **{**PLANTED, **BAD_FILES[code]})
    content = path.read_bytes()
    if code == "truncated":
        content = content[: len(content) // 2]
    if code in ("study_of_another_patient", "sop_instance_uid_reused"):
        ds = dcmread(path)
        same = {"StudyInstanceUID": ds.StudyInstanceUID}
        if code == "sop_instance_uid_reused":
            same["SOPInstanceUID"] = ds.SOPInstanceUID
        add_case(**{**PLANTED, "PatientID": "PID-8842-R", **same})
    uploaded = client.post("/radiology/studies", files=[("files", ("x", content))])
    assert uploaded.json()["files"][0]["outcome"] == "quarantined", uploaded.text
    assert tells(uploaded.text) == []
    with door_of_this_machine(WordyReader(), monkeypatch):
        analyzed = client.post("/radiology/analyze-bone-age", files={"image": ("x", content)})
    assert tells(analyzed.text) == []


@pytest.mark.parametrize(
    "form",
    [
        {"birth_date": "2016-02-29 Zwetschkenbaum"},
        {"patient_id": "PID-8842-Q" * 20},
        {"sex": "Ottilie"},
        {"task": "Zwetschkenbaum"},
    ],
)
def test_a_refused_field_is_named_and_not_quoted(client: TestClient, log, form: dict) -> None:
    answer = client.post("/radiology/studies", files=[("files", ("x", b"x"))], data=form)
    assert answer.status_code == 422
    assert next(iter(form)) in answer.text and tells(answer.text) == []


def test_the_server_log_of_the_api_alone_holds_no_query_and_no_name(
    session: Session, add_case: AddCase, tmp_path: Path
) -> None:
    import httpx

    from tests.api_process import api_process

    add_case(**PLANTED)
    with api_process(tmp_path) as address:
        head = {"Authorization": f"Bearer {new_token()}"}
        for path in (
            "/radiology/queue?search=PID-8842-Q",
            "/radiology/studies/Zwetschkenbaum",
            "/radiology/Zwetschkenbaum",
            "/radiology/studies/1",
        ):
            httpx.get(address + path, headers=head)
        httpx.post(address + "/radiology/studies", headers=head, files=[("files", ("Zwetschkenbaum.dcm", b"x"))])
    text = (tmp_path / "api.log").read_text()
    assert " token:1 GET /queue 200 " in text
    assert tells(text) == []


def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((400, 300)).save(buffer, "PNG")
    return buffer.getvalue()
