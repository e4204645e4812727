import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter

import pytest
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db.models import URGENCY_RANK, Image, ModelVersion, Patient, Prediction, Sex, Study, StudyStatus, Urgency
from engine.errors import NotAllowed
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.urgency import Level
from engine.services import review, worklist
from engine.services.review import Decision, Verdict
from engine.services.worklist import Sort, WorklistFilter
from tests.engine.services.conftest import READER, WORKER, Arrivals, grey_film, hand_tags

EVERYTHING = WorklistFilter()


def fill(session: Session, count: int, seed: int = 3) -> list[Study]:
    """Studies with gaps in everything that can be unknown, written past the services."""
    rng = random.Random(seed)
    version = ModelVersion(name="phantom 0.3", is_phantom=True)
    session.add(version)
    session.flush()
    children = [
        {"id": n, "pseudonym": f"P-{n:06}", "patient_id": f"ID{n:05}", "issuer": "", "sex": rng.choice([*Sex, None])}
        for n in range(1, count // 2 + 2)
    ]
    session.execute(insert(Patient), children)
    studies, images, reads = [], [], []
    for n in range(1, count + 1):
        task = rng.choice([*Task])
        studies.append(
            {
                "id": n,
                "study_instance_uid": f"1.2.{n}",
                "patient_fk": rng.randint(1, len(children)),
                "accession_number": f"A{n:06}",
                "acquired_on": rng.choice([None, date(2025, 1, 1) + timedelta(days=rng.randrange(300))]),
                "received_at": datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(10**5)),
                "site": rng.choice(["A", "B", None]),
                "task": task,
                "status": rng.choice([*StudyStatus]),
                "urgency": rng.choice([*Urgency]),
                "urgency_unverified": False,
                "act_by": rng.choice([None, date(2025, 7, 1) + timedelta(days=rng.randrange(20))]),
                "learn_value": rng.choice([None, rng.random()]),
                "learn_group": rng.choice([None, "a", "b", "c"]),
                "age_months": rng.choice([None, rng.uniform(0, 220)]),
                "warnings": [],
                "is_phantom": True,
            }
        )
        images.append(
            {
                "id": n,
                "study_fk": n,
                "file_sha256": f"{n:064x}",
                "pixel_sha256": f"{n:064x}",
                "source_format": "dicom",
                "rows": 10,
                "cols": 10,
                "read_state": "done",
                "read_round": 1,
            }
        )
        reads.append(
            {
                "image_fk": n,
                "model_version_fk": version.id,
                "read_round": 1,
                "task": "bone_age",
                "answer": bone_age_answer(n % 229),
                "probabilities": {},
                "abstained": False,
                "milliseconds": 1.0,
            }
        )
    for table, rows in ((Study, studies), (Image, images), (Prediction, reads)):
        session.execute(insert(table), rows)
    session.commit()
    return list(session.scalars(select(Study)))


def sorted_in_python(studies: list[Study], sort: Sort, descending: bool) -> list[int]:
    """The order again, without SQL: unknown last either way, ids settle ties."""
    decided = Counter(study.learn_group for study in studies if study.status == StudyStatus.REVIEWED)
    values = {
        "pressing": lambda study: study.urgency_rank if study.urgency in ("urgent", "immediate") else 0,
        "deadline": lambda study: study.act_by if study.urgency in ("urgent", "immediate") else None,
        "value": lambda study: (
            None
            if study.learn_value is None
            else 0.7 * study.learn_value + 0.3 * (10 / (10 + (decided[study.learn_group] if study.learn_group else 0)))
        ),
    }
    keys = {
        Sort.URGENCY: (("urgency_rank", True), ("act_by", False), ("acquired_on", False)),
        Sort.LEARNING: (("pressing", True), ("deadline", False), ("value", True)),
        Sort.ACQUIRED: (("acquired_on", False),),
        Sort.RECEIVED: (("received_at", False),),
        Sort.AGE: (("age_months", False),),
        Sort.SITE: (("site", False), ("acquired_on", False)),
        Sort.STATUS: (("status", False), ("urgency_rank", True), ("act_by", False), ("acquired_on", False)),
        Sort.PATIENT: (("patient_fk", False), ("acquired_on", False)),
    }[sort]
    ordered = sorted(studies, key=lambda study: study.id)
    for name, is_descending in reversed(keys):
        value = values.get(name, attrgetter(name))
        known = [study for study in ordered if value(study) is not None]
        unknown = [study for study in ordered if value(study) is None]
        # a reversed sort keeps equal elements in their order
        known.sort(key=value, reverse=is_descending != descending)
        ordered = known + unknown
    return [study.id for study in ordered]


def all_pages(session: Session, filter: WorklistFilter, page_size: int) -> Iterator[int]:
    page = 1
    while rows := worklist.worklist_page(session, READER, filter, page, page_size).rows:
        yield from (row.study_id for row in rows)
        page += 1


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", list(Sort))
def test_every_order_page_by_page_and_step_by_step(session: Session, sort: Sort, descending: bool) -> None:
    studies = fill(session, 90)
    expected = sorted_in_python(studies, sort, descending)
    filter = WorklistFilter(sort=sort, descending=descending)
    assert list(all_pages(session, filter, 20)) == expected
    steps = [worklist.next_study(session, READER, filter, study_id) for study_id in expected]
    assert steps == [*expected[1:], expected[0]]
    back = [worklist.next_study(session, READER, filter, study_id, backwards=True) for study_id in expected]
    assert back == [expected[-1], *expected[:-1]]


def test_filters_against_brute_force(session: Session) -> None:
    studies = fill(session, 200)
    rng = random.Random(1)
    for _ in range(60):
        filter = WorklistFilter(
            statuses=tuple(rng.sample([*StudyStatus], rng.randint(0, 2))),
            tasks=tuple(rng.sample([*Task], rng.randint(0, 2))),
            sites=tuple(rng.sample(["A", "B"], rng.randint(0, 1))),
            urgencies=tuple(rng.sample([*Level], rng.randint(0, 2))),
            age_months_range=rng.choice([None, (24.0, 120.0)]),
        )
        expected = {
            study.id
            for study in studies
            if (not filter.statuses or study.status in filter.statuses)
            and (not filter.tasks or study.task in filter.tasks)
            and (not filter.sites or study.site in filter.sites)
            and (not filter.urgencies or study.urgency in filter.urgencies)
            and (not filter.age_months_range or (study.age_months is not None and 24 <= study.age_months <= 120))
        }
        page = worklist.worklist_page(session, READER, filter, 1, 500)
        assert {row.study_id for row in page.rows} == expected and page.total == len(expected)


@pytest.mark.parametrize("term", ["ID00003", "id00003", " ID00003 "])
def test_search_finds_the_patient(session: Session, term: str) -> None:
    fill(session, 50)
    rows = worklist.worklist_page(session, READER, WorklistFilter(search=term)).rows
    assert {row.pseudonym for row in rows} <= {"P-000003"}
    by_pseudonym = worklist.worklist_page(session, READER, WorklistFilter(search="p-000003")).rows
    assert by_pseudonym == rows


@pytest.mark.parametrize("term", ["%", "_", "'; DROP TABLE study; --", "\\"])
def test_search_takes_everything_literally(session: Session, term: str) -> None:
    fill(session, 20)
    assert worklist.worklist_page(session, READER, WorklistFilter(search=term)).total == 0
    assert worklist.worklist_page(session, READER, EVERYTHING).total == 20


def test_search_by_accession_number(session: Session) -> None:
    fill(session, 20)
    (row,) = worklist.worklist_page(session, READER, WorklistFilter(search="A000007")).rows
    assert row.study_id == 7


def test_a_row_in_words(session: Session, new_case: Callable) -> None:
    new_case(Task.ROP, rop_answer("I", "3", "none"), laterality="R")
    new_case(Task.FRACTURE, fracture_answer("buckle"))
    new_case(Task.BONE_AGE, reason="unlike the training images")
    rows = {row.task: row for row in worklist.worklist_page(session, READER, EVERYTHING).rows}
    eye = rows[Task.ROP]
    assert (eye.read_words, eye.urgency, eye.lateralities) == ("zone I, stage 3, no plus", Level.URGENT, ("R",))
    assert "ETROP type 1" in eye.urgency_reason and not eye.urgency_unverified
    assert rows[Task.FRACTURE].read_words == "buckle fracture"
    assert rows[Task.BONE_AGE].read_words == "no read: unlike the training images"
    assert rows[Task.BONE_AGE].age_words == "9 y 4 m" and rows[Task.BONE_AGE].sex == "F"
    assert rows[Task.BONE_AGE].review_words is None


def test_two_images_are_told_apart_by_side(session: Session, arrive: Arrivals) -> None:
    arrive(session, grey_film(hand_tags()))
    arrive(session, grey_film(hand_tags(sop_instance_uid="1.2.3.1.2", laterality="R"), 1))
    from engine.services import reading
    from tests.engine.services.conftest import read_of

    for image, months in zip(reading.images_awaiting_read(session, WORKER), (110, 112), strict=True):
        read = read_of(Task.BONE_AGE, bone_age_answer(months))
        reading.record_reads(session, WORKER, [image.image_id], [read], is_phantom=True)
    (row,) = worklist.worklist_page(session, READER, EVERYTHING).rows
    assert row.read_words == "L: 9 y 2 m; R: 9 y 4 m" and row.image_count == 2


def test_next_goes_on_from_where_the_case_stood(session: Session, new_case: Callable) -> None:
    """The gravest first. The first is decided as harmless and leaves the filter; next is the second gravest."""
    answers = [("I", "3"), ("II", "3"), ("III", "4"), ("II", "1")]
    cases = [new_case(Task.ROP, rop_answer(zone, stage, "none")).study_id for zone, stage in answers]
    by_rank = [cases[2], cases[0], cases[1], cases[3]]
    filter = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,))
    assert worklist.next_study(session, READER, filter) == by_rank[0]
    for current, following in zip(by_rank, by_rank[1:], strict=False):
        image = review.load_study(session, READER, current).images[0]
        decision = Decision(Verdict.CORRECTED, rop_answer("III", "0", "none"), prediction_id=image.read.prediction_id)
        review.record_review(session, READER, image.image_id, decision)
        assert worklist.next_study(session, READER, filter, current) == following
    image = review.load_study(session, READER, by_rank[-1]).images[0]
    review.record_review(
        session, READER, image.image_id, Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
    )
    assert worklist.next_study(session, READER, filter, by_rank[-1]) is None


def test_a_skipped_case_comes_round_again(session: Session, new_case: Callable) -> None:
    cases = [new_case().study_id for _ in range(3)]
    filter = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,), sort=Sort.RECEIVED)
    order = [worklist.next_study(session, READER, filter, case) for case in cases]
    assert order == [cases[1], cases[2], cases[0]]
    assert worklist.next_study(session, READER, filter, 999) == cases[0]


def test_overview_and_sites(session: Session) -> None:
    studies = fill(session, 100)
    overview = worklist.overview(session, READER)
    assert overview.total == 100
    for status in StudyStatus:
        assert overview.by_status[status] == sum(study.status == status for study in studies)
    still_open = [study for study in studies if study.status.value.startswith("awaiting")]
    for level in Level:
        assert overview.by_urgency[level] == sum(study.urgency == level for study in still_open)
    assert sum(overview.by_task.values()) == 100
    assert worklist.sites(session, READER) == ["A", "B"]
    assert {study.urgency_rank for study in studies} == set(URGENCY_RANK.values())


def test_an_empty_worklist(session: Session) -> None:
    assert worklist.worklist_page(session, READER, EVERYTHING).rows == []
    assert worklist.next_study(session, READER, EVERYTHING) is None
    assert worklist.overview(session, READER).total == 0


def test_the_service_has_no_worklist(session: Session) -> None:
    with pytest.raises(NotAllowed):
        worklist.worklist_page(session, WORKER, EVERYTHING)
    with pytest.raises(NotAllowed):
        worklist.next_study(session, WORKER, EVERYTHING)
