"""Seeded reviewed studies by the thousand, as rows without films: what the dashboards are measured and tested on.

    python -m tests.benchmarks.reviewed_studies DATABASE_URL [--studies 100000] [--seed 7]

Two model versions have read (the later one is in use), a third reads alongside; eight readers decide, at times blind
first, at times as second readers or about a gold case; children come several times, and both eyes are one child's. The
facts that the dashboards count are made by the workstation's own code (engine.services.answer_facts)."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from db import migrate
from db.models import (
    Base,
    BlindAnswer,
    BlindCase,
    BlindRead,
    FilmStatistics,
    GoldCase,
    Image,
    ModelVersion,
    Patient,
    Prediction,
    Quarantine,
    Review,
    ShadowRead,
    Study,
    UserAccount,
)
from db.session import session_scope
from engine.findings.answers import Fracture, Plus, Stage, Task, Zone, bone_age_answer, fracture_answer, rop_answer
from engine.services import answer_facts
from engine.services.answer_facts import hour_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAYS = 540
READERS, SITES = 8, ("North", "South", "East", "West", None)
OLD, IN_USE, SHADOW = 1, 2, 3
AT_ONCE = 4000
MISTAKE = {OLD: 0.14, IN_USE: 0.09, SHADOW: 0.07}
REJECTS = ("poor_quality", "wrong_view", "not_readable", "wrong_side")


class Rows:
    """Collects rows by table and inserts them in the order of the foreign keys."""

    ORDER = (Patient, Study, Image, Prediction, ShadowRead, BlindAnswer, Review, GoldCase, BlindCase, BlindRead,
             FilmStatistics)  # fmt: skip

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rows: dict[type[Base], list[dict[str, Any]]] = defaultdict(list)
        self.count: dict[type[Base], int] = defaultdict(int)

    def add(self, table: type[Base], **values: Any) -> int:
        self.count[table] += 1
        key = {} if table is FilmStatistics else {"id": self.count[table]}
        self.rows[table].append(key | values)
        return self.count[table]

    def flush(self) -> None:
        for table in self.ORDER:
            if self.rows[table]:
                self.session.execute(insert(table), self.rows[table])
        self.rows.clear()
        self.session.commit()


def generate(database_url: str, studies: int, seed: int = 7) -> None:
    """Into an empty, migrated database."""
    rng = np.random.default_rng(seed)
    with session_scope(database_url) as session:
        _people_and_models(session)
        rows = Rows(session)
        for number in range(1, studies + 1):
            _study(rows, rng, number, is_open=number % 50 == 0)
            if number % AT_ONCE == 0:
                rows.flush()
        rows.flush()
        session.execute(insert(Quarantine), list(_refused(rng, max(12, studies // 300))))
        session.commit()
        if session.get_bind().dialect.name == "postgresql":
            _count_on(session)
    answer_facts.fill_missing(database_url)
    with session_scope(database_url) as session:
        session.connection().exec_driver_sql("ANALYZE")
        session.commit()


def _count_on(session: Session) -> None:
    """Ids were given by hand: the sequences have to follow."""
    for table in (*Rows.ORDER[:-1], ModelVersion, UserAccount):
        name = table.__tablename__
        session.connection().exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT COALESCE(MAX(id), 1) FROM {name}))"  # noqa: S608
        )
    session.commit()


def _people_and_models(session: Session) -> None:
    states = {OLD: "retired", IN_USE: "in_use", SHADOW: "candidate"}
    for version, state in states.items():
        session.execute(
            insert(ModelVersion),
            [{"id": version, "name": f"generated {version}.0", "is_phantom": False, "state": state, "created_at": NOW}],
        )
    session.execute(
        insert(UserAccount),
        [
            {"id": i, "username": f"reader{i}", "display_name": f"Reader {i}", "role": "reader",
             "pseudonym": f"R-{i:06}", "created_at": NOW}
            for i in range(1, READERS + 1)
        ],
    )  # fmt: skip
    session.commit()


def _study(rows: Rows, rng: np.random.Generator, number: int, is_open: bool) -> None:
    task = (Task.BONE_AGE, Task.ROP, Task.FRACTURE)[int(rng.choice(3, p=(0.45, 0.3, 0.25)))]
    received = NOW - timedelta(days=float(rng.uniform(0, 9 if is_open else DAYS)), hours=1)
    # one child in three comes again; which one follows from the seed
    patients = rows.count[Patient]
    if patients > 20 and rng.random() < 0.35:
        patient, sex = (int(rng.integers(patients - 20, patients)) + 1, None)
    else:
        sex = (
            ("M", "F", None)[int(rng.choice(3, p=(0.5, 0.47, 0.03)))]
            if task is not Task.BONE_AGE
            else rng.choice(["M", "F"])
        )
        patient = rows.add(Patient, pseudonym=f"P-{patients:07}", patient_id=f"ID{patients:07}", issuer="",
                           sex=sex, created_at=received)  # fmt: skip
    months = float(rng.uniform(1, 6) if task is Task.ROP else rng.uniform(12, 210))
    site = SITES[int(rng.choice(5, p=(0.4, 0.3, 0.15, 0.1, 0.05)))]
    study = rows.add(
        Study, study_instance_uid=f"2.25.{number}", patient_fk=patient, acquired_on=received.date(),
        received_at=received, site=site, task=task, task_source="tags",
        status="awaiting_review" if is_open else "reviewed", urgency="none", urgency_unverified=False,
        age_months=None if rng.random() < 0.02 else months, warnings=[], is_phantom=False,
    )  # fmt: skip
    for side in ("L", "R") if task is Task.ROP else ("L",):
        _image(rows, rng, task, study, side, received, months, is_open)


def _image(
    rows: Rows, rng: np.random.Generator, task: Task, study: int, side: str, received: datetime, months: float,
    is_open: bool,
) -> None:  # fmt: skip
    sha = f"{rows.count[Image] + 1:064x}"
    image = rows.add(
        Image, study_fk=study, file_sha256=sha, pixel_sha256=sha, source_format="dicom", laterality=side, rows=2000,
        cols=1600, read_state="done", read_round=1,
    )  # fmt: skip
    grey = float(np.clip(rng.normal(0.42, 0.08), 0, 1))
    rows.add(FilmStatistics, image_fk=image, study_fk=study, received_hour=hour_of(received), mean=grey,
             spread=float(np.clip(rng.normal(0.22, 0.04), 0, 0.5)), dark_share=float(rng.beta(2, 5)),
             sharpness=float(rng.gamma(4, 0.01)))  # fmt: skip
    truth = _truth(rng, task, months)
    version = OLD if received < NOW - timedelta(days=DAYS // 2) else IN_USE
    read = _read(rng, task, truth, version)
    at = received + timedelta(minutes=float(rng.exponential(8)))
    prediction = rows.add(Prediction, image_fk=image, model_version_fk=version, created_at=at, **read)
    if rng.random() < 0.3:
        rows.add(ShadowRead, image_fk=image, model_version_fk=SHADOW, prediction_fk=prediction, created_at=at,
                 **_read(rng, task, truth, SHADOW))  # fmt: skip
    if is_open:
        return
    reader = int(rng.integers(1, READERS + 1))
    decided = min(NOW, at + timedelta(hours=float(rng.gamma(1.5, 9))))
    answer = _reader_answer(rng, task, truth, read["answer"])
    blind = None
    if rng.random() < 0.15:
        own = _reader_answer(rng, task, truth, None)
        blind = rows.add(BlindAnswer, image_fk=image, reader_fk=reader, answer=own, seconds=5.0, created_at=decided)
        answer = own if rng.random() < 0.7 or read["answer"] is None else read["answer"]
    rejected = rng.random() < 0.02
    verdict = "rejected" if rejected else "confirmed" if answer == read["answer"] else "corrected"
    review = rows.add(
        Review, image_fk=image, revision=1, prediction_fk=prediction, reader_fk=reader, verdict=verdict,
        answer=None if rejected else answer, reject_reason=str(rng.choice(REJECTS)) if rejected else None, details={},
        seconds=round(float(rng.gamma(3, 4 + reader)), 1), created_at=decided, blind_answer_fk=blind,
        supersedes_id=None,
    )  # fmt: skip
    if not rejected and rng.random() < 0.1:
        second = reader % READERS + 1
        _blind_read(rows, rng, image, study, second, truth, decided, kind="second", first_review_fk=review,
                    first_reader_fk=reader, known=answer)  # fmt: skip
    elif not rejected and rng.random() < 0.01:
        gold = rows.add(GoldCase, image_fk=image, answer=truth, source="generated", made_by="generator",
                        made_at=decided)  # fmt: skip
        _blind_read(rows, rng, image, study, reader, truth, decided, kind="gold", gold_fk=gold, known=truth)


def _blind_read(rows, rng, image, study, reader, truth, at, *, kind, known, **more) -> None:
    said = _reader_answer(rng, Task(truth["task"]), truth, None)
    more = {"first_review_fk": None, "first_reader_fk": None, "gold_fk": None} | more
    state = "agrees" if said == known else "differs"
    case = rows.add(BlindCase, kind=kind, state=state, image_fk=image, study_fk=study, reader_fk=reader,
                    verdict="corrected", created_at=at, **more)  # fmt: skip
    rows.add(BlindRead, blind_case_fk=case, image_fk=image, revision=1, reader_fk=reader, verdict="corrected",
             answer=said, details={}, seconds=20.0, created_at=at + timedelta(hours=3))  # fmt: skip


def _truth(rng: np.random.Generator, task: Task, months: float) -> dict[str, Any]:
    if task is Task.BONE_AGE:
        return bone_age_answer(int(np.clip(round(rng.normal(months, 10)), 0, 228)))
    if task is Task.FRACTURE:
        return fracture_answer(str(rng.choice(list(Fracture), p=(0.2, 0.3, 0.5))))
    zone = str(rng.choice(list(Zone), p=(0.08, 0.42, 0.3, 0.2)))
    if zone == Zone.NONE:
        return rop_answer(zone, "0", "none")
    stage = str(rng.choice(list(Stage), p=(0.3, 0.25, 0.25, 0.16, 0.03, 0.01)))
    return rop_answer(zone, stage, str(rng.choice(list(Plus), p=(0.8, 0.12, 0.08))))


def _read(rng: np.random.Generator, task: Task, truth: dict[str, Any], version: int) -> dict[str, Any]:
    """The columns of a prediction."""
    row: dict[str, Any] = {
        "read_round": 1, "task": task, "median_months": None, "interval_low_months": None,
        "interval_high_months": None, "abstained": False, "reason": None, "milliseconds": 130.0,
    }  # fmt: skip
    if rng.random() < 0.015:
        return row | {"answer": None, "probabilities": {}, "abstained": True, "reason": "not sure enough"}
    if task is Task.BONE_AGE:
        spread = 2.0 + 12 * MISTAKE[version]
        median = int(np.clip(round(rng.normal(truth["bone_age_months"], spread)), 0, 228))
        near = np.arange(max(0, median - 15), min(228, median + 15) + 1)
        weights = np.exp(-0.5 * ((near - median) / spread) ** 2)
        shares = {str(month): round(float(w), 5) for month, w in zip(near, weights / weights.sum(), strict=True)}
        wide = round(1.28 * spread)
        return row | {
            "answer": bone_age_answer(median), "probabilities": shares, "median_months": median,
            "interval_low_months": max(0, median - wide), "interval_high_months": min(228, median + wide),
        }  # fmt: skip
    if task is Task.FRACTURE:
        said, shares = _classes(rng, list(Fracture), truth["fracture"], version)
        return row | {"answer": fracture_answer(said), "probabilities": shares}
    said, shares = {}, {}
    for name, kinds in (("zone", Zone), ("stage", Stage), ("plus_disease", Plus)):
        said[name], shares[name] = _classes(rng, list(kinds), truth[name], version)
    if said["zone"] == Zone.NONE:
        said |= {"stage": "0", "plus_disease": "none"}
    return row | {"answer": rop_answer(**said), "probabilities": shares}


def _classes(rng: np.random.Generator, kinds: list, truth: str, version: int) -> tuple[str, dict[str, float]]:
    weights = rng.gamma(0.4, 1, len(kinds)) * 0.25
    weights[[kind.value for kind in kinds].index(truth)] += rng.gamma(2, 0.35 / MISTAKE[version] / 10)
    shares = weights / weights.sum()
    return kinds[int(shares.argmax())].value, {
        kind.value: round(float(share), 5) for kind, share in zip(kinds, shares, strict=True)
    }


def _reader_answer(
    rng: np.random.Generator, task: Task, truth: dict[str, Any], read: dict[str, Any] | None
) -> dict[str, Any]:
    """Near the truth; the read's where that is near enough."""
    if task is Task.BONE_AGE:
        own = int(np.clip(round(rng.normal(truth["bone_age_months"], 3.5)), 0, 228))
        if read is not None and abs(own - read["bone_age_months"]) <= 5:
            return read
        return bone_age_answer(own)
    if rng.random() > 0.05:
        return truth
    return truth if read is None else read


def _refused(rng: np.random.Generator, count: int) -> Iterator[dict[str, Any]]:
    codes = ("not_dicom", "no_pixels", "for_processing", "too_small", "study_of_another_patient")
    for i in range(count):
        code = str(rng.choice(codes, p=(0.4, 0.2, 0.2, 0.15, 0.05)))
        yield {"file_name": f"file-{i}", "file_sha256": f"{i:064x}", "size_bytes": 1000, "code": code, "reason": code,
               "is_alert": False, "times_received": 1, "received_at": NOW, "received_from": "generator",
               "state": "open"}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database_url")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    migrate.upgrade(arguments.database_url)
    generate(arguments.database_url, arguments.studies, arguments.seed)
