from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from db.models import RejectReason, Verdict
from engine.errors import Refused
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.services import claims, images, quality_rules, review
from engine.services.accounts import demo_admin, demo_reader
from engine.services.quality_rules import Rule
from engine.services.review import Decision, ImageView
from tests.fake_door import WordyReader, door_of_this_machine
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import PHANTOM, AddCase


def image_of(session: Session, study_id: int) -> ImageView:
    session.rollback()  # look again, not at what this session has seen
    return review.load_study(session, demo_reader(), study_id).images[0]


def press(at: AppTest, button: str) -> AppTest:
    return the(at, button).click().run()


def the(at: AppTest, button: str) -> Button:
    """Buttons that record a decision have the image in their key."""
    if button in ("reject", "undo"):
        return at.button(key=button)
    return at.button(key=f"{button}_{at.session_state['sitting'].image_id}")


def primary(at: AppTest) -> str:
    return the(at, "confirm").label


def test_the_read_is_shown_with_its_caution_and_the_childs_age(open_page: OpenPage, add_case: AddCase) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    said = everything_said(open_page("review", study=case.study_id))
    assert "9 y 2 m 110 months" in said
    assert "8 y 7 m to 9 y 9 m (103 to 117 months)" in said
    assert "Chronological 9 y 4 m, read 2 months below" in said
    assert f"Read by {PHANTOM} phantom model · not for diagnostic use" in said


def test_confirming_records_the_read_and_opens_the_next_case(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    first, second = add_case(), add_case()
    at = open_page("review", study=first.study_id)
    assert primary(at).startswith("Confirm and next")
    press(at, "confirm")
    decision = image_of(session, first.study_id).decision
    assert decision.verdict is Verdict.CONFIRMED
    assert decision.seconds is not None
    assert at.session_state["study"] == second.study_id


def test_a_changed_bone_age_is_recorded_as_a_correction(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    at.number_input(key=f"finding_years_{case.image_id}").set_value(10)
    at.number_input(key=f"finding_months_{case.image_id}").set_value(4).run()
    assert primary(at).startswith("Correct to 10 y 4 m and next")
    at.text_input(key=f"finding_comment_{case.image_id}").set_value("carpals advanced").run()
    press(at, "confirm")
    decision = image_of(session, case.study_id).decision
    assert (decision.verdict, decision.answer) == (Verdict.CORRECTED, bone_age_answer(124))
    assert decision.comment == "carpals advanced"


def test_rop_and_fracture_have_forms_of_their_own(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    eye = add_case(Task.ROP, rop_answer("II", "2", "none"))
    at = open_page("review", study=eye.study_id)
    at.button_group(key=f"finding_stage_{eye.image_id}").set_value("3").run()
    press(at, "confirm")
    assert image_of(session, eye.study_id).decision.answer == rop_answer("II", "3", "none")

    wrist = add_case(Task.FRACTURE, fracture_answer("buckle"))
    at = open_page("review", study=wrist.study_id)
    at.button_group(key=f"finding_fracture_{wrist.image_id}").set_value("normal").run()
    press(at, "confirm")
    assert image_of(session, wrist.study_id).decision.answer == fracture_answer("normal")


def test_a_fully_vascularised_eye_needs_no_stage(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    eye = add_case(Task.ROP, rop_answer("III", "1", "none"))
    at = open_page("review", study=eye.study_id)
    at.button_group(key=f"finding_zone_{eye.image_id}").set_value("none").run()
    press(at, "confirm")
    assert image_of(session, eye.study_id).decision.answer == rop_answer("none", "0", "none")


def test_an_abstained_read_gives_its_reason_and_no_prefilled_answer(open_page: OpenPage, add_case: AddCase) -> None:
    case = add_case(Task.BONE_AGE, reason="the image lies outside what the model was trained on")
    at = open_page("review", study=case.study_id)
    assert "No read The image lies outside what the model was trained on" in everything_said(at)
    assert at.number_input(key=f"finding_years_{case.image_id}").value is None
    assert the(at, "confirm").disabled


def test_rejecting_needs_a_reason_and_other_needs_a_comment(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case()
    at = open_page("review", study=case.study_id)
    press(at, "reject")
    assert the(at, "reject_other").disabled
    press(at, "reject_poor_quality")
    decision = image_of(session, case.study_id).decision
    assert (decision.verdict, decision.reject_reason) == (Verdict.REJECTED, RejectReason.POOR_QUALITY)


def test_undo_takes_back_the_last_decision_and_returns_to_its_case(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    first, _ = add_case(), add_case()
    at = open_page("review", study=first.study_id)
    press(at, "confirm")
    press(at, "undo")
    assert at.session_state["study"] == first.study_id
    image = image_of(session, first.study_id)
    assert image.decision is None
    assert [one.verdict for one in image.reviews] == [Verdict.WITHDRAWN, Verdict.CONFIRMED]


def test_someone_elses_decision_is_shown_and_what_was_typed_is_kept(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    at.number_input(key=f"finding_years_{case.image_id}").set_value(10).run()

    image = image_of(session, case.study_id)
    claims.release(session, demo_reader(), case.study_id)  # their time is over
    theirs = Decision(Verdict.CORRECTED, bone_age_answer(100), prediction_id=image.read.prediction_id)
    review.record_review(session, demo_admin(), case.image_id, theirs)

    press(at, "confirm")
    said = everything_said(at)
    assert "Not saved." in said
    assert "Demo admin corrected to 8 y 4 m" in said
    assert at.number_input(key=f"finding_years_{case.image_id}").value == 10
    assert image_of(session, case.study_id).decision.answer == bone_age_answer(100)

    press(at, "confirm")  # knowing of theirs, ours may stand
    assert image_of(session, case.study_id).decision.answer == bone_age_answer(122)


def test_a_missing_sex_is_asked_for_before_anything_is_decided(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    case = add_case(PatientSex=None)
    at = open_page("review", study=case.study_id)
    assert "The file does not say the child's sex." in everything_said(at)
    assert the(at, "confirm").disabled
    [sex] = [group for group in at.button_group if group.label == "Sex"]
    sex.set_value("M")
    [save] = [button for button in at.button if button.label == "Save"]
    save.click().run()
    session.rollback()
    study = review.load_study(session, demo_reader(), case.study_id)
    assert (study.sex, study.sex_entered_by) == ("M", demo_reader().username)


def test_a_study_that_is_gone_is_said_in_words(open_page: OpenPage) -> None:
    at = open_page("review", study=77)
    assert "no study 77" in at.error[0].value
    assert "go back to the worklist" in at.error[0].value


def test_without_any_case_the_page_says_where_cases_come_from(open_page: OpenPage) -> None:
    assert "No case is open" in everything_said(open_page("review"))


def test_both_images_of_a_study_are_decided_before_the_next_case(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    same = {"StudyInstanceUID": "1.2.3.4", "PatientID": "TWINS"}
    left = add_case(Task.ROP, **same)
    right = add_case(Task.ROP, ImageLaterality="R", **same)
    add_case(Task.ROP)
    assert images.study_image_ids(session, demo_reader(), left.study_id) == [left.image_id, right.image_id]
    at = open_page("review", study=left.study_id)
    press(at, "confirm")
    assert at.session_state["study"] == left.study_id
    assert at.session_state["sitting"].image_id == right.image_id
    press(at, "confirm")
    assert at.session_state["study"] != left.study_id


def choose(at: AppTest, name: str, image_id: int, value: object) -> AppTest:
    return at.button_group(key=f"finding_{name}_{image_id}").set_value(value).run()


def chosen(at: AppTest, name: str, image_id: int) -> object:
    return at.button_group(key=f"finding_{name}_{image_id}").value


def test_what_follows_from_a_bone_age_stands_beside_it_and_follows_the_form(
    open_page: OpenPage, add_case: AddCase
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))  # a girl of 9 y 4 m
    at = open_page("review", study=case.study_id)
    said = everything_said(at)
    assert "Plate 17 (8 y 10 m), girls' atlas" in said
    assert "SDS −0.20, within 2 SD Greulich-Pyle 1959, Tables V and VI" in said
    assert "Adult height no prediction: no height was measured at the time of the film" in said
    at.number_input(key=f"finding_years_{case.image_id}").set_value(12).run()
    said = everything_said(at)
    assert "SDS +3.47, advanced" in said and "Plate 20 (12 y 0 m), girls" in said


def test_the_method_is_stored_beside_the_answer(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    choose(at, "method", case.image_id, "atlas")
    assert primary(at).startswith("Confirm and next")
    press(at, "confirm")
    decision = image_of(session, case.study_id).decision
    assert (decision.verdict, decision.answer, decision.details) == (
        Verdict.CONFIRMED,
        bone_age_answer(110),
        {"method": "atlas"},
    )
    said = everything_said(open_page("review", study=case.study_id))
    assert "Demo reader confirmed 9 y 2 m, by the atlas" in said


def test_an_eye_shows_its_etrop_type_rule_and_time(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    eye = add_case(Task.ROP, rop_answer("I", "3", "none"))
    at = open_page("review", study=eye.study_id)
    said = everything_said(at)
    assert "ETROP type 1 zone I, stage 3, without plus disease" in said
    assert "Treatment by 13 Jul 2025, passed, at the hour of the examination (72 h)" in said
    choose(at, "flags", eye.image_id, ["aggressive", "notch"])
    said = everything_said(at)
    assert "Aggressive ROP" in said and "by 12 Jul 2025, passed" in said and "unverified" in said
    press(at, "confirm")
    decision = image_of(session, eye.study_id).decision
    assert (decision.answer, decision.details) == (
        rop_answer("I", "3", "none"),
        {"aggressive": True, "notch": True},
    )


def test_a_stage_without_a_zone_is_refused_and_stays_as_it_was_typed(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    eye = add_case(Task.ROP, rop_answer("III", "1", "none"))
    at = open_page("review", study=eye.study_id)
    choose(at, "stage", eye.image_id, "3")
    choose(at, "zone", eye.image_id, "none")
    said = everything_said(at)
    assert "A stage, plus disease or A-ROP needs a zone: say which. Nothing that you entered is lost." in said
    assert the(at, "confirm").disabled and primary(at).startswith("This cannot be saved yet")
    assert (chosen(at, "zone", eye.image_id), chosen(at, "stage", eye.image_id)) == ("none", "3")
    choose(at, "zone", eye.image_id, "I")
    press(at, "confirm")
    assert image_of(session, eye.study_id).decision.answer == rop_answer("I", "3", "none")


def test_what_only_followed_the_zone_comes_back_with_another(open_page: OpenPage, add_case: AddCase) -> None:
    eye = add_case(Task.ROP, rop_answer("III", "1", "plus"))
    at = open_page("review", study=eye.study_id)
    choose(at, "zone", eye.image_id, "none")
    assert (chosen(at, "stage", eye.image_id), chosen(at, "plus", eye.image_id)) == ("0", "none")
    choose(at, "zone", eye.image_id, "II")
    assert (chosen(at, "stage", eye.image_id), chosen(at, "plus", eye.image_id)) == ("1", "plus")
    choose(at, "stage", eye.image_id, "0")
    choose(at, "plus", eye.image_id, "none")
    choose(at, "zone", eye.image_id, "I")  # the reader's own stage 0 stays
    assert (chosen(at, "stage", eye.image_id), chosen(at, "plus", eye.image_id)) == ("0", "none")


def test_a_fracture_has_class_bone_region_and_position(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    wrist = add_case(Task.FRACTURE, fracture_answer("distal_radius"))
    at = open_page("review", study=wrist.study_id)
    assert "Wrist, left" in everything_said(at)
    choose(at, "displaced", wrist.image_id, True)
    assert "Say which fracture it is" in everything_said(at)
    choose(at, "fracture_class", wrist.image_id, "sh2")
    choose(at, "region", wrist.image_id, "shaft")
    assert "A Salter-Harris II lies in the growth plate: change one of the two." in everything_said(at)
    choose(at, "region", wrist.image_id, "physis")
    choose(at, "bone", wrist.image_id, "both")
    said = everything_said(at)
    assert "Salter-Harris II, displaced" in said and "Act by 11 Jul 2025" in said and "23r-E/2.1" in said
    press(at, "confirm")
    decision = image_of(session, wrist.study_id).decision
    assert decision.details == {"fracture_class": "sh2", "bone": "both", "region": "physis", "displaced": True}
    assert review.load_study(session, demo_reader(), wrist.study_id).urgency.level == "urgent"


def test_a_class_that_was_said_of_another_answer_is_not_stored(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    wrist = add_case(Task.FRACTURE, fracture_answer("distal_radius"))
    at = open_page("review", study=wrist.study_id)
    choose(at, "fracture_class", wrist.image_id, "greenstick")
    choose(at, "fracture", wrist.image_id, "normal")
    press(at, "confirm")
    assert image_of(session, wrist.study_id).decision.details == {}


def test_a_half_filled_form_says_what_is_missing_and_survives_looking_elsewhere(
    open_page: OpenPage, add_case: AddCase
) -> None:
    case, other = add_case(reason="unlike the training images"), add_case()
    at = open_page("review", study=case.study_id)
    at.number_input(key=f"finding_years_{case.image_id}").set_value(9).run()
    at.text_input(key=f"finding_comment_{case.image_id}").set_value("carpals").run()
    assert primary(at).startswith("Still to say: months") and the(at, "confirm").disabled
    press(at, "reject")
    at.button(key="cancel_reject").click().run()
    assert at.number_input(key=f"finding_years_{case.image_id}").value == 9
    at.button(key="next").click().run()
    assert at.session_state["study"] == other.study_id
    at.button(key="previous").click().run()
    assert at.session_state["study"] == case.study_id
    assert at.number_input(key=f"finding_years_{case.image_id}").value == 9
    assert at.text_input(key=f"finding_comment_{case.image_id}").value == "carpals"


def test_a_decision_opens_with_what_was_added_and_keeps_it(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    eye = add_case(Task.ROP, rop_answer("II", "4", "none"))
    at = open_page("review", study=eye.study_id)
    choose(at, "flags", eye.image_id, ["notch"])
    choose(at, "substage", eye.image_id, "a")
    choose(at, "quality", eye.image_id, "limited")
    at.text_input(key=f"finding_comment_{eye.image_id}").set_value("temporal").run()
    press(at, "confirm")

    at = open_page("review", study=eye.study_id)
    assert primary(at).startswith("Keep and next")
    assert at.text_input(key=f"finding_comment_{eye.image_id}").value == "temporal"
    choose(at, "flags", eye.image_id, ["notch", "aggressive"])
    assert primary(at).startswith("Save what was added and next")
    press(at, "confirm")
    image = image_of(session, eye.study_id)
    assert image.decision.details == {"substage": "a", "notch": True, "aggressive": True, "quality": "limited"}
    assert (image.decision.comment, len(image.reviews)) == ("temporal", 2)


def test_the_child_stands_beside_the_read(open_page: OpenPage, add_case: AddCase) -> None:
    same = {"PatientID": "ONE"}
    for year, months in ((2021, 60), (2022, 75), (2023, 84), (2024, 120)):
        add_case(Task.BONE_AGE, bone_age_answer(months), StudyDate=f"{year}0710", AcquisitionDate=f"{year}0710", **same)
    case = add_case(Task.BONE_AGE, bone_age_answer(110), ImageLaterality="R", PatientName="Roe^Jane", **same)
    said = everything_said(open_page("review", study=case.study_id))
    assert "Side changed: left on 10 Jul 2024, right on this film." in said
    assert "Another name than on the film of 10 Jul 2024, under the same patient ID." in said
    assert "Roe" not in said and "Doe" not in said
    assert "10 Jul 2024 Hand, left, 8 y 4 m 10 y 0 m not reviewed" in said
    assert "2 more examinations 10 Jul 2022" in said
    assert "fell by 10 months in 12 months: 10 y 0 m on 10 Jul 2024 (not reviewed), 9 y 2 m on this film" in said
    assert "Pace −10 months in 12 months, since 10 Jul 2024" in said


def test_without_other_films_or_measurements_that_is_said(open_page: OpenPage, add_case: AddCase) -> None:
    assert "Child nothing measured · no other film" in everything_said(open_page("review", study=add_case().study_id))


def test_every_decision_about_a_film_can_be_seen(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    for months in (100, 101, 102, 103):
        image = image_of(session, case.study_id)
        decision = Decision(
            Verdict.CORRECTED,
            bone_age_answer(months),
            prediction_id=image.read.prediction_id,
            seen_review_id=image.seen_review_id,
        )
        review.record_review(session, demo_admin(), case.image_id, decision)
    said = everything_said(open_page("review", study=case.study_id))
    assert "2 earlier decisions" in said and "corrected to 8 y 4 m" in said and "corrected to 8 y 7 m" in said


def test_blind_first_the_answer_comes_before_the_read(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    quality_rules.set_rule(session, demo_admin(), Rule(Task.FRACTURE, blind_first=True))
    case = add_case(Task.FRACTURE, fracture_answer("buckle"))
    at = open_page("review", study=case.study_id)
    said = everything_said(at)
    assert "Shown after your answer" in said and "buckle fracture" not in said.lower()
    assert at.button_group(key=f"finding_fracture_{case.image_id}").value is None
    at.button_group(key=f"finding_fracture_{case.image_id}").set_value("normal").run()
    assert primary(at).startswith("Answer no fracture and see the read")
    press(at, "confirm")
    said = everything_said(at)
    assert "You answered no fracture before you saw the read." in said and "Buckle fracture" in said
    assert primary(at).startswith("Correct to no fracture and next")
    at.button(key="take_read").click().run()
    assert primary(at).startswith("Confirm and next")
    press(at, "confirm")
    image = image_of(session, case.study_id)
    assert (image.decision.answer, image.blind_answer) == (fracture_answer("buckle"), fracture_answer("normal"))


def test_what_was_added_blind_is_kept_and_goes_into_the_decision(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    quality_rules.set_rule(session, demo_admin(), Rule(Task.BONE_AGE, blind_first=True))
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    at = open_page("review", study=case.study_id)
    at.number_input(key=f"finding_years_{case.image_id}").set_value(10)
    at.number_input(key=f"finding_months_{case.image_id}").set_value(2)
    at.button_group(key=f"finding_method_{case.image_id}").set_value("atlas")
    at.text_input(key=f"finding_comment_{case.image_id}").set_value("carpals ahead").run()
    press(at, "confirm")
    assert "You answered 10 y 2 m, by the atlas before you saw the read" in everything_said(at)
    image = image_of(session, case.study_id)
    assert (image.blind_comment, image.blind_details) == ("carpals ahead", {"method": "atlas"})
    at.text_input(key=f"finding_comment_{case.image_id}").set_value("").run()  # the read made them think again
    press(at, "confirm")
    decision = image_of(session, case.study_id).decision
    assert (decision.answer, decision.comment) == (bone_age_answer(122), None)
    assert decision.details == {"method": "atlas"}
    assert image_of(session, case.study_id).blind_comment == "carpals ahead"


def ask_for_words(at: AppTest) -> str:
    """What the page says then, the dialog above it included."""
    (button,) = (button for button in at.button if button.label == "In words")
    texts = [re.sub(r"<[^>]+>", " ", element.proto.body) for element in button.click().run().html]
    return html.unescape(" ".join(texts))


def test_the_models_words_stand_beside_their_caution_and_as_plain_text(
    open_page: OpenPage, add_case: AddCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = add_case()
    with door_of_this_machine(WordyReader(["The <b>physis</b> ", "is open."]), monkeypatch):
        said = ask_for_words(open_page("review", study=case.study_id))
    assert "The model's words, not a finding." in said and "not stored as a label" in said
    assert "By fake 1, which is not the model that made the read" in said
    assert "The <b>physis</b> is open." in said, "escaped: what the model writes is no markup"


def test_the_phantom_model_is_said_to_give_no_words(
    open_page: OpenPage, add_case: AddCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, reader = add_case(), WordyReader()

    def none(*asked: object) -> Iterator[str]:
        raise Refused("no_words", "The phantom model gives no explanation: it was taught its answers.")
        yield

    reader.words = none
    with door_of_this_machine(reader, monkeypatch):
        said = ask_for_words(open_page("review", study=case.study_id))
    assert "The phantom model gives no explanation: it was taught its answers." in said


def test_words_are_offered_only_beside_a_read_that_may_be_seen(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    abstained, waiting, blind = add_case(reason="unlike all others"), add_case(is_read=False), add_case(Task.ROP)
    quality_rules.set_rule(session, demo_admin(), Rule(Task.ROP, blind_first=True))
    for case in (abstained, waiting, blind):
        at = open_page("review", study=case.study_id)
        assert "In words" not in [button.label for button in at.button]


def test_without_a_worker_to_ask_for_words_the_page_says_what_to_do(open_page: OpenPage, add_case: AddCase) -> None:
    at = open_page("review", study=add_case().study_id)
    ask_for_words(at)
    assert any("Start web and worker with pediscreen up" in error.value for error in at.error)
