"""What leaves of signed studies, on simulated time: engine.services.sending with the loop's own steps.

The receiver is played here; the ways of sending have tests of their own (tests/engine/interop/sending)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from db.models import BlindCase, BlindState, Image, QualityRule
from db.sending_tables import DeliveryState
from db.types import utc_now
from engine.findings.answers import Task
from engine.imaging import film_store
from engine.interop.sending import DeliveryRefused, NotDelivered, Unreachable
from engine.jobs import sending as job
from engine.services import audit, images, sending, sent_reports
from engine.services.accounts import demo_second_reader
from tests.engine.services.hospital import ACTOR, ADMIN, EHR, PACS, QUIET_S, Hospital, png_study
from tests.workstation import film_pixels

# ---------------------------------------------------------------- when it leaves


def test_nothing_leaves_before_every_image_is_decided(hospital, case, session):
    one = case(StudyInstanceUID="1.2.3.4", PatientID="TWINS")
    case(StudyInstanceUID="1.2.3.4", PatientID="TWINS", ImageLaterality="R", pixels=_other_pixels())
    hospital.until_quiet()
    hospital.decide(one.study_id)
    hospital.until_quiet()
    assert hospital.states(one.study_id) == [] and not hospital.attempts
    hospital.decide(one.study_id, number=1)
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False)]
    assert len(hospital.received["pacs"][0].images) == 2


def test_a_film_whose_decoded_entry_is_lost_is_decoded_before_the_report_is_issued(hospital, case, session):
    """What is decoded is written down by a session of its own, which would wait for the one that issues."""
    one = case()
    hospital.decide(one.study_id)
    image = session.get_one(Image, one.image_id)
    shutil.rmtree(film_store.entry_folder(images.films_folder(), image.file_sha256))
    image.film_sha256 = None
    session.commit()
    hospital.until_quiet()
    assert hospital.states(one.study_id) == ["sent"]


def test_it_waits_for_quiet_and_goes_once(hospital, case, session):
    study = case().study_id
    hospital.decide(study)
    hospital.run(after_s=QUIET_S - 30)
    assert hospital.states(study) == ["waiting"] and not hospital.attempts
    for _ in range(5):
        hospital.run(after_s=60)
    assert hospital.states(study) == ["sent"] and len(hospital.attempts) == 1
    (event,) = [row for row in audit.events_page(session, ADMIN).rows if row.action == "report.sent"]
    assert event.subject == f"study:{study}"
    assert event.detail == {"destination": "pacs", "version": 1, "kind": "report", "revision": 1}


def test_a_rejected_image_is_a_signed_answer_too(hospital, case, session):
    study = case().study_id
    hospital.reject(study)
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False)]


def test_what_changes_in_the_quiet_time_is_never_sent(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.run(after_s=60)
    hospital.undo(study)
    hospital.run(after_s=1)
    assert hospital.states(study) == ["overtaken"]
    hospital.until_quiet()
    assert not hospital.attempts
    hospital.decide(study, 96)
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False)]
    assert hospital.received["pacs"][0].images[0].answer["bone_age_months"] == 96


def test_a_correction_after_sending_names_the_version_before(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    hospital.decide(study, 96)
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False), (2, 1, False)]
    assert hospital.states(study) == ["sent", "sent"]


def test_a_withdrawal_after_sending_leaves_and_a_new_signature_after_it(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    hospital.undo(study)
    hospital.until_quiet()
    hospital.decide(study, 120)
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False), (2, 1, True), (3, 2, False)]


def test_an_image_that_comes_late_takes_nothing_back_and_is_in_the_next_version(hospital, case, session):
    study = case(StudyInstanceUID="1.2.3.4", PatientID="TWINS").study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    case(StudyInstanceUID="1.2.3.4", PatientID="TWINS", ImageLaterality="R", pixels=_other_pixels())
    hospital.decide(study, 96)
    hospital.until_quiet()
    assert hospital.states(study) == ["sent"], "it is undecided, and nothing was taken back"
    hospital.decide(study, 96, number=1)
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False), (2, 1, False)]
    assert len(hospital.received["pacs"][1].images) == 2


def test_undone_and_decided_anew_within_the_quiet_time_is_a_correction_alone(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    hospital.undo(study)
    hospital.run(after_s=10)
    assert hospital.states(study) == ["waiting", "sent"]
    hospital.decide(study, 96)
    hospital.until_quiet()
    assert [one.is_withdrawn for one in hospital.received["pacs"]] == [False, False]


def test_what_was_signed_before_a_destination_is_known_is_not_sent(hospital, case, session):
    study = case().study_id
    hospital.decide(study)
    hospital.destinations.append(EHR)
    hospital.received["ehr"] = []
    hospital.clock += timedelta(seconds=5)
    hospital.until_quiet()
    assert len(hospital.received["pacs"]) == 1 and not hospital.received["ehr"]


def test_a_quick_look_sees_new_decisions_alone(hospital, case, session):
    first = case().study_id
    hospital.decide(first)
    seen = sending.last_review_id(session, ACTOR)
    second = case().study_id
    hospital.decide(second)
    session.rollback()
    sending.note_signed(session, ACTOR, [PACS], QUIET_S, hospital.clock, after_review_id=seen)
    assert (hospital.states(first), hospital.states(second)) == ([], ["waiting"])
    hospital.note()
    assert hospital.states(first) == ["waiting"]


def test_a_picture_that_came_as_png_goes_to_the_record_system_alone(database_url, session, monkeypatch, tmp_path):
    hospital = Hospital(database_url, session, (PACS, EHR))
    monkeypatch.setattr(job, "deliver", hospital.deliver)
    hospital.note()
    study = png_study(session, tmp_path)
    hospital.decide(study)
    hospital.until_quiet()
    assert not hospital.received["pacs"] and len(hospital.received["ehr"]) == 1
    assert hospital.states(study, "pacs") == []


def test_a_second_read_that_is_pending_holds_it_back(hospital, case, session):
    session.add(QualityRule(task=Task.BONE_AGE, second_read_share=1.0, changed_by="a"))
    session.commit()
    study = case().study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    assert hospital.states(study) == []
    hospital.decide(study, 120, demo_second_reader())
    hospital.until_quiet()
    assert hospital.revisions() == [(1, None, False)]


def test_an_adjudicator_at_turn_holds_it_back(hospital, case, session):
    session.add(QualityRule(task=Task.BONE_AGE, second_read_share=1.0, changed_by="a"))
    session.commit()
    study = case().study_id
    hospital.decide(study, 120)
    hospital.decide(study, 60, demo_second_reader())
    assert session.query(BlindCase).one().state == BlindState.DIFFERS
    hospital.until_quiet()
    assert hospital.states(study) == []


# ---------------------------------------------------------------- when it does not arrive


def test_a_pacs_that_is_down_for_two_days_gets_everything_once(hospital, case, session):
    hospital.errors["pacs"] = Unreachable("nothing answers at this address and port (connection refused)")
    studies = [case().study_id for _ in range(3)]
    for study in studies:
        hospital.decide(study)
    hospital.until_quiet()
    began = hospital.clock
    while hospital.clock < began + timedelta(hours=3):
        (row,) = sent_reports.destinations(session, ADMIN)
        assert row.waiting == 3 and row.reason.startswith("nothing answers") and row.failing_since == began
        hospital.run(after_s=(row.paused_until - hospital.clock).total_seconds())
    gaps = [after - before for (before, _), (after, _) in pairwise(hospital.attempts)]
    assert gaps[:3] == [timedelta(seconds=15), timedelta(seconds=30), timedelta(seconds=60)]
    assert gaps == sorted(gaps) and gaps[-1] == timedelta(minutes=15), "longer and longer, and then for ever"
    hospital.run(after_s=2 * 24 * 3600)
    hospital.errors.clear()
    hospital.run(after_s=15 * 60)
    assert sorted(one.study_id for one in hospital.received["pacs"]) == sorted(studies)
    (row,) = sent_reports.destinations(session, ADMIN)
    assert (row.waiting, row.sent, row.reason, row.failing_since) == (0, 3, None, None)


def test_one_report_that_fails_holds_up_no_other(hospital, case, session):
    bad, good = case().study_id, case().study_id
    deliver = hospital.deliver

    def only_good(destination, signed):
        if signed.study_id == bad:
            hospital.attempts.append((hospital.clock, "bad"))
            raise NotDelivered("the server has an error (HTTP 500)")
        return deliver(destination, signed)

    job.deliver = only_good
    hospital.decide(bad)
    hospital.decide(good)
    hospital.until_quiet()
    for _ in range(3):
        hospital.run(after_s=60)
    assert hospital.states(good) == ["sent"] and hospital.states(bad) == ["failed"]


def test_refused_for_its_content_is_not_tried_again_until_somebody_says_so(hospital, case, session):
    hospital.errors["pacs"] = DeliveryRefused("it refuses the report (HTTP 422): birthDate is wrong")
    study = case().study_id
    hospital.decide(study)
    hospital.until_quiet()
    for _ in range(100):
        hospital.run(after_s=600)
    assert hospital.states(study) == ["refused"] and len(hospital.attempts) == 1
    (row,) = sent_reports.reports_page(session, ADMIN).rows
    assert row.reason.endswith("birthDate is wrong") and row.attempts == 1
    hospital.errors.clear()
    sent_reports.send_again(session, ADMIN, row.delivery_id)
    hospital.run()
    assert hospital.states(study) == ["sent"] and len(hospital.received["pacs"]) == 1


def test_a_correction_goes_though_the_version_before_was_refused(hospital, case, session):
    hospital.errors["pacs"] = DeliveryRefused("it refuses the report")
    study = case().study_id
    hospital.decide(study, 120)
    hospital.until_quiet()
    hospital.errors.clear()
    hospital.decide(study, 96)
    hospital.until_quiet()
    assert hospital.states(study) == ["sent", "overtaken"]
    assert hospital.revisions() == [(2, 1, False)]


def test_an_unexpected_error_is_on_the_row_without_its_text(hospital, case, session):
    hospital.errors["pacs"] = ValueError("patient DOE^JANE")
    study = case().study_id
    hospital.decide(study)
    hospital.until_quiet()
    (row,) = sent_reports.reports_page(session, ADMIN).rows
    assert (row.state, row.reason) == (DeliveryState.REFUSED, "ValueError: see the log of the exchange")


def test_send_again_ends_the_pause(hospital, case, session):
    hospital.errors["pacs"] = Unreachable("it gives no answer")
    study = case().study_id
    hospital.decide(study)
    hospital.until_quiet()
    for _ in range(30):
        hospital.run(after_s=60)
    hospital.errors.clear()
    assert sent_reports.send_all_again(session, ADMIN, "pacs") == 1
    hospital.clock = max(hospital.clock, utc_now())
    hospital.run()
    assert hospital.states(study) == ["sent"]


def test_taken_back_while_the_pacs_is_down_nothing_leaves(hospital, case, session):
    hospital.errors["pacs"] = Unreachable("it gives no answer")
    study = case().study_id
    hospital.decide(study)
    hospital.until_quiet()
    hospital.undo(study)
    hospital.errors.clear()
    for _ in range(20):
        hospital.run(after_s=300)
    assert hospital.states(study) == ["overtaken"] and not hospital.received["pacs"]


def test_taken_back_while_it_may_have_arrived_a_withdrawal_leaves(hospital, case, session):
    hospital.errors["pacs"] = NotDelivered("it took the connection and then gave no answer in time")
    study = case().study_id
    hospital.decide(study)
    hospital.until_quiet()
    hospital.undo(study)
    hospital.errors.clear()
    for _ in range(5):
        hospital.run(after_s=300)
    assert hospital.revisions() == [(2, 1, True)]
    assert hospital.states(study) == ["sent", "overtaken"]


def test_a_destination_taken_out_of_the_settings_waits_until_it_is_back(hospital, case, session):
    study = case().study_id
    hospital.decide(study)
    hospital.run()
    hospital.destinations.clear()
    for _ in range(5):
        hospital.run(after_s=600)
    (row,) = sent_reports.destinations(session, ADMIN)
    assert (row.name, row.is_configured, row.waiting) == ("pacs", False, 1)
    later = case().study_id
    hospital.decide(later)
    hospital.destinations.append(PACS)
    hospital.until_quiet()
    assert sorted(one.study_id for one in hospital.received["pacs"]) == sorted([study, later])


# ---------------------------------------------------------------- when the process dies


def test_dead_after_handing_over_the_same_is_sent_again_by_the_next_process(hospital, case, session):
    study = case().study_id
    hospital.decide(study)
    hospital.run()
    hospital.clock += timedelta(seconds=QUIET_S + 1)
    in_hand = sending.take_in_hand(session, ACTOR, PACS, "here", hospital.clock)
    first = sending.issue(session, ACTOR, in_hand, QUIET_S, hospital.clock)
    hospital.run()
    assert hospital.states(study) == ["sending"], "it is in hand"
    sending.release(session, ACTOR, PACS, "here")
    hospital.clock = max(hospital.clock, utc_now())
    hospital.run()
    assert hospital.states(study) == ["sent"]
    (again,) = hospital.received["pacs"]
    assert replace(again, images=()) == replace(first, images=()), "the same revision, so the same documents"


def test_dead_on_another_machine_it_is_taken_over_after_a_while(hospital, case, session):
    study = case().study_id
    hospital.decide(study)
    hospital.run()
    hospital.clock += timedelta(seconds=QUIET_S + 1)
    assert sending.take_in_hand(session, ACTOR, PACS, "another machine", hospital.clock)
    hospital.run(after_s=300)
    assert not hospital.attempts
    hospital.run(after_s=400)
    assert hospital.states(study) == ["sent"]


def test_corrected_while_its_sender_is_dead_the_correction_names_it(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.run()
    hospital.clock += timedelta(seconds=QUIET_S + 1)
    in_hand = sending.take_in_hand(session, ACTOR, PACS, "gone", hospital.clock)
    sending.issue(session, ACTOR, in_hand, QUIET_S, hospital.clock)
    hospital.decide(study, 96)
    hospital.run()
    assert hospital.states(study) == ["waiting", "overtaken"]
    hospital.run(after_s=QUIET_S + 60)
    assert hospital.revisions() == [(2, 1, False)]


def test_decided_between_taking_and_issuing_it_waits_again(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.run()
    hospital.clock += timedelta(seconds=QUIET_S + 1)
    in_hand = sending.take_in_hand(session, ACTOR, PACS, "here", hospital.clock)
    hospital.undo(study)
    assert sending.issue(session, ACTOR, in_hand, QUIET_S, hospital.clock) is None
    assert hospital.states(study) == ["waiting"]
    hospital.until_quiet()
    assert hospital.states(study) == ["overtaken"] and not hospital.attempts


def test_an_acknowledgement_that_comes_late_counts(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.run()
    hospital.clock += timedelta(seconds=QUIET_S + 1)
    in_hand = sending.take_in_hand(session, ACTOR, PACS, "here", hospital.clock)
    sending.issue(session, ACTOR, in_hand, QUIET_S, hospital.clock)
    hospital.decide(study, 96)
    hospital.run()
    sending.record_sent(session, ACTOR, in_hand.delivery_id, "PACS", hospital.clock)
    assert hospital.states(study) == ["waiting", "sent"]
    hospital.until_quiet()
    assert hospital.revisions() == [(2, 1, False)]


def test_an_older_version_is_never_sent_beside_a_newer_one(hospital, case, session):
    study = case().study_id
    hospital.decide(study, 120)
    hospital.run()
    hospital.clock += timedelta(seconds=QUIET_S + 1)
    in_hand = sending.take_in_hand(session, ACTOR, PACS, "slow", hospital.clock)
    sending.issue(session, ACTOR, in_hand, QUIET_S, hospital.clock)
    assert sending.take_in_hand(session, ACTOR, PACS, "other", hospital.clock) is None


def _other_pixels():
    return film_pixels()[:, ::-1].copy()
