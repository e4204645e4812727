"""The demo worklist: phantom studies in every state a case can be in, so that each page has something to show.

Children have several examinations; some are read and reviewed, some are urgent, some lack a tag, some files are
refused, and a few still wait when the worker starts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from db.models import RejectReason, Verdict
from db.session import session_scope
from engine.findings.answers import Answer, Task
from engine.services import demo_growth, ingest, review, worklist
from engine.services.accounts import demo_reader, service_actor
from engine.services.demo_files import Examination, make_demo_files
from engine.services.review import Decision, ImageView

LEFT_WAITING = 8  # studies that the worker finds when it starts
REVIEW_EVERY = 3  # study
REJECT_EVERY = 9  # one reviewed study in so many is rejected
CLOSE_ENOUGH_MONTHS = 4  # the demo reader confirms a bone age this near to the truth

SENDER = service_actor("demo")


@dataclass
class Filled:
    studies: int = 0
    images: int = 0
    refused: int = 0
    reviewed: int = 0
    waiting: int = 0
    visits: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"filled": True, **asdict(self)}


def fill(
    database_url: str,
    data_dir: Path,
    read: Callable[[Sequence[int]], int] | None,
    *,
    say: Callable[[str], None] = print,
) -> Filled | None:
    """Fills an empty worklist; None when there are studies already. What was interrupted goes on.

    `read` reads the given images now; without it they are left to the worker, and nothing is reviewed."""
    unfinished = data_dir / "demo.unfinished"
    if not unfinished.exists() and _has_studies(database_url):
        return None
    data_dir.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    done = Filled()
    with tempfile.TemporaryDirectory(prefix="pediscreen-demo-") as folder:
        say("Making phantom studies ...")
        examinations, refused = make_demo_files(Path(folder))
        to_read, to_wait = examinations[:-LEFT_WAITING], examinations[-LEFT_WAITING:]
        truth = _send(database_url, to_read, done)
        image_ids = [image_id for images in truth.values() for image_id in images]
        for path in refused:
            done.refused += _ingest(database_url, path).outcome == "quarantined"
        if read is not None:
            say(f"Reading {len(image_ids)} images ...")
            read(image_ids)
            done.reviewed = _review(database_url, truth)
        truth |= _send(database_url, to_wait, done)
        with session_scope(database_url) as session:
            done.visits = demo_growth.add_visits(session, SENDER, examinations, list(truth))
    done.studies, done.waiting = len(examinations), len(to_wait) if read else len(examinations)
    unfinished.unlink()
    say(
        f"{done.studies} studies with {done.images} images, {done.reviewed} reviewed, {done.refused} files refused, "
        f"{done.visits} growth visits."
    )
    return done


def _has_studies(database_url: str) -> bool:
    with session_scope(database_url) as session:
        return worklist.overview(session, SENDER).total > 0


def _ingest(database_url: str, path: Path) -> ingest.IngestResult:
    with session_scope(database_url) as session:
        return ingest.ingest_file(session, SENDER, path, path.name)


def _send(database_url: str, examinations: list[Examination], done: Filled) -> dict[int, dict[int, Answer]]:
    """Takes the files in. Returns study id to image id to the true answer."""
    truth: dict[int, dict[int, Answer]] = {}
    for examination in examinations:
        for file in examination.files:
            result = _ingest(database_url, file.path)
            if result.study_id is not None and result.image_id is not None:
                truth.setdefault(result.study_id, {})[result.image_id] = file.answer
                done.images += 1
    return truth


def _review(database_url: str, truth: dict[int, dict[int, Answer]]) -> int:
    """The demo reader decides about some studies as somebody would who knows the truth. Returns how many."""
    reviewed = 0
    with session_scope(database_url) as session:
        for study_id in list(truth)[::REVIEW_EVERY]:
            study = review.load_study(session, demo_reader(), study_id)
            if any(image.missing_facts for image in study.images):
                continue
            reviewed += 1
            for image in study.images:
                if image.decision is None:
                    rejected = reviewed % REJECT_EVERY == 0
                    decision = _decide(image, truth[study_id][image.image_id], rejected)
                    review.record_review(session, demo_reader(), image.image_id, decision)
    return reviewed


def _decide(image: ImageView, truth: Answer, rejected: bool) -> Decision:
    read = image.read
    seen = {"prediction_id": read.prediction_id if read else None, "seen_review_id": image.seen_review_id}
    if rejected:
        return Decision(Verdict.REJECTED, reject_reason=RejectReason.POOR_QUALITY, comment="Motion blur.", **seen)
    if read is not None and read.answer is not None and _is_close(read.answer, truth):
        return Decision(Verdict.CONFIRMED, **seen)
    return Decision(Verdict.CORRECTED, answer=truth, **seen)


def _is_close(answer: Answer, truth: Answer) -> bool:
    if truth["task"] == Task.BONE_AGE:
        return abs(int(answer["bone_age_months"]) - int(truth["bone_age_months"])) <= CLOSE_ENOUGH_MONTHS
    return answer == truth
