from __future__ import annotations

from sqlalchemy.orm import Session

from db.models import Verdict
from engine.findings.answers import Task, fracture_answer
from engine.services import gold_cases, quality_rules, review
from engine.services.accounts import demo_admin, demo_reader, demo_second_reader
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase


def test_an_admin_sets_what_is_checked_and_makes_a_gold_case(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    at = open_page("quality")
    said = everything_said(at)
    assert "No reader can be compared yet" in said and "No case is beyond doubt yet" in said
    at.checkbox(key="quality_blind_fracture").set_value(True)
    at.number_input(key="quality_share_fracture").set_value(100)
    at.number_input(key="quality_gold_fracture").set_value(20)
    next(button for button in at.button if button.label == "Save").click().run()
    rule = next(one for one in quality_rules.rules(session, demo_admin()) if one.task is Task.FRACTURE)
    assert (rule.blind_first, rule.second_read_share, rule.gold_every) == (True, 1.0, 20)
    assert rule.changed_by == demo_admin().username

    session.rollback()
    quality_rules.set_rule(session, demo_admin(), Rule(Task.FRACTURE, second_read_share=1.0))
    case = add_case(Task.FRACTURE)
    for actor in (demo_reader(), demo_second_reader()):
        image = review.load_study(session, actor, case.study_id).images[0]
        decision = Decision(
            Verdict.CORRECTED, fracture_answer("normal"), prediction_id=image.read.prediction_id, seconds=9.0
        )
        review.record_review(session, actor, case.image_id, decision)
    at = open_page("quality")
    said = everything_said(at)
    assert "Demo second reader Fracture 1 not enough cases (n = 1)" in said
    assert "9 s (n = 1)" in said
    at.button(key=f"gold_{case.image_id}").click().run()
    session.rollback()
    [gold] = gold_cases.gold_cases(session, demo_admin())
    assert (gold.answer, gold.source) == (fracture_answer("normal"), "two blind readers said the same")
    assert "Gold cases, 1 in use" in everything_said(at)
