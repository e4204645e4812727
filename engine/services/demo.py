"""The demo worklist: phantom studies in every state a case can be in, so that each page has something to show.

Children have several examinations; some are read and reviewed, some are urgent, some lack a tag, some files are
refused, and a few still wait when the worker starts. Behind them lie weeks of decided cases (demo_history)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from db.models import RejectReason, Verdict
from db.session import session_scope
from engine.findings.answers import Answer
from engine.services import demo_growth, demo_history, ingest, review, worklist
from engine.services.accounts import demo_reader, service_actor
from engine.services.demo_files import Examination, make_demo_files, make_past_files
from engine.services.review import Decision, ImageView

LEFT_WAITING = 8  # studies that the worker finds when it starts
REVIEW_EVERY = 3  # study
REJECT_EVERY = 9  # one reviewed study in so many is rejected

SENDER = service_actor("demo")

Read = Callable[[Sequence[int]], int]  # the given images


@dataclass
class Filled:
    studies: int = 0
    images: int = 0
    refused: int = 0
    reviewed: int = 0
    decided_before: int = 0  # images
    waiting: int = 0
    visits: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"filled": True, **asdict(self)}


def fill(
    database_url: str,
    data_dir: Path,
    load: Callable[[], Read] | None,
    *,
    say: Callable[[str], None] = print,
) -> Filled | None:
    """Fills an empty worklist; None when there are studies already. What was interrupted goes on.

    `load` gives what reads images now; it is called while the phantoms are still being drawn. Without it they are left
    to the worker, nothing is reviewed, and there is no past."""
    unfinished = data_dir / "demo.unfinished"
    if not unfinished.exists() and _has_studies(database_url):
        return None
    data_dir.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    done = Filled()
    with tempfile.TemporaryDirectory(prefix="pediscreen-demo-") as folder, ThreadPoolExecutor(1) as beside:
        read = beside.submit(load) if load is not None else None
        say("Making phantom studies ...")
        examinations, refused = make_demo_files(Path(folder))
        to_read, to_wait = examinations[:-LEFT_WAITING], examinations[-LEFT_WAITING:]
        truth = _send(database_url, to_read, done)
        for path in refused:
            done.refused += _ingest(database_url, path).outcome == "quarantined"
        if read is not None:
            images = _images(truth)
            say(f"Reading {len(images)} images ...")
            reading = beside.submit(read.result(), images)
            done.decided_before = _make_past(database_url, Path(folder) / "past", read.result(), reading, done, say)
            done.reviewed = _review(database_url, truth)
        truth |= _send(database_url, to_wait, done)
        with session_scope(database_url) as session:
            done.visits += demo_growth.add_visits(session, SENDER, examinations, list(truth))
    done.studies += len(examinations)
    done.waiting = len(to_wait) if read else len(examinations)
    unfinished.unlink()
    say(
        f"{done.studies} studies with {done.images} images, {done.reviewed} reviewed just now, {done.decided_before} "
        f"images in the weeks before, {done.refused} files refused, {done.visits} growth visits."
    )
    return done


def _make_past(
    database_url: str, folder: Path, read: Read, reading: Future[int], done: Filled, say: Callable[[str], None]
) -> int:
    """Drawn and sent while the worklist is being read. Returns how many images were decided."""
    examinations = make_past_files(folder)
    truth = _send(database_url, examinations, done)
    reading.result()
    say(f"Reading and deciding {len(_images(truth))} images of the weeks before ...")
    read(_images(truth))
    with session_scope(database_url) as session:
        done.visits += demo_growth.add_visits(session, SENDER, examinations, list(truth), years_before=0)
    done.studies += len(examinations)
    return demo_history.decide(database_url, truth)


def _images(truth: dict[int, dict[int, Answer]]) -> list[int]:
    return [image_id for images in truth.values() for image_id in images]


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
    seen = {"prediction_id": image.read.prediction_id if image.read else None, "seen_review_id": image.seen_review_id}
    if rejected:
        return Decision(Verdict.REJECTED, reject_reason=RejectReason.POOR_QUALITY, comment="Motion blur.", **seen)
    return replace(demo_history.decision_about(image, truth), **seen)
