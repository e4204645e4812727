"""A hospital whose films look otherwise: phantoms of site B go in, are read, and a reader corrects what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from db.models import Image, Verdict
from db.session import session_scope
from engine.findings.answers import Answer
from engine.jobs.read_pending import read_images
from engine.phantoms.write import make_phantoms
from engine.services import ingest, review
from engine.services.accounts import demo_reader, service_actor
from engine.services.ingest import IngestResult
from engine.services.review import Decision

SEED = 71  # of the USER range; no other film of the project's is drawn from it
AT_ONCE = 30


@dataclass
class Decided:
    films: int = 0
    corrected: int = 0
    confirmed: int = 0


def correct_films(
    database_url: str,
    folder: Path,
    reader,
    corrections: int,
    *,
    views: Sequence[str] = ("hand", "wrist"),
    most_films: int = 1500,
) -> Decided:
    """Hands and wrists in turn until there are as many corrections; a read that is right is confirmed instead."""
    done = Decided()
    batch = 0
    while done.corrected < corrections and done.films < most_films:
        view = views[batch % len(views)]
        made = make_phantoms(folder, view, AT_ONCE, SEED + batch, site="B")
        truths: dict[int, Answer] = {}
        for phantom in made:
            taken = _ingested(database_url, phantom.path)
            truths[taken.image_id] = phantom.answer
            phantom.path.unlink()
        read_images(database_url, lambda: reader, list(truths))
        with session_scope(database_url) as session:
            for image_id, truth in truths.items():
                done.films += 1
                verdict = _decide(session, image_id, truth)
                done.corrected += verdict is Verdict.CORRECTED
                done.confirmed += verdict is Verdict.CONFIRMED
                if done.corrected == corrections:
                    break
        batch += 1
    return done


def _ingested(database_url: str, path: Path) -> IngestResult:
    """On a machine that is busy with other things a decoder may be stopped for being slow; it is tried again."""
    for _ in range(5):
        with session_scope(database_url) as session:
            taken = ingest.ingest_file(session, service_actor("demo"), path, path.name)
        if taken.reason_code != "too_slow":
            break
    assert taken.outcome == "accepted", taken
    return taken


def _decide(session, image_id: int, answer: Answer) -> Verdict:
    study = review.load_study(session, demo_reader(), session.get(Image, image_id).study_fk)
    (image,) = study.images
    read = image.read
    verdict = Verdict.CONFIRMED if read and read.answer == answer else Verdict.CORRECTED
    decision = Decision(
        verdict,
        None if verdict is Verdict.CONFIRMED else answer,
        prediction_id=read.prediction_id if read else None,
        seen_review_id=image.seen_review_id,
    )
    review.record_review(session, demo_reader(), image_id, decision)
    return verdict
