from __future__ import annotations

import random

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from db.models import StudyStatus
from db.worklist_tables import SavedFilter
from engine.errors import NotAllowed, NotFound, Refused
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services import saved_filters
from engine.services.saved_filters import MAX_FILTERS, saved
from engine.services.worklist import Sort, Whose, WorklistFilter
from tests.engine.services.conftest import ADMIN, READER, WORKER

EYES = WorklistFilter(
    statuses=(StudyStatus.AWAITING_REVIEW,),
    tasks=(Task.ROP,),
    urgencies=(Level.URGENT, Level.IMMEDIATE),
    sites=("Site B",),
    age_months_range=(0.0, 11.99),
    whose=Whose.NOBODYS,
    sort=Sort.LEARNING,
    descending=True,
)


def test_a_filter_comes_back_as_it_was_kept(session: Session) -> None:
    saved_filters.save(session, READER, "  Eyes  of Site B ", EYES)
    (found,) = saved(session, READER)
    assert (found.name, found.filter, found.is_mine, found.is_shared) == ("Eyes of Site B", EYES, True, False)
    rng = random.Random(4)
    for _ in range(40):
        filter = WorklistFilter(
            statuses=tuple(rng.sample([*StudyStatus], rng.randint(0, 4))),
            tasks=tuple(rng.sample([*Task], rng.randint(0, 3))),
            sort=rng.choice([*Sort]),
            whose=rng.choice([*Whose]),
            descending=rng.random() < 0.5,
        )
        saved_filters.save(session, READER, "any", filter)
        assert next(one.filter for one in saved(session, READER) if one.name == "any") == filter


def test_what_was_searched_for_is_not_kept(session: Session) -> None:
    saved_filters.save(session, READER, "one child", WorklistFilter(search="ID00001"))
    row = session.query(SavedFilter).one()
    assert "ID00001" not in str(row.filter)
    assert saved(session, READER)[0].filter == WorklistFilter()


def test_the_same_name_replaces_and_names_are_each_readers_own(session: Session) -> None:
    saved_filters.save(session, READER, "mine", EYES)
    saved_filters.save(session, READER, "mine", WorklistFilter())
    saved_filters.save(session, ADMIN, "mine", EYES)
    assert [one.filter for one in saved(session, READER)] == [WorklistFilter()]
    assert [one.filter for one in saved(session, ADMIN)] == [EYES]


def test_a_shared_filter_is_everybodys_to_choose_and_its_owners_to_remove(session: Session) -> None:
    shared = saved_filters.save(session, ADMIN, "morning round", EYES, share=True)
    (found,) = saved(session, READER)
    assert (found.name, found.is_mine, found.owner) == ("morning round", False, ADMIN.display_name)
    with pytest.raises(NotAllowed):
        saved_filters.remove(session, READER, shared)
    saved_filters.remove(session, ADMIN, shared)
    assert saved(session, READER) == []
    with pytest.raises(NotFound):
        saved_filters.remove(session, ADMIN, shared)


@pytest.mark.parametrize("name", ["", "  ", "\0", "x" * 61])
def test_a_name_is_needed_and_short(session: Session, name: str) -> None:
    with pytest.raises(Refused):
        saved_filters.save(session, READER, name, EYES)


def test_there_is_an_end_to_how_many(session: Session) -> None:
    for number in range(MAX_FILTERS):
        saved_filters.save(session, READER, f"{number}", EYES)
    with pytest.raises(Refused, match="remove one first"):
        saved_filters.save(session, READER, "one more", EYES)
    saved_filters.save(session, READER, "3", WorklistFilter())  # replacing goes on


def test_what_a_later_version_stored_is_left_out(session: Session) -> None:
    saved_filters.save(session, READER, "mine", EYES)
    strange = {"statuses": ["awaiting_review", "lost"], "tasks": ["spine"], "sort": "by_moon", "whose": None, "x": 1}
    session.execute(update(SavedFilter).values(filter=strange))
    session.commit()
    assert saved(session, READER)[0].filter == WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,))


def test_programs_have_no_filters(session: Session) -> None:
    with pytest.raises(NotAllowed):
        saved_filters.save(session, WORKER, "mine", EYES)
