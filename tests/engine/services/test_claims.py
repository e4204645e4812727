from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.models import AuditEvent, Review, Role, StudyStatus, Verdict
from db.session import session_scope
from db.types import utc_now
from db.worklist_tables import Claim
from engine.errors import Conflict, NotAllowed, NotFound
from engine.findings.answers import Task, fracture_answer
from engine.services import claims, drafts, handover, review, worklist
from engine.services.accounts import Actor
from engine.services.claims import LEASE
from engine.services.review import Decision
from engine.services.worklist import WorklistFilter
from tests.engine.services.conftest import ADMIN, READER, WORKER

ADA, BEN = (Actor(name.lower(), name, Role.READER) for name in ("Ada", "Ben"))
TO_REVIEW = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,))


def let_it_run_out(session: Session, study_id: int) -> None:
    session.execute(update(Claim).where(Claim.study_fk == study_id).values(ends_at=utc_now() - timedelta(seconds=1)))
    session.commit()


def confirm(session: Session, actor: Actor, study_id: int) -> int:
    image = review.load_study(session, actor, study_id).images[0]
    decision = Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id, seen_review_id=image.seen_review_id)
    return review.record_review(session, actor, image.image_id, decision)


def actions(session: Session) -> list[tuple[str, str]]:
    query = select(AuditEvent.actor, AuditEvent.action).where(AuditEvent.action.like("claim.%")).order_by(AuditEvent.id)
    return [tuple(row) for row in session.execute(query)]


def test_another_reader_sees_who_has_it_and_gets_the_next_free_one(session: Session, new_case: Callable) -> None:
    first, second, third = (new_case().study_id for _ in range(3))
    assert claims.claim(session, ADA, first).is_mine
    theirs = claims.claim(session, BEN, first)
    assert (theirs.reader, theirs.is_mine) == ("Ada", False)
    assert claims.claim_next(session, BEN, TO_REVIEW) == second
    assert claims.claim_next(session, ADA, TO_REVIEW, first) == third
    assert claims.claim_next(session, BEN, TO_REVIEW, second) is None
    rows = {row.study_id: row for row in worklist.worklist_page(session, BEN, TO_REVIEW).rows}
    assert (rows[first].open_at.reader, rows[first].open_at.is_me) == ("Ada", False)
    assert rows[second].open_at.is_me


def test_a_decision_is_refused_while_another_reader_has_the_case(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    claims.claim(session, ADA, case)
    for other in (BEN, ADMIN):
        with pytest.raises(Conflict, match="Ada has this case open"):
            confirm(session, other, case)
    confirm(session, ADA, case)
    assert claims.current(session, BEN, case) is None


def test_a_hold_that_ran_out_still_saves_while_nobody_else_took_the_case(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    claims.claim(session, ADA, case)
    let_it_run_out(session, case)
    assert claims.current(session, BEN, case) is None
    confirm(session, ADA, case)


def test_what_ran_out_is_the_next_readers(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    claims.claim(session, ADA, case)
    let_it_run_out(session, case)
    assert claims.claim_next(session, BEN, TO_REVIEW) == case
    with pytest.raises(Conflict, match="Ben has this case open"):
        confirm(session, ADA, case)
    assert actions(session) == [("ada", "claim.taken"), ("ben", "claim.ran_out"), ("ben", "claim.taken")]


def test_activity_keeps_the_case_and_seldom_writes(
    session: Session, new_case: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = new_case().study_id
    start = claims.claim(session, ADA, case)
    times = iter([start.taken_at + timedelta(seconds=30), start.taken_at + timedelta(minutes=5)])
    now = start.taken_at

    def clock() -> datetime:
        return now

    monkeypatch.setattr(claims, "utc_now", clock)
    now = next(times)
    assert claims.claim(session, ADA, case).ends_at == start.ends_at  # so soon: nothing is written
    now = next(times)
    later = claims.claim(session, ADA, case)
    assert (later.taken_at, later.ends_at) == (start.taken_at, now + LEASE)
    assert actions(session) == [("ada", "claim.taken")]


def test_leaving_gives_it_back_at_once(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    claims.claim(session, ADA, case)
    claims.release(session, BEN, case)  # not his
    assert not claims.claim(session, BEN, case).is_mine
    claims.release(session, ADA, case)
    assert claims.claim(session, BEN, case).is_mine


def test_a_study_of_two_images_is_kept_until_both_are_decided(
    session: Session, arrive: Callable, new_case: Callable
) -> None:
    from engine.services import reading
    from tests.engine.services.conftest import grey_film, hand_tags, read_of

    arrive(session, grey_film(hand_tags(body_part="WRIST")))
    case = arrive(
        session, grey_film(hand_tags(body_part="WRIST", sop_instance_uid="1.2.3.1.2", laterality="R"), 1)
    ).study_id
    waiting = [image.image_id for image in reading.images_awaiting_read(session, WORKER)]
    reading.record_reads(session, WORKER, waiting, [read_of(Task.FRACTURE)] * 2, is_phantom=True)
    claims.claim(session, ADA, case)
    for image in review.load_study(session, ADA, case).images:
        assert claims.current(session, ADA, case) is not None
        decision = Decision(Verdict.CORRECTED, fracture_answer("normal"), prediction_id=image.read.prediction_id)
        review.record_review(session, ADA, image.image_id, decision)
    assert claims.current(session, ADA, case) is None


def test_a_case_that_is_somebodys_is_passed_over_by_others(session: Session, new_case: Callable) -> None:
    first, second = new_case().study_id, new_case().study_id
    claims.claim(session, BEN, second)  # Ben has worked here
    claims.release(session, BEN, second)
    handover.assign(session, ADA, first, "ben")
    assert claims.claim_next(session, ADA, TO_REVIEW) == second
    assert claims.claim_next(session, BEN, TO_REVIEW, second) == first
    claims.release(session, BEN, first)
    assert claims.claim(session, ADA, first).is_mine  # she may open it all the same


def test_only_readers_claim_and_only_what_there_is(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    with pytest.raises(NotAllowed):
        claims.claim(session, WORKER, case)
    with pytest.raises(NotAllowed):
        claims.claim_next(session, WORKER, TO_REVIEW)
    with pytest.raises(NotFound):
        claims.claim(session, ADA, 999)


def test_what_was_typed_is_kept_for_its_reader_and_gone_with_the_decision(session: Session, new_case: Callable) -> None:
    case = new_case()
    typed = {"years": 9, "comment": "carpals ahead", "clean": True}
    drafts.keep(session, ADA, case.image_id, {"years": 8})
    drafts.keep(session, ADA, case.image_id, typed)
    assert drafts.kept(session, ADA, case.image_id) == typed
    assert drafts.kept(session, BEN, case.image_id) == {}
    drafts.keep(session, BEN, case.image_id, {"years": 7})
    confirm(session, ADA, case.study_id)
    assert drafts.kept(session, ADA, case.image_id) == {}
    assert drafts.kept(session, BEN, case.image_id) == {"years": 7}
    drafts.keep(session, BEN, case.image_id, {})
    assert drafts.kept(session, BEN, case.image_id) == {}


def test_threads_race_for_20_cases(session: Session, new_case: Callable, database_url: str) -> None:
    """As tests/test_two_readers_race.py, in one process: its writers queue up elsewhere (db.session)."""
    cases = [new_case().study_id for _ in range(20)]
    taken: dict[str, list[int]] = {"ada": [], "ben": []}
    start = threading.Barrier(2)

    def read(actor: Actor) -> None:
        with session_scope(database_url) as own:
            start.wait()
            study_id = None
            while (study_id := claims.claim_next(own, actor, TO_REVIEW, study_id)) is not None:
                taken[actor.username].append(study_id)
                confirm(own, actor, study_id)

    threads = [threading.Thread(target=read, args=(actor,)) for actor in (ADA, BEN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*taken["ada"], *taken["ben"]]) == cases
    session.rollback()
    assert len(session.scalars(select(Review.id)).all()) == 20


def test_a_reader_who_vanishes_loses_no_case(session: Session, new_case: Callable) -> None:
    cases = [new_case().study_id for _ in range(3)]
    vanished = claims.claim_next(session, ADA, TO_REVIEW)
    done = set()
    study_id = None
    while (study_id := claims.claim_next(session, BEN, TO_REVIEW, study_id)) is not None:
        confirm(session, BEN, study_id)
        done.add(study_id)
    assert done == {*cases} - {vanished}
    let_it_run_out(session, vanished)
    assert claims.claim_next(session, BEN, TO_REVIEW) == vanished


def test_the_demo_reader_needs_no_account_to_begin_with(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    assert worklist.next_study(session, READER, TO_REVIEW) == case
    assert claims.claim_next(session, READER, TO_REVIEW) == case
