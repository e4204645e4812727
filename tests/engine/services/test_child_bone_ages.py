"""engine.services.child_bone_ages: what was decided, else read; nothing that the reader must not know yet."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import BlindCase, BlindKind, QualityRule, Review, Study, Task, Verdict
from engine.findings.answers import bone_age_answer
from engine.findings.bone_age import BoneAgeSds, bone_age_sds
from engine.services import child_bone_ages, child_growth, review
from engine.services.accounts import Actor, demo_reader, service_actor
from engine.services.child_bone_ages import BoneAgeOfFilm
from engine.services.review import Decision

READER = demo_reader()
OTHER = Actor("other-reader", "Other reader", READER.role)
WORKER = service_actor("worker")
FILM = date(2025, 7, 10)


def bone_ages(session: Session, patient_id: int, actor: Actor = READER) -> list[BoneAgeOfFilm]:
    visits = child_growth.visits_of(session, actor, patient_id).visits
    return child_bone_ages.bone_ages_of(session, actor, patient_id, visits)


@pytest.fixture
def child(session: Session, new_case) -> int:
    """A girl of 9 y 4 m whose film was read as 110 months."""
    return session.get_one(Study, new_case(Task.BONE_AGE).study_id).patient_fk


def decide(session: Session, months: int, actor: Actor = READER) -> None:
    study = session.scalars(select(Study)).one()
    [image] = review.load_study(session, actor, study.id).images
    seen = {"prediction_id": image.read.prediction_id if image.read else None, "seen_review_id": image.seen_review_id}
    review.record_review(
        session, actor, image.image_id, Decision(Verdict.CORRECTED, answer=bone_age_answer(months), **seen)
    )


def test_a_decision_takes_the_place_of_the_read(session: Session, child: int) -> None:
    [read] = bone_ages(session, child)
    assert (read.bone_age_months, read.is_decided, read.height_cm) == (110, False, None)
    decide(session, 100)
    [decided] = bone_ages(session, child)
    assert (decided.bone_age_months, decided.is_decided) == (100, True)
    expected = bone_age_sds(100, decided.age_months, "F")
    assert isinstance(decided.sds, BoneAgeSds) and decided.sds == expected


@pytest.mark.parametrize(("days", "height"), [(0, 131.0), (-60, 131.0), (80, 131.0), (-120, None), (120, None)])
def test_a_height_counts_near_the_film_alone(session: Session, child: int, days: int, height: float | None) -> None:
    cells = {"measured_on": str(FILM + timedelta(days)), "length_height_cm": "131"}
    child_growth.add_visit(session, READER, child, cells)
    [film] = bone_ages(session, child)
    assert film.height_cm == height


def test_a_read_is_left_out_for_whoever_answers_first(session: Session, child: int) -> None:
    session.add(QualityRule(task=Task.BONE_AGE, blind_first=True, changed_by="demo-admin"))
    session.commit()
    assert bone_ages(session, child) == []


def test_a_second_reader_does_not_see_the_first_ones_decision(session: Session, child: int) -> None:
    decide(session, 97)
    first = session.scalars(select(Review)).one()
    study = session.scalars(select(Study)).one()
    session.add(
        BlindCase(
            kind=BlindKind.SECOND, image_fk=first.image_fk, study_fk=study.id, first_review_fk=first.id,
            first_reader_fk=first.reader_fk,
        )
    )  # fmt: skip
    session.commit()
    assert [film.bone_age_months for film in bone_ages(session, child)] == [97], "the first reader's own"
    assert 97 not in [film.bone_age_months for film in bone_ages(session, child, OTHER)]


def test_other_tasks_and_films_of_unknown_age_have_none(session: Session, new_case) -> None:
    for tags in ({"patient_birth_date": None}, {}):
        result = new_case(Task.FRACTURE if not tags else Task.BONE_AGE, **tags)
        patient = session.get_one(Study, result.study_id).patient_fk
        assert bone_ages(session, patient) == []
