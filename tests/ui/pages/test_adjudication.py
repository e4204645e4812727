from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from db.models import Verdict
from engine.findings.answers import Task, bone_age_answer
from engine.services import quality_rules, review
from engine.services.accounts import demo_adjudicator, demo_admin, demo_reader, demo_second_reader
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase
from ui import state


@pytest.fixture
def disputed(add_case: AddCase, session: Session) -> object:
    quality_rules.set_rule(session, demo_admin(), Rule(Task.BONE_AGE, second_read_share=1.0))
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    for actor, months, comment in ((demo_reader(), 90, "<b>carpals</b> delayed"), (demo_second_reader(), 120, None)):
        image = review.load_study(session, actor, case.study_id).images[0]
        decision = Decision(
            Verdict.CORRECTED, bone_age_answer(months), comment=comment, prediction_id=image.read.prediction_id
        )
        review.record_review(session, actor, case.image_id, decision)
    return case


def test_an_adjudicator_sees_both_reads_without_names_and_settles(
    open_page: OpenPage, disputed: object, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "current_user", demo_adjudicator)
    at = open_page("adjudication")
    said = everything_said(at)
    assert "7 y 6 m 90 months" in said and "10 y 0 m 120 months" in said and "30 months apart" in said
    assert "“<b>carpals</b> delayed”" in said  # as text
    in_page = said.replace("Demo reader Demo second reader Demo adjudicator Demo admin", "")  # the user menu
    assert "Demo reader" not in in_page and "Demo second reader" not in in_page
    assert at.button(key=f"confirm_{disputed.image_id}").disabled  # nobody's answer is the default

    follow = next(key for key in ("follow_a", "follow_b") if "10 y" in said.split(f"Read {key[-1].upper()}")[1][:12])
    at.button(key=follow).click().run()
    assert at.button(key=f"confirm_{disputed.image_id}").label.startswith("Settle: 10 y")
    at.button(key=f"confirm_{disputed.image_id}").click().run()
    assert "No disagreement awaits you" in everything_said(at)
    session.rollback()
    decision = review.load_study(session, demo_reader(), disputed.study_id).images[0].decision
    assert decision.answer == bone_age_answer(120) and decision.reader == "Demo adjudicator"


def test_a_reader_does_not_settle(open_page: OpenPage, disputed: object) -> None:
    said = everything_said(open_page("adjudication"))
    assert "7 y 6 m" not in said
