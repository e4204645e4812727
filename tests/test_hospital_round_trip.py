"""A film goes from a scanner to PediScreen, is reviewed in a browser, and its report comes back to the PACS: with
Orthanc in front, and with our own receiver in its place. Every counterpart is the real one: dcmtk's storescu, Orthanc,
Chromium; dciodvfy and dsrdump judge what came back."""

from __future__ import annotations

import io
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pydicom import Dataset, dcmread

from engine.phantoms.write import make_phantoms
from tests.engine.interop.orthanc import Modality, Orthanc, orthanc
from tests.engine.interop.validators import dciodvfy_errors, dsrdump
from tests.pediscreen_up import free_port, pediscreen_up

LABELS = {"buckle": "Buckle", "distal_radius": "Distal radius", "normal": "Normal"}
IN_REPORT = {  # the code meanings of engine/interop/codes.csv
    "buckle": "Buckle (torus) fracture of the distal forearm",
    "distal_radius": "Fracture of distal end of radius",
    "normal": "No fracture seen",
}
PATIENCE_S = 90
QUIET_S = "1"


@dataclass
class Hospital:
    """Its PACS, the workstation at its address, and the port where the workstation receives by itself."""

    pacs: Orthanc
    address: str
    dicom_port: int
    data_dir: Path

    def rows(self, query: str) -> list[tuple]:
        with sqlite3.connect(f"file:{self.data_dir / 'pediscreen.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute(query).fetchall()

    def find(self, path: str) -> list[dict]:
        """QIDO-RS."""
        return self.pacs.get(f"/dicom-web/{path}")

    def reports(self, study_instance_uid: str) -> list[Dataset]:
        """Structured reports of the study as the PACS gives them back, the first one first."""
        found = self.pacs.post(
            "/tools/find", json={"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid}}
        )
        objects = [dcmread(io.BytesIO(self.pacs.instance_file(one))) for one in found]
        return sorted((one for one in objects if one.Modality == "SR"), key=lambda one: int(one.SeriesNumber))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """`pediscreen up` follows an Orthanc, receives by itself besides, and sends to that Orthanc by two ways."""
    _require("storescu", "dcmtk")
    data_dir, dicom_port = tmp_path_factory.mktemp("hospital") / "data", free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PEDISCREEN_")}
    with orthanc([Modality("CR1"), Modality("PEDISCREEN")]) as pacs:
        environment |= {
            "PEDISCREEN_DATA_DIR": str(data_dir),
            "PEDISCREEN_ORTHANC_URL": pacs.url,
            "PEDISCREEN_ORTHANC_USER": pacs.user,
            "PEDISCREEN_ORTHANC_PASSWORD": pacs.password,
            "PEDISCREEN_DICOM_PORT": str(dicom_port),
            "PEDISCREEN_DICOM_SENDERS": "CR1",
            "PEDISCREEN_SEND_TO_PACS": f"dicom://ORTHANC@127.0.0.1:{pacs.dicom_port}",
            "PEDISCREEN_SEND_TO_WEB": f"dicomweb+{pacs.dicom_web_url}",
            "PEDISCREEN_SEND_TO_WEB_USER": pacs.user,
            "PEDISCREEN_SEND_TO_WEB_PASSWORD": pacs.password,
            "PEDISCREEN_SEND_AFTER_S": QUIET_S,
            "PEDISCREEN_VIEWER_URL": "http://127.0.0.1:1/viewer?StudyInstanceUIDs={StudyInstanceUID}",
        }
        with pediscreen_up(environment) as address:
            yield Hospital(pacs, address, dicom_port, data_dir)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    expect.set_options(timeout=PATIENCE_S * 1000)
    yield page
    context.close()


@pytest.fixture
def wrist(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Another child's for every test."""
    seed = 20 + len(request.node.name)
    return make_phantoms(tmp_path / "films", "wrist", 1, seed=seed, format="dicom")[0].path


def test_by_way_of_the_pacs_and_back(hospital: Hospital, page: Page, wrist: Path, tmp_path: Path) -> None:
    film = dcmread(wrist, stop_before_pixels=True)
    store(wrist, "ORTHANC", hospital.pacs.dicom_port)
    said = review(page, hospital, film)

    (report,) = wait_for(lambda: hospital.reports(film.StudyInstanceUID), 1)
    judge(report, film, said, tmp_path)
    found = hospital.find(f"studies?StudyInstanceUID={film.StudyInstanceUID}&includefield=ModalitiesInStudy")
    assert {*found[0]["00080061"]["Value"]} >= {film.Modality, "SR"}
    (series,) = hospital.find(f"studies/{film.StudyInstanceUID}/series?Modality=SR")
    assert series["0020000E"]["Value"] == [report.SeriesInstanceUID]
    assert hospital.find(f"studies?PatientID={film.PatientID}&ModalitiesInStudy=SR"), "the PACS finds it by the child"

    open_case(page, hospital, film)
    expect(page.get_by_text(re.compile("Report sent to PACS at"))).to_be_visible()
    expect(page.get_by_text(re.compile("Report sent to WEB at"))).to_be_visible()
    link = page.get_by_role("link", name="Open in OHIF")
    expect(link).to_have_attribute("href", f"http://127.0.0.1:1/viewer?StudyInstanceUIDs={film.StudyInstanceUID}")

    corrected = decide(page, besides=said)
    first, second = wait_for(lambda: hospital.reports(film.StudyInstanceUID), 2)
    judge(second, film, corrected, tmp_path)
    before = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert before.ReferencedSOPInstanceUID == first.SOPInstanceUID
    nothing_came_back_in(hospital, film)


def test_by_our_own_receiver_and_into_the_pacs(hospital: Hospital, page: Page, wrist: Path, tmp_path: Path) -> None:
    film = dcmread(wrist, stop_before_pixels=True)
    store(wrist, "PEDISCREEN", hospital.dicom_port)
    said = review(page, hospital, film)
    (report,) = wait_for(lambda: hospital.reports(film.StudyInstanceUID), 1)
    judge(report, film, said, tmp_path)
    assert hospital.find(f"studies?PatientID={film.PatientID}&ModalitiesInStudy=SR")
    nothing_came_back_in(hospital, film)


def store(path: Path, called: str, port: int) -> None:
    """As a scanner does."""
    command = ["storescu", "-aet", "CR1", "-aec", called, "127.0.0.1", str(port), str(path)]
    sent = subprocess.run(command, capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stderr


def review(page: Page, hospital: Hospital, film: Dataset) -> str:
    """From the worklist; returns the answer given."""
    wait_for(lambda: study_rows(hospital, film, "read_state = 'done'"), 1)
    page.goto(hospital.address)
    page.locator("tr[data-study]").first.click()
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    expect(page.get_by_text(re.compile("Read by phantom"))).to_be_visible()
    return decide(page)


def decide(page: Page, besides: str = "") -> str:
    """Another label than the read, and than `besides`."""
    read = page.locator(".answer").first.inner_text().lower()
    label = next(one for one in LABELS if LABELS[one].lower() not in read and one != besides)
    choice = LABELS[label]
    page.get_by_role("button", name=choice, exact=True).or_(page.get_by_role("radio", name=choice, exact=True)).click()
    page.get_by_role("button", name=re.compile("^Correct to .* and next")).click()
    expect(page.get_by_role("button", name=re.compile("^Correct to .* and next"))).to_have_count(0)
    return label


def open_case(page: Page, hospital: Hospital, film: Dataset) -> None:
    ((study_id, _),) = study_rows(hospital, film)
    page.goto(f"{hospital.address}/review?study={study_id}")
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")


def study_rows(hospital: Hospital, film: Dataset, also: str = "1 = 1") -> list[tuple]:
    return hospital.rows(
        "SELECT study.id, image.id FROM study JOIN image ON image.study_fk = study.id "  # noqa: S608 - our own words
        f"WHERE study_instance_uid = '{film.StudyInstanceUID}' AND {also}"
    )


def judge(report: Dataset, film: Dataset, answer: str, folder: Path) -> None:
    """By others' programs."""
    path = folder / f"{report.SOPInstanceUID}.dcm"
    report.save_as(path, enforce_file_format=True)
    assert dciodvfy_errors(path) == []
    assert IN_REPORT[answer] in dsrdump(path)
    same = ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex")
    for keyword in same:
        assert report.get(keyword) == film.get(keyword), keyword
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "VERIFIED")


def nothing_came_back_in(hospital: Hospital, film: Dataset) -> None:
    """The PACS that is followed now holds our own report; that is no film."""
    deliveries = "SELECT count(*) FROM delivery WHERE state NOT IN ('sent', 'overtaken')"
    wait_for(lambda: [None] if hospital.rows(deliveries) == [(0,)] else [], 1)
    time.sleep(4)  # the PACS says after a second that a study is complete; the follower looks every two
    assert len(study_rows(hospital, film)) == 1
    assert hospital.rows("SELECT code, reason FROM quarantine") == []


def wait_for(ask: Callable[[], list], count: int) -> list:
    deadline = time.monotonic() + PATIENCE_S
    while len(found := ask()) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} after {PATIENCE_S} s"
        time.sleep(0.2)
    assert len(found) == count
    return found


def _require(program: str, package: str) -> None:
    if shutil.which(program) is None:
        missing = f"{program} is not installed (apt-get install {package})"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
