"""Two readers in processes of their own race for 200 cases on a real database: each case is read once, none is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent, Image, Review, Study, StudyStatus, UserAccount
from db.session import session_scope
from db.worklist_tables import Claim
from engine.findings.answers import Task
from engine.services import reading
from engine.settings import PROJECT_DIR
from tests.engine.services.conftest import WORKER, Arrivals, grey_film, hand_tags, read_of
from tests.postgresql import private_server

CASES = 200


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_database(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield request.getfixturevalue("database_url")
    else:
        with private_server() as url:
            yield url


@pytest.mark.slow
def test_two_readers_race_for_200_cases(
    shared_database: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_scope(shared_database) as session:
        fill(session, Arrivals(tmp_path, monkeypatch))
    taken = race(shared_database, data_dir, ["ada", "ben"])

    assert sorted([*taken["ada"], *taken["ben"]]) == list(range(1, CASES + 1))  # nothing taken twice
    assert min(len(mine) for mine in taken.values()) > CASES / 10  # it was a race
    with session_scope(shared_database) as session:
        reviews = session.execute(
            select(Image.study_fk, UserAccount.username)
            .join(Review, Review.image_fk == Image.id)
            .join(UserAccount, Review.reader_fk == UserAccount.id)
        ).all()
        assert Counter(study for study, _ in reviews) == dict.fromkeys(range(1, CASES + 1), 1)  # read once, none lost
        assert {reader: {study for study, by in reviews if by == reader} for reader in taken} == {
            reader: set(studies) for reader, studies in taken.items()
        }
        assert set(session.scalars(select(Study.status))) == {StudyStatus.REVIEWED}
        assert session.scalar(select(func.count()).select_from(Claim)) == 0
        taken_events = select(func.count()).where(AuditEvent.action == "claim.taken")
        assert session.scalar(taken_events) == CASES


def fill(session: Session, arrive: Arrivals) -> None:
    for number in range(1, CASES + 1):
        tags = hand_tags(number, body_part="WRIST")
        assert arrive(session, grey_film(tags, seed=number)).outcome == "accepted"
    waiting = [image.image_id for image in reading.images_awaiting_read(session, WORKER, limit=CASES)]
    reads = [read_of(Task.FRACTURE) for _ in waiting]
    reading.record_reads(session, WORKER, waiting, reads, is_phantom=True)


def race(url: str, data_dir: Path, readers: list[str]) -> dict[str, list[int]]:
    """Reader -> the studies that they took."""
    environment = os.environ | {"PEDISCREEN_DATA_DIR": str(data_dir)}
    processes = {
        reader: subprocess.Popen(
            [sys.executable, "-m", "tests.racing_reader", url, reader],
            cwd=PROJECT_DIR,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for reader in readers
    }
    for process in processes.values():
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {reader: process.communicate()[0] for reader, process in processes.items()}
    assert {process.returncode for process in processes.values()} == {0}
    return {reader: [int(line) for line in text.splitlines()] for reader, text in said.items()}
