"""Films that arrive without a decoder: what a file holds is said by the test."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.orm import Session

from engine.errors import Refused
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.imaging.film import Film, FilmTags, Voi
from engine.inference.read import Read
from engine.jobs import sending
from engine.services import ingest, reading
from engine.services.accounts import Actor, demo_admin, demo_reader, service_actor
from engine.services.ingest import IngestResult, PatientEntry
from tests.engine.services.hospital import Hospital
from tests.workstation import AddCase, case_adder

READER, ADMIN, WORKER = demo_reader(), demo_admin(), service_actor("worker")
TAGS_OF = {
    Task.BONE_AGE: {"body_part": "HAND"},
    Task.ROP: {"body_part": "EYE", "modality": "OP"},
    Task.FRACTURE: {"body_part": "WRIST"},
}
SOME_ANSWER = {
    Task.BONE_AGE: bone_age_answer(110),
    Task.ROP: rop_answer("II", "1", "none"),
    Task.FRACTURE: fracture_answer("buckle"),
}


def hand_tags(number: int = 1, **changes: Any) -> FilmTags:
    """A left hand of a girl of 9 y 4 m, a child and study of its own for every `number`."""
    tags = FilmTags(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        sop_instance_uid=f"1.2.3.{number}.1",
        study_instance_uid=f"1.2.3.{number}",
        series_instance_uid=f"1.2.3.{number}.0",
        accession_number=f"A{number:05}",
        modality="DX",
        patient_id=f"ID{number:05}",
        patient_name="Doe^Jane",
        patient_sex="F",
        patient_birth_date=date(2016, 3, 10),
        acquired_on=date(2025, 7, 10),
        laterality="L",
        body_part="HAND",
        institution="Site A",
        burned_in_annotation="NO",
    )
    return dataclasses.replace(tags, **changes)


def grey_film(tags: FilmTags, seed: int = 0, source_format: str = "dicom") -> Film:
    pixels = np.random.default_rng(seed).integers(0, 4096, (210, 200), np.uint16)
    return Film(pixels, source_format, (Voi("window 1", "linear", 2048, 4096),), tags=tags)  # type: ignore[arg-type]


class Arrivals:
    """Call it with a film or a refusal, and a file with its own content arrives that decodes to just that."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.by_content: dict[bytes, Film | Refused] = {}
        self.numbers = itertools.count(1)
        monkeypatch.setattr(ingest, "load_film", self.load)

    def load(self, path: Path) -> Film:
        decoded = self.by_content[path.read_bytes()]
        if isinstance(decoded, Refused):
            raise decoded
        return decoded

    def file(self, decodes_to: Film | Refused, content: bytes | None = None) -> Path:
        content = f"file {next(self.numbers)}".encode() if content is None else content
        self.by_content[content] = decodes_to
        path = self.folder / f"upload-{next(self.numbers)}.dcm"
        path.write_bytes(content)
        return path

    def __call__(
        self,
        session: Session,
        film: Film | Refused,
        *,
        actor: Actor = READER,
        entry: PatientEntry | None = None,
        task: Task | None = None,
        name: str = "upload.dcm",
    ) -> IngestResult:
        return ingest.ingest_file(session, actor, self.file(film), name, entry=entry, task=task)


@pytest.fixture
def arrive(tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    return Arrivals(tmp_path, monkeypatch)


def read_of(task: Task, answer: dict | None = None, *, version: str = "phantom 0.3", reason: str | None = None) -> Read:
    """A read; with a `reason` the model abstains."""
    if reason is not None:
        return Read(task, None, {}, None, None, True, reason, version, 12.0)
    answer = answer or SOME_ANSWER[task]
    months = answer.get("bone_age_months")
    interval = None if months is None else (months - 7, months + 7)
    return Read(task, answer, {"p": 1.0}, months, interval, False, None, version, 12.0)


ReadAll = Callable[..., list[int]]


@pytest.fixture
def new_case(arrive: Arrivals, session: Session) -> Callable[..., IngestResult]:
    """A case of `task` with a read (`answer`, or `reason` for none), number by number another child."""
    numbers = itertools.count(1000)

    def make(
        task: Task = Task.BONE_AGE, answer: dict | None = None, reason: str | None = None, **tags: Any
    ) -> IngestResult:
        number = next(numbers)
        film = grey_film(hand_tags(number, **TAGS_OF[task] | tags), seed=number)
        result = arrive(session, film)
        assert result.outcome == "accepted", result.reason
        for waiting in reading.images_awaiting_read(session, WORKER):
            if waiting.image_id == result.image_id:
                read = read_of(task, answer, reason=reason)
                reading.record_reads(session, WORKER, [waiting.image_id], [read], is_phantom=True)
        return result

    return make


@pytest.fixture
def hospital(database_url: str, session: Session, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    here = Hospital(database_url, session)
    monkeypatch.setattr(sending, "deliver", here.deliver)
    here.note()  # the destination is known before the first case is signed
    return here


@pytest.fixture
def case(session: Session, tmp_path: Path) -> AddCase:
    """`case()`: a study with one read image; its result."""
    return case_adder(session, tmp_path)
