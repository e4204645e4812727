"""A real Orthanc takes every document by C-STORE and by DICOMweb, finds it again in its study, and gives it back."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pydicom
import pytest

from engine.interop.documents import DICOM_KINDS, Document, documents_of
from engine.interop.signed_study import DocumentKind
from engine.interop.structured_report import structured_report
from tests.engine.interop import signed
from tests.engine.interop.orthanc import Modality, Orthanc, orthanc

MULTIPART = 'multipart/related; type="application/dicom"; boundary=pediscreen'


def stow(server: Orthanc, document: Document) -> None:
    body = b"--pediscreen\r\nContent-Type: application/dicom\r\n\r\n" + document.content + b"\r\n--pediscreen--\r\n"
    with server.client() as client:
        answer = client.post("/dicom-web/studies", content=body, headers={"Content-Type": MULTIPART})
    assert answer.status_code == 200, answer.text


def store(server: Orthanc, folder: Path) -> None:
    """Every file of the folder, by C-STORE."""
    program = shutil.which("storescu")
    if program is None:
        missing = "storescu is not installed (apt-get install dcmtk)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    command = [
        program,
        "-aet",
        "PEDISCREEN",
        "-aec",
        "ORTHANC",
        "+sd",
        "127.0.0.1",
        str(server.dicom_port),
        str(folder),
    ]
    sent = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stderr


def test_orthanc_takes_finds_and_returns_every_document(tmp_path: Path) -> None:
    sent: list[Document] = []
    folder = tmp_path / "sent"
    folder.mkdir()
    with orthanc([Modality("PEDISCREEN")]) as server:
        for number, make in enumerate(signed.EVERY_KIND.values()):
            examination = replace(make().examination, study_instance_uid=f"1.2.826.0.1.3680043.8.498.900.{number}")
            for document in documents_of(replace(make(), examination=examination), DICOM_KINDS):
                stow(server, document)
                (folder / f"{len(sent)}.dcm").write_bytes(document.content)
                sent.append(document)
        store(server, folder)  # again, by the other way
        assert len(server.get("/instances")) == len(sent) == 2 * len(signed.EVERY_KIND)
        for document in sent:
            data = pydicom.dcmread(io.BytesIO(document.content))
            path = f"/dicom-web/studies/{data.StudyInstanceUID}/instances?SOPInstanceUID={document.uid}"
            (found,) = server.get(path)
            assert found["00080016"]["Value"] == [document.sop_class_uid]
            assert found["0020000E"]["Value"] == [data.SeriesInstanceUID]
            (instance,) = server.post("/tools/lookup", content=document.uid.encode())
            returned = pydicom.dcmread(io.BytesIO(server.instance_file(instance["ID"])))
            assert returned == data
        _finds_by_what_a_clinic_asks(server)
        report = next(one for one in sent if one.kind is DocumentKind.STRUCTURED_REPORT)
        (instance,) = server.post("/tools/lookup", content=report.uid.encode())
        (tmp_path / "returned.dcm").write_bytes(server.instance_file(instance["ID"]))
    (tmp_path / "sent.dcm").write_bytes(report.content)
    back, ours = hd.sr.srread(tmp_path / "returned.dcm"), hd.sr.srread(tmp_path / "sent.dcm")
    assert back.to_json_dict() == ours.to_json_dict() and back.content == ours.content


def _finds_by_what_a_clinic_asks(server: Orthanc) -> None:
    studies = server.get(f"/dicom-web/studies?PatientID={signed.PATIENT_ID}&ModalitiesInStudy=SR&StudyDate=20260303")
    assert len(studies) > 5
    (named,) = server.get("/dicom-web/studies?PatientName=Yamada*")
    assert named["00100010"]["Value"][0]["Alphabetic"] == "Yamada^Tarou"


def test_highdicom_reads_every_report_back_as_it_was_written(tmp_path: Path) -> None:
    for make in signed.EVERY_KIND.values():
        (document,) = documents_of(make(), [DocumentKind.STRUCTURED_REPORT], with_comments=True)
        path = tmp_path / document.file_name
        path.write_bytes(document.content)
        read = hd.sr.srread(path)
        written = structured_report(make(), with_comments=True)
        assert read.content == written.content
        assert read.to_json_dict() == pydicom.dcmread(path).to_json_dict()
