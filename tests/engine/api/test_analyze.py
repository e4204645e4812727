"""Images that are read and not stored."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent, Quarantine, Study
from engine.errors import ReaderUnavailable, ReadFailed
from engine.findings.answers import Task, bone_age_answer
from engine.inference.model_folder import version_name
from engine.settings import PHANTOM_MODEL_DIR, settings
from tests.fake_door import WordyReader, door_of_this_machine
from tests.workstation import write_film

ROUTES = {Task.BONE_AGE: "bone-age", Task.ROP: "rop", Task.FRACTURE: "fracture"}


class KeepsContexts(WordyReader):
    def read_pixels(self, pixels, task, contexts):
        self.asked += contexts
        return super().read_pixels(pixels, task, contexts)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((400, 300)).save(buffer, "PNG")
    return buffer.getvalue()


def analyze(client: TestClient, task: Task, image: bytes, **form: str):
    return client.post(f"/radiology/analyze-{ROUTES[task]}", files={"image": ("x", image)}, data=form)


@pytest.mark.parametrize("task", list(Task))
def test_the_read_is_answered_and_nothing_is_stored(
    client: TestClient, session: Session, data_dir: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    with door_of_this_machine(WordyReader(), monkeypatch):
        answer = analyze(client, task, png())
    assert answer.status_code == 200, answer.text
    read = answer.json()
    assert (read["task"], read["answer"]["task"], read["model_version"]) == (task, task, "fake 1")
    shares = read["probabilities"] if task is not Task.ROP else read["probabilities"]["zone"]
    assert sum(shares.values()) == pytest.approx(1)
    assert (read["median_months"] is not None) == (read["interval_months"] is not None) == (task is Task.BONE_AGE)
    assert (read["abstained"], read["is_phantom"], read["image_is_phantom"]) == (False, False, False)
    for table in (Study, Quarantine):
        assert session.scalar(select(func.count()).select_from(table)) == 0
    assert not [file for file in data_dir.rglob("*") if file.is_file() and "sqlite" not in file.name]
    [audited] = session.scalars(select(AuditEvent)).all()
    assert (audited.action, audited.detail["task"]) == ("image.analyzed", task)


def test_sex_and_age_come_from_the_form_or_the_file(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_film(tmp_path / "hand.dcm").read_bytes()  # a girl of 9 y 4 m
    wrist = write_film(tmp_path / "wrist.dcm", Task.FRACTURE, PatientBirthDate=None).read_bytes()
    reader = KeepsContexts()
    with door_of_this_machine(reader, monkeypatch):
        from_form = analyze(client, Task.BONE_AGE, png(), sex="M").json()
        from_file = analyze(client, Task.BONE_AGE, film).json()
        neither = analyze(client, Task.BONE_AGE, png()).json()
        contradiction = analyze(client, Task.BONE_AGE, film, sex="M")
        aged = analyze(client, Task.FRACTURE, wrist, age_months="96").json()
    assert (from_form["sex"], from_file["sex"], neither["sex"]) == ("M", "F", None)
    assert from_file["age_months"] == pytest.approx(112)
    assert aged["age_months"] == 96
    assert [context.sex for context in reader.asked[:3]] == ["M", "F", None]
    assert (contradiction.status_code, contradiction.json()["error"]["code"]) == (422, "sex_contradicts_file")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "not_a_film"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for_processing"),
        ({"PatientBirthDate": "20260310"}, "birth_after_study"),
    ],
)
def test_what_may_not_enter_the_worklist_is_not_read_either(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: dict, code: str
) -> None:
    with door_of_this_machine(WordyReader(), monkeypatch):
        answer = analyze(client, Task.BONE_AGE, write_film(tmp_path / "x.dcm", **tags).read_bytes())
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)


def test_what_is_no_image_is_refused(client: TestClient) -> None:
    assert analyze(client, Task.ROP, b"%PDF-1.7").json()["error"]["code"] == "unknown_format"
    assert analyze(client, Task.ROP, b"").json()["error"]["code"] == "empty"


def test_without_a_worker_it_says_what_to_start(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEDISCREEN_READS_PORT", raising=False)
    settings.cache_clear()
    answer = analyze(client, Task.BONE_AGE, png())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
    assert "pediscreen up" in answer.json()["error"]["message"] and answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("trouble", "status", "code"),
    [(ReadFailed("no numbers"), 422, "read_failed"), (ReaderUnavailable("no memory"), 503, "model_unavailable")],
)
def test_a_model_that_gives_no_read_is_no_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, trouble: Exception, status: int, code: str
) -> None:
    monkeypatch.setattr("engine.inference.remote.PAUSES_S", ())
    with door_of_this_machine(WordyReader(error=trouble), monkeypatch):
        answer = analyze(client, Task.BONE_AGE, png())
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.slow
def test_the_phantom_model_reads_a_phantom_and_says_so(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.inference.checkpoint import load_reader
    from engine.phantoms.write import make_phantoms

    [hand] = make_phantoms(tmp_path, "hand", 1, 71)
    with door_of_this_machine(load_reader("phantom", None), monkeypatch):
        read = analyze(client, Task.BONE_AGE, hand.path.read_bytes()).json()
    assert (read["is_phantom"], read["image_is_phantom"]) == (True, True)
    assert read["model_version"] == version_name(PHANTOM_MODEL_DIR)
    assert read["answer"] == bone_age_answer(read["median_months"])
    assert abs(read["median_months"] - hand.answer["bone_age_months"]) <= 12
