"""What the batch job that reads new studies needs: the images that wait, and a place to put the reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Image, ModelVersion, Patient, Prediction, ReadState, Role, Study, TaskSource, Worker
from db.repositories import reads as repository
from db.repositories.studies import locked_image, locked_images
from db.session import writing
from db.types import utc_now
from engine.errors import NotFound
from engine.findings.answers import TASK_OF_VIEW, Task, View, check_answer
from engine.inference.read import Read, ReadContext
from engine.services import audit, case_state
from engine.services.accounts import Actor, require

# What a heartbeat says, as people read it on the pages.
LOADING = "The worker is loading the model."
READY = "The worker is ready."
NO_MODEL = "The worker has no model: "
STOPPED = "The worker has stopped."
LOST = "The worker ended, to be started again. "


@dataclass(frozen=True)
class AwaitingImage:
    """`task` None: triage it first (`record_triage`). `read_round` goes back with the read, so that a fact which a
    reader supplied meanwhile leads to a new read. `starts` counts how often a worker took it in hand, this time
    included."""

    image_id: int
    study_id: int
    file_sha256: str
    task: Task | None
    sex: Literal["M", "F", None]
    age_months: float | None
    read_round: int
    is_waited_for: bool
    starts: int

    @property
    def context(self) -> ReadContext:
        return ReadContext(sex=self.sex, age_months=self.age_months)


def images_awaiting_read(
    session: Session, actor: Actor, limit: int = 32, image_ids: Sequence[int] | None = None
) -> list[AwaitingImage]:
    """The images to read next, those that a person waits for first; of `image_ids` only those that still wait, when
    given."""
    require(actor, Role.SERVICE)
    return [
        awaiting(image, study, patient)
        for image, study, patient in repository.images_awaiting_read(session, limit, image_ids)
    ]


def take_in_hand(
    session: Session,
    actor: Actor,
    worker: str,
    limit: int,
    *,
    held: Collection[int],
    silent_after_s: float,
    starts: tuple[int, int | None] = (0, None),
    first_only: bool = False,
) -> list[AwaitingImage]:
    """The images that `worker` is to read next, in order; while it is heard of no other worker takes them. Commits.

    `held`: what it has in hand already; whatever else bears its name is from before a restart, and is taken again.
    `starts`: only images whose read was begun at least so often, and less often than that. `first_only`: only what a
    person waits for."""
    require(actor, Role.SERVICE)
    wanted = {
        "worker": worker,
        "held": held,
        "heard_since": utc_now() - timedelta(seconds=silent_after_s),
        "starts": starts,
        "first_only": first_only,
    }
    if not repository.images_to_take_in_hand(session, 1, **wanted):
        session.rollback()
        return []  # an idle worker takes no turn from those who write
    with writing(session):
        taken = repository.images_to_take_in_hand(session, limit, **wanted)
        for image, _, _ in taken:
            image.read_worker = worker
            image.read_starts += 1
        return [awaiting(*row) for row in taken]


def give_back(session: Session, actor: Actor, worker: str, image_ids: Collection[int]) -> None:
    """What `worker` took in hand and will not read is free for others, at once, and was not begun. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        repository.give_back(session, worker, image_ids)


def awaiting(image: Image, study: Study, patient: Patient) -> AwaitingImage:
    return AwaitingImage(
        image_id=image.id,
        study_id=study.id,
        file_sha256=image.file_sha256,
        task=Task(study.task) if study.task else None,
        sex=patient.sex.value if patient.sex else None,
        age_months=study.age_months,
        read_round=image.read_round,
        is_waited_for=image.read_first,
        starts=image.read_starts,
    )


def record_triage(
    session: Session, actor: Actor, image_id: int, view: View, probabilities: dict[str, float]
) -> AwaitingImage | None:
    """Route an image whose tags did not say what it is. Returns it with its task, ready to be read, or None when it
    cannot be read now (not one of the three views, or a fact is missing; the case says so). Commits.

    A task that the case has by now, from a reader or another of its images, stays."""
    require(actor, Role.SERVICE)
    with writing(session):
        image, study = _image_and_study(session, image_id)
        task = TASK_OF_VIEW.get(view)
        if study.task is None and task is None:
            case_state.block_read(image, case_state.NOT_ONE_OF_THE_VIEWS)
        elif study.task is None:
            study.task, study.task_source = task, TaskSource.TRIAGE
            for other in study.images:
                case_state.queue_read(other, study, study.patient)
        case_state.refresh(session, study)
        audit.record(
            session,
            actor,
            "read.triage",
            f"image:{image_id}",
            {"view": view.value, "probabilities": {name: round(value, 4) for name, value in probabilities.items()}},
        )
        return awaiting(image, study, study.patient) if image.read_state == ReadState.QUEUED else None


def record_reads(
    session: Session,
    actor: Actor,
    image_ids: Sequence[int],
    reads: Sequence[Read],
    *,
    is_phantom: bool,
    read_rounds: Sequence[int] | None = None,
) -> list[int]:
    """Store reads, one an image, and return the ids of the predictions. Commits.

    Idempotent: a second read of the same image, round and model version changes nothing and returns the first one's
    id. With `read_rounds` (from AwaitingImage) so does one by another version, as two workers may read the same image
    while the model in use changes; and a read made before a reader supplied a fact is stored, but the image stays
    queued. One for a task that the case no longer has is dropped. `is_phantom` says that the phantom model made them
    (Reader.is_phantom)."""
    require(actor, Role.SERVICE)
    rounds = read_rounds if read_rounds is not None else [None] * len(image_ids)
    with writing(session):
        cases = locked_images(session, image_ids)
        known = repository.predictions_of_images(session, image_ids)
        versions: dict[str, ModelVersion] = {}
        kept, added = [], []
        for image_id, read, read_round in zip(image_ids, reads, rounds, strict=True):
            if image_id not in cases:
                raise NotFound(f"there is no image {image_id}")
            image, study = cases[image_id]
            if read.task != study.task:
                continue
            if read.answer is not None:
                check_answer(read.answer)
            if read.model_version not in versions:
                versions[read.model_version] = _model_version(session, actor, read.model_version, is_phantom)
            version = versions[read.model_version]
            prediction = _stored_already(known, image, version, read_round)
            if prediction is None:
                round_now = image.read_round if read_round is None else read_round
                prediction = Prediction(
                    image_fk=image_id, model_version_fk=version.id, read_round=round_now, **columns_of(read)
                )
                known.append(prediction)
                added.append((prediction, version))
            if prediction.read_round == image.read_round:
                image.read_state, image.read_blocked_reason = ReadState.DONE, None
            kept.append(prediction)
        session.add_all(prediction for prediction, _ in added)
        session.flush()
        for prediction, version in added:
            _audit_read(session, actor, prediction, version)
        case_state.refresh_all(session, list({study.id: study for _, study in cases.values()}.values()))
        return [prediction.id for prediction in kept]


def _stored_already(
    known: Sequence[Prediction], image: Image, version: ModelVersion, read_round: int | None
) -> Prediction | None:
    """The latest of this round; where no round is given, of the image's own round by this version."""
    for prediction in reversed(known):
        if prediction.image_fk == image.id and (
            prediction.read_round == read_round
            if read_round is not None
            else (prediction.read_round, prediction.model_version_fk) == (image.read_round, version.id)
        ):
            return prediction
    return None


def _audit_read(session: Session, actor: Actor, prediction: Prediction, version: ModelVersion) -> None:
    detail = {"prediction": prediction.id, "model_version": version.name, "abstained": prediction.abstained}
    audit.record(session, actor, "read.recorded", f"image:{prediction.image_fk}", detail | audit.fixed(prediction))


def columns_of(read: Read) -> dict[str, Any]:
    """What a read says, for db.models.ReadColumns."""
    low, high = read.interval_months or (None, None)
    return {
        "task": Task(read.task),
        "answer": dict(read.answer) if read.answer is not None else None,
        "probabilities": read.probabilities,
        "median_months": read.median_months,
        "interval_low_months": low,
        "interval_high_months": high,
        "abstained": read.abstained,
        "reason": read.reason,
        "milliseconds": read.milliseconds,
    }


def record_read_failure(session: Session, actor: Actor, image_id: int, reason: str) -> None:
    """The image cannot be read for a reason of its own (its pixels are gone, say): the case says so. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        image, study = _image_and_study(session, image_id)
        case_state.block_read(image, reason.replace("\0", "")[:500])
        case_state.refresh(session, study)
        audit.record(session, actor, "read.failed", f"image:{image_id}")


def heartbeat(
    session: Session, actor: Actor, worker_name: str, model_version: str | None, detail: str | None = None
) -> None:
    """The worker is alive; `detail` says in a few words what it does or waits for. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        worker = session.get(Worker, worker_name)
        if worker is None:
            worker = Worker(name=worker_name)
            session.add(worker)
        worker.at, worker.model_version, worker.detail = utc_now(), model_version, detail
    audit.keep_anchor(session)


def _image_and_study(session: Session, image_id: int) -> tuple[Image, Study]:
    found = locked_image(session, image_id)
    if found is None:
        raise NotFound(f"there is no image {image_id}")
    return found


def _model_version(session: Session, actor: Actor, name: str, is_phantom: bool) -> ModelVersion:
    version = repository.model_version_by_name(session, name)
    if version is not None:
        return version
    try:
        with session.begin_nested():
            version = ModelVersion(name=name, is_phantom=is_phantom)
            session.add(version)
        audit.record(session, actor, "model.seen", f"model:{version.id}", {"name": name} | audit.fixed(version))
        return version
    except IntegrityError:  # another worker was first
        version = repository.model_version_by_name(session, name)
        if version is None:
            raise
        return version
