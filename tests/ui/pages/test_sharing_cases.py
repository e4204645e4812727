"""Several readers and one list: who has a case, what was typed, what is left for the next reader."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from db.types import utc_now
from db.worklist_tables import Claim
from engine.findings.answers import Task, bone_age_answer
from engine.services import claims, drafts, handover, review
from engine.services.accounts import demo_admin, demo_reader
from engine.services.worklist import Sort
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase

READER, ADMIN = demo_reader(), demo_admin()


def let_it_run_out(session: Session, study_id: int) -> None:
    session.rollback()
    session.execute(update(Claim).where(Claim.study_fk == study_id).values(ends_at=utc_now() - timedelta(seconds=1)))
    session.commit()


def has_form(at: AppTest) -> bool:
    return bool(at.number_input)


def test_opening_a_case_takes_it_and_going_on_gives_it_back(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    first, second = add_case(), add_case()
    at = open_page("review", study=first.study_id)
    assert claims.current(session, ADMIN, first.study_id).reader == READER.display_name
    at.button(key="next").click().run()
    session.rollback()
    assert claims.current(session, ADMIN, first.study_id) is None
    assert claims.current(session, ADMIN, second.study_id).reader == READER.display_name
    at.button(key="previous").click().run()
    assert at.session_state["study"] == first.study_id


def test_who_has_the_case_is_shown_and_enter_goes_to_the_next_free_one(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    taken, free = add_case(), add_case()
    claims.claim(session, ADMIN, taken.study_id)
    at = open_page("review", study=taken.study_id)
    said = everything_said(at)
    assert "Demo admin has had this case open since" in said and "free at" in said
    assert not has_form(at)
    at.button(key=f"next_free_{taken.image_id}").click().run()
    assert at.session_state["study"] == free.study_id
    assert has_form(at)


def test_a_case_opens_for_the_waiting_reader_once_it_is_free(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case()
    claims.claim(session, ADMIN, case.study_id)
    drafts.keep(session, READER, case.image_id, {"years": 11, "comment": "carpals ahead"})
    at = open_page("review", study=case.study_id)
    assert "What you entered is kept for you" in everything_said(at)
    claims.release(session, ADMIN, case.study_id)
    at.run()
    assert has_form(at)
    assert at.number_input(key=f"finding_years_{case.image_id}").value == 11


def test_a_hold_that_ran_out_while_writing_keeps_what_was_typed(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    at.number_input(key=f"finding_years_{case.image_id}").set_value(10).run()
    at.text_input(key=f"finding_comment_{case.image_id}").set_value("carpals ahead").run()
    let_it_run_out(session, case.study_id)
    claims.claim(session, ADMIN, case.study_id)

    at.button(key=f"confirm_{case.image_id}").click().run()
    said = everything_said(at)
    assert "Demo admin has had this case open since" in said
    assert "What you entered is kept for you" in said
    session.rollback()
    assert review.load_study(session, READER, case.study_id).images[0].decision is None

    claims.release(session, ADMIN, case.study_id)
    at.run()
    assert at.number_input(key=f"finding_years_{case.image_id}").value == 10
    assert at.text_input(key=f"finding_comment_{case.image_id}").value == "carpals ahead"
    at.button(key=f"confirm_{case.image_id}").click().run()
    session.rollback()
    decision = review.load_study(session, READER, case.study_id).images[0].decision
    assert (decision.answer, decision.comment) == (bone_age_answer(122), "carpals ahead")


def test_a_hold_that_ran_out_saves_as_long_as_nobody_took_the_case(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case()
    at = open_page("review", study=case.study_id)
    let_it_run_out(session, case.study_id)
    at.button(key=f"confirm_{case.image_id}").click().run()
    session.rollback()
    assert review.load_study(session, READER, case.study_id).images[0].decision is not None


def test_what_was_typed_comes_back_in_another_browser_and_can_be_discarded(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    assert "is back" not in everything_said(at)
    at.number_input(key=f"finding_months_{case.image_id}").set_value(5).run()

    again = open_page("review", study=case.study_id)
    assert "What you had entered before is back." in everything_said(again)
    assert again.number_input(key=f"finding_months_{case.image_id}").value == 5
    again.button(key="discard_draft").click().run()
    assert again.number_input(key=f"finding_months_{case.image_id}").value == 2
    assert drafts.kept(session, READER, case.image_id) == {}


def test_what_was_emptied_stays_empty_in_another_browser(open_page: OpenPage, add_case: AddCase) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    at.number_input(key=f"finding_months_{case.image_id}").set_value(None).run()
    again = open_page("review", study=case.study_id)
    assert "What you had entered before is back." in everything_said(again)
    assert again.number_input(key=f"finding_months_{case.image_id}").value is None
    assert again.button(key=f"confirm_{case.image_id}").label.startswith("Still to say: months")


def test_a_note_is_left_with_the_case_and_settled(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    case = add_case()
    handover.leave_note(session, ADMIN, case.study_id, "Ask for the <b>other</b> side.")
    handover.leave_note(session, ADMIN, None, "The monitor at site B is dark.")
    listed = everything_said(open_page("worklist"))
    assert "The monitor at site B is dark." in listed
    at = open_page("review", study=case.study_id)
    assert "Demo admin" in everything_said(at) and "Ask for the" in everything_said(at)
    [settle] = [button for button in at.button if button.label == "Mark as settled"]
    settle.click().run()
    assert "Ask for the" not in everything_said(at)
    assert handover.notes(session, READER, case.study_id) == []


def test_a_list_is_kept_by_name_and_chosen_again(open_page: OpenPage, add_case: AddCase) -> None:
    add_case(Task.FRACTURE)
    add_case(Task.BONE_AGE)
    at = open_page("worklist")
    at.button_group(key="filter_task").set_value([Task.FRACTURE]).run()
    at.text_input[-1].set_value("wrists only")
    [keep] = [button for button in at.button if button.label == "Keep the list"]
    keep.click().run()

    again = open_page("worklist")
    assert "1 to 2 of 2" in everything_said(again)
    [chosen] = [button for button in again.button if button.label == "wrists only"]
    chosen.click().run()
    assert "1 to 1 of 1" in everything_said(again)
    assert again.session_state["worklist_filter"].tasks == (Task.FRACTURE,)
    again.button(key="list_Most to learn from first").click().run()
    assert again.session_state["worklist_filter"].sort is Sort.LEARNING
    assert "1 to 2 of 2" in everything_said(again)
