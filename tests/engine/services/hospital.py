"""A hospital's systems, and readers who sign, on simulated time: what the tests of sending stand on."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import cv2
from sqlalchemy import update

from db.models import RejectReason, Review, Verdict
from db.repositories import sending as repository
from db.sending_tables import DeliveryState
from db.session import writing
from db.types import utc_now
from engine.findings.answers import Task, bone_age_answer
from engine.interop.destinations import Destination, Kind
from engine.jobs import sending as job
from engine.services import ingest, reading, review, sending
from engine.services.accounts import Actor, demo_admin, demo_reader, service_actor
from engine.services.ingest import PatientEntry
from engine.services.review import Decision, ImageView
from tests.workstation import WORKER, film_pixels, read_of

ACTOR, READER, ADMIN = service_actor("exchange"), demo_reader(), demo_admin()
QUIET_S = 120.0
PACS = Destination("pacs", Kind.DICOM, host="pacs", port=104, called_ae_title="PACS")
EHR = Destination("ehr", Kind.FHIR, url="https://ehr/fhir", host="ehr")


class Hospital:
    """Its systems, each of which may be away, and a clock that the test turns."""

    def __init__(self, database_url: str, session, destinations=(PACS,)) -> None:
        self.database_url, self.session, self.destinations = database_url, session, list(destinations)
        self.clock = utc_now()
        self.received: dict[str, list] = {one.name: [] for one in destinations}
        self.errors: dict[str, Exception] = {}
        self.attempts: list[tuple[datetime, str]] = []

    def deliver(self, destination, signed):
        self.attempts.append((self.clock, destination.name))
        if destination.name in self.errors:
            raise self.errors[destination.name]
        self.received[destination.name].append(signed)
        return "HOSPITAL"

    def note(self) -> None:
        self.session.rollback()
        sending.note_signed(self.session, ACTOR, self.destinations, QUIET_S, self.clock)

    def run(self, *, after_s: float = 0.0) -> None:
        """One round of the loop, `after_s` later."""
        self.clock += timedelta(seconds=after_s)
        self.note()
        for destination in self.destinations:
            while job.send_next(self.database_url, destination, "here", QUIET_S, lambda: self.clock):
                pass
        self.session.rollback()  # what was read before is no longer so

    def until_quiet(self) -> None:
        """The readers stop; what is due goes."""
        self.run()
        self.run(after_s=QUIET_S + 60)

    def decide(self, study_id: int, months: int = 120, actor: Actor = READER, number: int = 0) -> None:
        image = self.image(study_id, actor, number)
        read = image.read.prediction_id if image.read else None
        decision = Decision(
            Verdict.CORRECTED, bone_age_answer(months), prediction_id=read, seen_review_id=image.seen_review_id
        )
        self.date_by_clock(review.record_review(self.session, actor, image.image_id, decision))

    def reject(self, study_id: int) -> None:
        image = self.image(study_id)
        decision = Decision(Verdict.REJECTED, None, RejectReason.POOR_QUALITY)
        self.date_by_clock(review.record_review(self.session, READER, image.image_id, decision))

    def undo(self, study_id: int) -> None:
        image = self.image(study_id)
        self.date_by_clock(review.undo_review(self.session, READER, image.image_id, image.decision.review_id))

    def image(self, study_id: int, actor: Actor = READER, number: int = 0) -> ImageView:
        self.session.rollback()
        return review.load_study(self.session, actor, study_id).images[number]

    def date_by_clock(self, review_id: int) -> None:
        with writing(self.session):
            self.session.execute(update(Review).where(Review.id == review_id).values(created_at=self.clock))

    def revisions(self, name: str = "pacs") -> list[tuple[int, int | None, bool]]:
        return [(one.revision, one.replaced_revision, one.is_withdrawn) for one in self.received[name]]

    def states(self, study_id: int, name: str = "pacs") -> list[str]:
        self.session.rollback()
        found = repository.deliveries_of_study(self.session, study_id, name)
        return [DeliveryState(one.state).value for one in found]


def png_study(session, folder: Path) -> int:
    path = folder / "hand.png"
    cv2.imwrite(str(path), (film_pixels() >> 4).astype("uint8"))
    born, acquired = date(2016, 3, 10), date(2025, 7, 10)
    entry = PatientEntry(patient_id="PNG1", sex="F", birth_date=born, acquired_on=acquired, laterality="L")
    result = ingest.ingest_file(session, READER, path, path.name, entry=entry, task=Task.BONE_AGE)
    assert result.outcome == "accepted", result.reason
    reading.record_reads(session, WORKER, [result.image_id], [read_of(Task.BONE_AGE)], is_phantom=True)
    return result.study_id
