"""A reader in a process of its own: takes the next free case and confirms its reads, until none is left.

python -m tests.racing_reader DATABASE_URL USERNAME     starts when a line comes in; prints a study id a line"""

from __future__ import annotations

import sys

from db.models import Role, StudyStatus, Verdict
from db.session import session_scope
from engine.services import claims, review
from engine.services.accounts import Actor
from engine.services.review import Decision
from engine.services.worklist import WorklistFilter

TO_REVIEW = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,))


def main(url: str, username: str) -> None:
    reader = Actor(username, username.title(), Role.READER)
    with session_scope(url) as session:
        session.connection()
        print("ready", flush=True)
        sys.stdin.readline()
        study_id = None
        while (study_id := claims.claim_next(session, reader, TO_REVIEW, study_id)) is not None:
            print(study_id, flush=True)
            for image in review.load_study(session, reader, study_id).images:
                decision = Decision(
                    Verdict.CONFIRMED, prediction_id=image.read.prediction_id, seen_review_id=image.seen_review_id
                )
                review.record_review(session, reader, image.image_id, decision)


if __name__ == "__main__":
    main(*sys.argv[1:])
