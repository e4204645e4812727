"""What people see of the reports on their way, and do about them; the link to the hospital's own viewer."""

from __future__ import annotations

import pytest

from db.models import BlindCase, QualityRule
from db.repositories.accounts import account_by_username
from db.sending_tables import DeliveryState
from db.types import utc_now
from engine.errors import Conflict, NotAllowed, NotFound
from engine.findings.answers import Task
from engine.interop.sending import DeliveryRefused
from engine.services import other_viewer, review, sending, sent_reports
from engine.services.accounts import demo_adjudicator, demo_second_reader
from engine.settings import settings
from tests.engine.services.hospital import ACTOR, ADMIN, PACS, QUIET_S, READER, png_study

# ---------------------------------------------------------------- people


def test_readers_see_where_the_report_stands_but_not_whom_it_would_tell(hospital, case, session):
    session.add(QualityRule(task=Task.BONE_AGE, second_read_share=0.0, changed_by="a"))
    session.commit()
    study = case().study_id
    hospital.decide(study)
    hospital.until_quiet()
    (said,) = sent_reports.reports_of_study(session, READER, study)
    assert (said.destination, said.state, said.is_correction) == ("pacs", DeliveryState.SENT, False)
    image = review.load_study(session, READER, study).images[0]
    session.rollback()
    first = image.decision.review_id
    session.add(
        BlindCase(
            kind="second", image_fk=image.image_id, study_fk=study, first_review_fk=first, first_reader_fk=_id(session)
        )
    )
    session.commit()
    assert sent_reports.reports_of_study(session, demo_second_reader(), study) == []
    assert sent_reports.reports_of_study(session, demo_adjudicator(), study) == []
    assert len(sent_reports.reports_of_study(session, READER, study)) == 1


def test_a_report_let_go_is_not_sent_and_a_correction_is(hospital, case, session):
    hospital.errors["pacs"] = DeliveryRefused("it refuses the report")
    study = case().study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    (row,) = sent_reports.reports_page(session, ADMIN, states=(DeliveryState.REFUSED,)).rows
    sent_reports.give_up(session, ADMIN, row.delivery_id)
    hospital.errors.clear()
    hospital.until_quiet()
    assert hospital.states(study) == ["given_up"] and not hospital.received["pacs"]
    with pytest.raises(Conflict):
        sent_reports.give_up(session, ADMIN, row.delivery_id)
    hospital.decide(study, 96)
    hospital.until_quiet()
    assert hospital.revisions() == [(2, 1, False)]


def test_only_the_latest_version_is_sent_again(hospital, case, session):
    study = case().study_id
    for months in (120, 96):
        hospital.decide(study, months)
        hospital.until_quiet()
    latest, first = sent_reports.reports_page(session, ADMIN).rows
    assert (latest.is_latest, first.is_latest) == (True, False)
    with pytest.raises(Conflict, match="later version"):
        sent_reports.send_again(session, ADMIN, first.delivery_id)
    with pytest.raises(NotFound):
        sent_reports.send_again(session, ADMIN, 999)
    sent_reports.send_again(session, ADMIN, latest.delivery_id)
    hospital.clock = max(hospital.clock, utc_now())
    hospital.run()
    assert hospital.revisions() == [(1, None, False), (2, 1, False), (2, 1, False)]


def test_search_by_accession_number_pseudonym_and_study(hospital, case, session):
    one, two = case(AccessionNumber="ACC-77").study_id, case(AccessionNumber="ACC-88").study_id
    for study in (one, two):
        hospital.decide(study)
    hospital.until_quiet()
    pseudonym = review.load_study(session, READER, two).pseudonym

    def found(text):
        return [row.study_id for row in sent_reports.reports_page(session, ADMIN, search=text).rows]

    assert found("acc-77") == [one] and found(pseudonym) == [two] and one in found(str(one))
    assert found("%") == [] and found("Doe") == [], "names are not searched"


def test_who_may(session, database_url):
    admin_only = (
        lambda actor: sent_reports.destinations(session, actor),
        lambda actor: sent_reports.reports_page(session, actor),
        lambda actor: sent_reports.send_again(session, actor, 1),
        lambda actor: sent_reports.send_all_again(session, actor, "pacs"),
        lambda actor: sent_reports.give_up(session, actor, 1),
    )
    for call in admin_only:
        for actor in (READER, demo_adjudicator(), ACTOR):
            with pytest.raises(NotAllowed):
                call(actor)
    of_the_loop = (
        lambda actor: sending.note_signed(session, actor, [PACS], QUIET_S),
        lambda actor: sending.take_in_hand(session, actor, PACS, "here"),
        lambda actor: sending.release(session, actor, PACS, "here"),
        lambda actor: sending.record_sent(session, actor, 1, ""),
        lambda actor: sending.record_refused(session, actor, 1, ""),
    )
    for call in of_the_loop:
        with pytest.raises(NotAllowed):
            call(READER)
    with pytest.raises(NotAllowed):
        sent_reports.reports_of_study(session, ACTOR, 1)
    with pytest.raises(NotAllowed):
        other_viewer.viewer_link(session, ACTOR, 1)


# ---------------------------------------------------------------- the other viewer


def test_the_link_to_the_hospitals_viewer(case, session, tmp_path, monkeypatch):
    study, png = case(StudyInstanceUID="1.2.3.99").study_id, png_study(session, tmp_path)

    def link(template, study_id=study):
        monkeypatch.setenv("PEDISCREEN_VIEWER_URL", template)
        settings.cache_clear()
        return other_viewer.viewer_link(session, READER, study_id)

    good = "https://pacs.hospital/ohif/viewer?StudyInstanceUIDs={StudyInstanceUID}"
    assert link(good) == "https://pacs.hospital/ohif/viewer?StudyInstanceUIDs=1.2.3.99"
    assert link(good, png) is None, "it is in no PACS"
    assert link("") is None
    for bad in ("javascript:alert('{StudyInstanceUID}')", "file:///{StudyInstanceUID}", "https://pacs.hospital/ohif"):
        assert link(bad) is None and other_viewer.viewer_problem(bad)
    with pytest.raises(NotFound):
        link(good, 999)


def _id(session) -> int:
    return account_by_username(session, READER.username).id
