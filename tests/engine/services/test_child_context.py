"""What is known of the child besides the film under review."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from db.models import GrowthVisit, Image, Study, Verdict, VisitSource
from engine.errors import NotAllowed, NotFound
from engine.findings.adult_height import AdultHeight
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.bone_age import BoneAgeSds
from engine.findings.fracture import Speed
from engine.findings.growth import Indicator
from engine.findings.reference import Refusal
from engine.services import growth_scores, quality_rules, review
from engine.services.accounts import Actor, Role
from engine.services.child_context import child_context, contradictions_of, meaning
from engine.services.ingest import IngestResult
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from tests.engine.services.conftest import ADMIN, READER, WORKER

CHILD = {"patient_id": "C1", "patient_birth_date": date(2016, 3, 10)}


def decide(session: Session, case: IngestResult, answer: dict, **details: object) -> None:
    image = review.load_study(session, READER, case.study_id).images[0]
    read_id = image.read.prediction_id if image.read else None
    decision = Decision(Verdict.CORRECTED, answer, details=details, prediction_id=read_id)
    review.record_review(session, READER, image.image_id, decision)


def measure(session: Session, case: IngestResult, on: date, **values: object) -> None:
    patient = review.repository.study_with_images(session, case.study_id).patient
    session.add(GrowthVisit(patient_fk=patient.id, measured_on=on, source=VisitSource.FORM, entered_by="a", **values))
    session.flush()
    growth_scores.refresh(session, patient)
    session.commit()


def test_the_other_films_of_the_child_the_latest_first(session: Session, new_case: Callable) -> None:
    first = new_case(answer=bone_age_answer(80), acquired_on=date(2023, 7, 10), **CHILD)
    second = new_case(answer=bone_age_answer(96), acquired_on=date(2024, 7, 10), **CHILD)
    wrist = new_case(Task.FRACTURE, acquired_on=date(2024, 9, 1), **CHILD)
    undated = new_case(acquired_on=None, **CHILD)
    new_case()  # another child
    now = new_case(answer=bone_age_answer(110), **CHILD)
    later = new_case(answer=bone_age_answer(118), acquired_on=date(2026, 1, 10), **CHILD)
    decide(session, first, bone_age_answer(84), method="atlas")

    context = child_context(session, READER, now.image_id)
    assert [film.study_id for film in context.films] == [case.study_id for case in (later, wrist, second, first)]
    assert [film.words for film in context.films] == [
        "9 y 10 m",
        "buckle fracture",
        "8 y 0 m",
        "7 y 0 m, by the atlas",
    ]
    assert [film.is_decided for film in context.films] == [False, False, False, True]
    assert context.undated == 1 and undated.study_id not in [film.study_id for film in context.films]
    assert context.contradictions == ()

    pace = meaning(context, bone_age_answer(110), {}).pace
    assert (pace.since, pace.gained_months, pace.elapsed_months) == (date(2024, 7, 10), 14, 12)


def test_nothing_of_the_examination_under_review_is_in_it(session: Session, new_case: Callable) -> None:
    """A second reader sees this page."""
    case = new_case(answer=bone_age_answer(110), **CHILD)
    decide(session, case, bone_age_answer(123))
    context = child_context(session, READER, case.image_id)
    assert context.films == () and "123" not in repr(context) and "110" not in repr(context)


def test_of_other_films_a_reader_sees_what_they_may_know(session: Session, new_case: Callable) -> None:
    """They may have to read those blind as well."""
    second = Actor("second", "Second", Role.READER)
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, second_read_share=1.0))
    other = new_case(answer=bone_age_answer(96), acquired_on=date(2024, 7, 10), **CHILD)
    decide(session, other, bone_age_answer(123))
    case = new_case(answer=bone_age_answer(110), **CHILD)
    assert [film.words for film in child_context(session, READER, case.image_id).films] == ["10 y 3 m"]
    seen = child_context(session, second, case.image_id)
    assert [(film.words, film.is_decided) for film in seen.films] == [("8 y 0 m", False)]

    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, blind_first=True))
    seen = child_context(session, second, case.image_id)
    assert [film.words for film in seen.films] == [None] and "96" not in repr(seen.films)


def test_a_rejected_or_unread_film_has_no_answer(session: Session, new_case: Callable) -> None:
    rejected = new_case(acquired_on=date(2024, 7, 10), **CHILD)
    image = review.load_study(session, READER, rejected.study_id).images[0]
    reason = review.RejectReason.POOR_QUALITY
    review.record_review(session, READER, image.image_id, Decision(Verdict.REJECTED, reject_reason=reason))
    new_case(reason="unlike the training images", acquired_on=date(2024, 8, 10), **CHILD)
    context = child_context(session, READER, new_case(**CHILD).image_id)
    assert [(film.words, film.is_decided) for film in context.films] == [(None, False), (None, True)]


def test_growth_near_the_film(session: Session, new_case: Callable) -> None:
    case = new_case(**CHILD)  # a girl of 9 y 4 m, 10 July 2025
    assert meaning(child_context(session, READER, case.image_id), bone_age_answer(110), {}).adult_height == Refusal(
        "not_measured", "no height was measured at the time of the film"
    )
    measure(session, case, date(2024, 7, 1), length_height_cm=127.0, weight_kg=26.0)
    measure(session, case, date(2025, 7, 22), length_height_cm=133.0, weight_kg=29.0)
    context = child_context(session, READER, case.image_id)
    assert (context.measured.visit.length_height_cm, context.measured.days, len(context.visits)) == (133.0, 12, 2)
    assert abs(context.measured.visit.scored.values[Indicator.HEIGHT].z) < 0.3

    found = meaning(context, bone_age_answer(110), {})
    assert isinstance(found.sds, BoneAgeSds) and found.sds.table_name.startswith("Greulich-Pyle")
    assert [plate.bone_age_months for plate in found.plates.nearest] == [106]
    assert isinstance(found.adult_height, AdultHeight) and 155 < found.adult_height.adult_height_cm < 172
    assert "too high where bone age is advanced" in found.adult_height.limits


def test_an_old_or_doubtful_height_predicts_nothing(session: Session, new_case: Callable) -> None:
    case = new_case(**CHILD)
    measure(session, case, date(2025, 4, 8), length_height_cm=132.0)  # 93 days before
    context = child_context(session, READER, case.image_id)
    assert meaning(context, bone_age_answer(110), {}).adult_height.code == "height_too_old"
    measure(session, case, date(2025, 7, 9), length_height_cm=1.33)
    context = child_context(session, READER, case.image_id)
    assert meaning(context, bone_age_answer(110), {}).adult_height.code == "length_height_in_metres"


def test_without_sex_age_or_date_nothing_is_made_up(session: Session, new_case: Callable) -> None:
    case = new_case(patient_sex=None, patient_birth_date=None, acquired_on=None, patient_id="C2")
    new_case(patient_sex=None, patient_birth_date=None, acquired_on=date(2024, 1, 1), patient_id="C2")
    context = child_context(session, READER, case.image_id)
    found = meaning(context, bone_age_answer(110), {})
    assert {found.sds.code, found.plates.code, found.adult_height.code} == {"no_sex"} and found.pace is None
    assert contradictions_of(context, bone_age_answer(1), {}) == []
    eye = meaning(context, rop_answer("I", "3", "plus"), {})
    assert (eye.act_by, eye.plan.act_within_hours, eye.look_again_by) == (None, 72, None)


def test_an_eye_has_its_type_rule_and_time(session: Session, new_case: Callable) -> None:
    context = child_context(session, READER, new_case(Task.ROP, **CHILD).image_id)
    found = meaning(context, rop_answer("I", "3", "none"), {})
    assert (found.etrop.type, found.etrop.text) == (1, "zone I, stage 3, without plus disease")
    assert found.act_by == date(2025, 7, 13)  # 72 h after the 10th
    found = meaning(context, rop_answer("II", "3", "none"), {})
    assert (found.etrop.type, found.act_by, found.look_again_by) == (2, None, date(2025, 7, 17))
    found = meaning(context, rop_answer("II", "3", "none"), {"aggressive": True})
    assert found.act_by == date(2025, 7, 12) and found.plan.source.unverified


def test_a_fracture_has_its_urgency_and_once_its_class_is_known_its_plan(session: Session, new_case: Callable) -> None:
    context = child_context(session, READER, new_case(Task.FRACTURE, **CHILD).image_id)
    found = meaning(context, fracture_answer("distal_radius"), {})
    assert found.plan is None and found.urgency.level == "soon"
    found = meaning(context, fracture_answer("distal_radius"), {"fracture_class": "complete", "displaced": True})
    assert (found.plan.speed, found.act_by) == (Speed.URGENT, date(2025, 7, 11))
    assert found.facts.ao_code.startswith("23r-M/3.1")
    found = meaning(context, fracture_answer("normal"), {})
    assert found.urgency.level == "none" and found.act_by is None


@pytest.mark.parametrize(
    ("weeks", "born", "on", "days"),
    [
        (28 + 2 / 7, date(2025, 5, 1), date(2025, 7, 10), 28 * 7 + 2 + 70),
        (None, date(2025, 5, 1), date(2025, 7, 10), None),
        (28.0, None, date(2025, 7, 10), None),
        (28.0, date(2025, 5, 1), None, None),
    ],
)
def test_postmenstrual_age_is_that_at_birth_plus_the_age(
    session: Session, new_case: Callable, weeks: float | None, born: date | None, on: date | None, days: int | None
) -> None:
    case = new_case(Task.ROP, patient_birth_date=born, acquired_on=on)
    review.repository.study_with_images(session, case.study_id).patient.gestational_age_weeks = weeks
    session.commit()
    context = child_context(session, READER, case.image_id)
    assert (context.gestational_age_weeks, context.postmenstrual_age_days) == (weeks, days)


def test_what_contradicts_the_childs_other_films(session: Session, new_case: Callable) -> None:
    before = {**CHILD, "acquired_on": date(2024, 7, 10), "patient_name": "Roe^Jane", "laterality": "R"}
    new_case(answer=bone_age_answer(120), **before)
    case = new_case(answer=bone_age_answer(110), **CHILD)
    context = child_context(session, READER, case.image_id)
    assert [found.code for found in context.contradictions] == ["side_changed", "name_differs"]
    assert "Roe" not in repr(context) and "Doe" not in repr(context)
    [fell] = contradictions_of(context, bone_age_answer(110), {})
    assert fell.code == "bone_age_fell" and "10 y 0 m on 10 Jul 2024 (not reviewed)" in fell.text
    assert contradictions_of(context, bone_age_answer(120), {}) == []


def test_another_sex_or_birth_date_is_said_once_on_either_film(session: Session, new_case: Callable) -> None:
    first = new_case(acquired_on=date(2024, 7, 10), **CHILD)
    second = new_case(patient_sex="M", patient_birth_date=date(2016, 4, 10), patient_id="C1")
    warnings = review.load_study(session, READER, second.study_id).warnings
    assert any("sex" in text for text in warnings) and any("birth date" in text for text in warnings)
    assert child_context(session, READER, second.image_id).contradictions == ()  # said by the warnings
    found = child_context(session, READER, first.image_id).contradictions
    assert [one.code for one in found] == ["sex_differs", "birth_date_differs"]


def test_the_number_of_queries_does_not_grow_with_the_films(session: Session, new_case: Callable) -> None:
    def queries(image_id: int) -> int:
        asked: list[str] = []

        def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
            asked.append(statement)

        session.expire_all()
        event.listen(session.get_bind(), "before_cursor_execute", note)
        child_context(session, READER, image_id)
        event.remove(session.get_bind(), "before_cursor_execute", note)
        return len(asked)

    few = new_case(**CHILD)
    new_case(acquired_on=date(2024, 7, 10), **CHILD)
    with_two = queries(few.image_id)
    for year in range(2017, 2024):
        new_case(acquired_on=date(year, 7, 10), **CHILD)
    assert queries(few.image_id) == with_two <= 10


def test_roles_and_unknown_images(session: Session, new_case: Callable) -> None:
    case = new_case()
    with pytest.raises(NotAllowed):
        child_context(session, WORKER, case.image_id)
    with pytest.raises(NotFound):
        child_context(session, READER, 77)
    child_context(session, Actor("b", "B", Role.ADJUDICATOR), case.image_id)
    assert session.get(Image, case.image_id) and session.get(Study, case.study_id)
