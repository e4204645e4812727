"""A short run of tests/benchmarks/kills.py, and that its checks see what must not happen."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from db.models import Verdict
from db.session import session_scope
from engine.findings.answers import Task, fracture_answer
from engine.services import reading, review
from engine.services.ingest import ingest_file
from engine.settings import PROJECT_DIR
from tests.benchmarks import kills_checks
from tests.benchmarks.kills_clients import Decision, Film, Ledger, Stock, Withdrawal
from tests.engine.services.conftest import READER, WORKER, read_of

KILLS = 8


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    log = tmp_path / "kills.jsonl"
    command = [sys.executable, "-m", "tests.benchmarks.kills", "--kills", str(KILLS), "--seed", "8", "--seconds", "2.5"]
    done = subprocess.run([*command, "--log", str(log)], cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == KILLS == len(log.read_text().splitlines())
    assert found["films_answered"] > 0 and found["decisions_answered"] > 0  # people could work
    assert set(found["integrity_check"].values()) == {"ok"}


def what_happened(session: Session, folder: Path) -> Ledger:
    """Two films and a file that is none; one film decided, corrected, and the correction taken back."""

    ledger, stock = Ledger(folder / "answers.jsonl"), Stock(folder / "films", 5)
    for film in (stock.new(), stock.new(), stock.refused()):
        result = ingest_file(session, READER, film.path, film.path.name)
        film.answers.append(dataclasses.asdict(result))
        ledger.films.append(film)
    images = [film.answers[0]["image_id"] for film in ledger.films[:2]]
    reading.record_reads(
        session, WORKER, images, [read_of(Task.FRACTURE, fracture_answer("normal"))] * 2, is_phantom=True
    )
    read_id = review.load_study(session, READER, ledger.films[0].answers[0]["study_id"]).images[0].read.prediction_id
    for mark, verdict, answer in (
        ("first", Verdict.CONFIRMED, None),
        ("second", Verdict.CORRECTED, fracture_answer("buckle")),
    ):
        seen = ledger.decisions[-1].review_id if ledger.decisions else None
        decision = review.Decision(verdict, answer, comment=mark, prediction_id=read_id, seen_review_id=seen)
        made = review.record_review(session, READER, images[0], decision)
        ledger.decisions.append(Decision(mark, READER.username, images[0], verdict.value, answer, seen, made))
    last = ledger.decisions[-1].review_id
    taken_back = review.undo_review(session, READER, images[0], last)
    ledger.withdrawals.append(Withdrawal(READER.username, images[0], last, taken_back))
    return ledger


def lost_review(ledger: Ledger) -> None:
    ledger.decisions.append(dataclasses.replace(ledger.decisions[0], mark="lost", review_id=77))


def unsigned_review(ledger: Ledger) -> None:
    del ledger.decisions[0]


def refused_and_stored(ledger: Ledger) -> None:
    ledger.decisions[0] = dataclasses.replace(ledger.decisions[0], review_id=None, refused="conflict")


def another_answer(ledger: Ledger) -> None:
    ledger.decisions[1] = dataclasses.replace(ledger.decisions[1], answer=fracture_answer("distal_radius"))


def lost_withdrawal(ledger: Ledger) -> None:
    ledger.withdrawals.append(Withdrawal("demo-reader", 1, 78, withdrawn_by=79))


def lost_film(ledger: Ledger) -> None:
    film = ledger.films[0]
    path = film.path.with_name("lost.dcm")
    path.write_bytes(b"lost")
    ledger.films.append(Film(path, "1.2.3", answers=film.answers))


def unsent_film(ledger: Ledger) -> None:
    del ledger.films[0]


def lost_from_quarantine(ledger: Ledger) -> None:
    ledger.films[2].path.write_text("another one")


BROKEN: dict[Callable[[Ledger], None], str] = {
    lost_review: "review 77 of image 1 was answered",
    unsigned_review: "nobody signed",
    refused_and_stored: "was refused (conflict) and stored",
    another_answer: "was signed as",
    lost_withdrawal: "the withdrawal of review 78 was answered",
    lost_film: "lost.dcm, 1 answers, is here 0 times",
    unsent_film: "nobody sent image",
    lost_from_quarantine: "is here 0 times",
}


def test_the_checks_see_what_must_not_happen(database_url: str, data_dir: Path, tmp_path: Path) -> None:
    with session_scope(database_url) as session:
        ledger = what_happened(session, tmp_path)

    def problems() -> list[str]:
        return kills_checks.films(database_url, data_dir, ledger.films) + kills_checks.reviews(database_url, ledger)

    assert problems() == [] == kills_checks.reads(database_url)
    for break_it, said in BROKEN.items():
        kept = list(ledger.films), list(ledger.decisions), list(ledger.withdrawals)
        break_it(ledger)
        assert any(said in one for one in problems()), break_it.__name__
        ledger.films, ledger.decisions, ledger.withdrawals = kept


def test_half_an_export_is_seen(tmp_path: Path) -> None:
    assert kills_checks.trouble_with_export(tmp_path / "none", must_be_there=False) is None
    assert "is not there" in kills_checks.trouble_with_export(tmp_path / "none", must_be_there=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "export.json").write_text('{"images": 3}')
    assert "is not whole" in kills_checks.trouble_with_export(tmp_path / "half", must_be_there=False)
