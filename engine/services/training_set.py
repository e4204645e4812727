"""What a retraining would learn from, and the snapshot of it that it does learn from.

Every patient belongs to one split for ever, by a hash of the pseudonym: `test` is the locked test set, which no model
is ever trained or chosen on. A decision is used when it is beyond doubt: not while two readers differ, not where the
same picture got two answers, and a picture that two patients share is used once. What is left out is said, with the
reason. Cases that the model reads well already are replayed, so that it does not forget them: fresh phantoms of site A
for a phantom model, cases that readers confirmed for any other."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from db import models as db
from db.models import BlindRead, DataSet, Review, Role, Verdict
from db.repositories import blind as blind_repository
from db.repositories import registry as registry_repository
from db.repositories import retrain as retrain_repository
from db.repositories.reviews import all_reviews, count_images
from db.repositories.studies import tasks_present
from db.session import writing
from engine.annotations import SPLITS, TASK_FOLDERS, Annotation, Split
from engine.errors import Damaged, Refused
from engine.findings.answers import Answer, Task, View
from engine.findings.summary import TASK_WORDS
from engine.inference import model_folder
from engine.phantoms import replay
from engine.promotion_gate import MIN_PATIENTS_BETTER
from engine.services import annotation_folder, audit, images, reader_agreement
from engine.services.accounts import Actor, require
from engine.services.annotation_folder import FORMAT, PHANTOM_NOTE, Decided, LeftOut
from engine.services.export import split_of
from engine.services.reader_agreement import Agreement, agree
from engine.settings import settings
from engine.subgroups import age_band

SPLIT_SEED = 5  # never changed: with another one, patients that trained a model would test the next
TRAIN_SHARE, VAL_SHARE = 0.65, 0.15  # of the patients; 20 % are the locked test set
ABOUT_FILE = "data_set.json"

# on two CPU cores, see docs/retrain.md; what merging and comparing take, and what a film takes in training
SETUP_MINUTES, MINUTES_A_FILM = 2.5, 0.006

MIN_CORRECTIONS = 30  # of a task, to teach it; unverified, a round figure
CONFIRMED_PER_CORRECTION = 2  # at most so many, or what the model knows already drowns what it shall learn

LEFT_OUT_WORDS = {  # LeftOut.code in general terms, for lists that count
    "rejected": "a reader rejected the image",
    "burned_in_annotation": "text is burned into the pixels",
    "burned_in_unknown": "the file does not say whether text is burned in",
    "film_missing": "the film is gone from the data folder",
    "phantom": "a phantom, which a model for patients does not learn from",
    "readers_differ": "two readers differ and no adjudicator has decided",
    "labels_differ": "the same picture was given different answers",
    "leak": "another patient's film has the same pixels",
    "same_pixels": "another film of the child has the same pixels",
    "one_class": "all cases of the task have the same answer",
    "enough_confirmed": "confirmed, and enough such cases are used",
}


@dataclass(frozen=True)
class TaskCounts:
    """Usable decisions of one task."""

    task: Task
    corrected: int
    confirmed: int
    by_label: dict[str, int]  # "5-9 y" for bone age, the zone for ROP, the class for fracture
    by_site: dict[str, int]
    by_sex: dict[str, int]  # F, M, unknown
    splits: dict[Split, int]
    enough: bool  # to be taught
    why_not: str | None


@dataclass(frozen=True)
class TrainingSetPreview:
    tasks: list[TaskCounts]
    agreement: list[Agreement]
    replay: dict[Task, int]  # cases added so that the model does not forget
    left_out: list[LeftOut]
    not_reviewed: int  # images that still await a decision
    new_decisions: int  # that the model in use has not seen
    enough: bool
    why_not: str | None  # a sentence for the admin
    estimate_minutes: float


@dataclass(frozen=True)
class SnapshotReview:
    review_id: int
    image_id: int
    split: Split


@dataclass(frozen=True)
class Snapshot:
    """`counts` and `left_out` are those of the data_set row, which `snapshot` has added: `data_set_id`."""

    out_dir: Path
    sha256: str
    counts: dict[str, Any]
    left_out: dict[str, int]  # code -> images
    reviews: list[SnapshotReview]
    is_phantom: bool
    data_set_id: int


def preview(session: Session, actor: Actor) -> TrainingSetPreview:
    """Admins only: raises NotAllowed."""
    require(actor)
    plan = _plan(session)
    return TrainingSetPreview(
        tasks=[plan.counts_of(task) for task in Task],
        agreement=plan.agreement,
        replay=plan.replay,
        left_out=plan.left_out,
        not_reviewed=plan.not_reviewed,
        new_decisions=plan.new_decisions,
        enough=plan.refusal is None,
        why_not=str(plan.refusal) if plan.refusal else None,
        estimate_minutes=plan.estimate_minutes,
    )


def snapshot(
    session: Session,
    actor: Actor,
    out_dir: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Snapshot:
    """Write the training set to `out_dir` (a pedirad-custom folder), whole or not at all, replacing an earlier one
    there. The same decisions give the same `sha256`. Records the data set and commits. `progress` hears of every
    picture written, and may raise to stop.

    Raises Refused with a sentence for the admin when there is too little to learn from (codes too_few, one_class,
    too_few_to_test, nothing_new), NotFound for a film that is gone, NotAllowed."""
    require(actor, Role.SERVICE)
    plan = _plan(session)
    if plan.refusal is not None:
        raise plan.refusal
    out_dir = out_dir.absolute()
    with annotation_folder.whole_or_not_at_all(out_dir, ABOUT_FILE) as unfinished:
        sha256 = _write(unfinished, plan, progress)
    counts, left_out = plan.as_counts(), dict(Counter(left.code for left in plan.left_out))
    with writing(session):
        data_set = retrain_repository.data_set_by_sha256(session, sha256)
        if data_set is None:
            reviews = [(case.review.id, case.image.id, db.Split(case.split)) for case in plan.cases]
            data_set = retrain_repository.add_data_set(session, sha256, counts, left_out, reviews)
            detail = {"sha256": sha256} | audit.fixed(data_set)
            audit.record(session, actor, "data_set.written", f"data_set:{data_set.id}", detail)
        return Snapshot(
            out_dir=out_dir,
            sha256=sha256,
            counts=counts,
            left_out=left_out,
            reviews=[SnapshotReview(case.review.id, case.image.id, case.split) for case in plan.cases],
            is_phantom=plan.is_phantom,
            data_set_id=data_set.id,
        )


# --- what is used ---


@dataclass(frozen=True)
class _Case:
    decided: Decided
    split: Split
    is_replay: bool = False  # confirmed, and there so that the model does not forget

    @property
    def review(self) -> Review:
        return self.decided[0]

    @property
    def image(self) -> db.Image:
        return self.decided[1]

    @property
    def answer(self) -> Answer:
        return self.review.answer or {}

    @property
    def task(self) -> Task:
        return Task(self.answer["task"])

    @property
    def is_correction(self) -> bool:
        return self.review.verdict == Verdict.CORRECTED

    @property
    def patient(self) -> str:
        return self.decided[3].pseudonym


@dataclass(frozen=True)
class _Plan:
    cases: list[_Case]
    left_out: list[LeftOut]
    agreement: list[Agreement]
    replay: dict[Task, int]
    tasks_in_service: list[Task]
    not_reviewed: int
    new_decisions: int
    is_phantom: bool
    refusals: dict[Task, Refused | None]  # why a task is not taught
    refusal: Refused | None  # why nothing is

    @property
    def drawn(self) -> list[tuple[View, int]]:
        """Phantoms to replay; none where confirmed cases are."""
        return [] if any(case.is_replay for case in self.cases) else replay.numbers(self.replay)

    def counts_of(self, task: Task) -> TaskCounts:
        cases = [case for case in self.cases if case.task is task]
        why_not = self.refusals[task]
        return TaskCounts(
            task=task,
            corrected=sum(case.is_correction for case in cases),
            confirmed=sum(not case.is_correction for case in cases),
            by_label=_counted(_label(case.answer) for case in cases),
            by_site=_counted(case.decided[2].site or "unknown" for case in cases),
            by_sex=_counted(case.decided[3].sex.value if case.decided[3].sex else "unknown" for case in cases),
            splits={split: sum(case.split == split for case in cases) for split in SPLITS},
            enough=why_not is None,
            why_not=str(why_not) if why_not else None,
        )

    @property
    def estimate_minutes(self) -> float:
        trained = sum(case.split != "test" for case in self.cases) + sum(self.replay.values())
        return round(SETUP_MINUTES + trained * MINUTES_A_FILM, 1)

    def as_counts(self) -> dict[str, Any]:
        found = {task: self.counts_of(task) for task in Task}
        return {
            **{task.value: counts.splits for task, counts in found.items()},
            "corrected": {task.value: counts.corrected for task, counts in found.items()},
            "confirmed": {task.value: counts.confirmed for task, counts in found.items()},
            "replay": {task.value: count for task, count in self.replay.items()},
            "labels": {task.value: counts.by_label for task, counts in found.items()},
            "sites": _counted(case.decided[2].site or "unknown" for case in self.cases),
            "sex": _counted(case.decided[3].sex.value if case.decided[3].sex else "unknown" for case in self.cases),
            "patients": len({case.patient for case in self.cases}),
        }


def _plan(session: Session) -> _Plan:
    histories: dict[int, list[Decided]] = defaultdict(list)
    for row in all_reviews(session):
        histories[row[1].id].append(row)
    second_reads = blind_repository.standing_second_reads(session)
    for_patients = not model_folder.configured_is_phantom(settings().model)
    left_out: list[LeftOut] = []
    usable: list[_Case] = []
    decided = 0
    for history in histories.values():
        review, image, study, patient, _ = latest = history[-1]
        if review.verdict == Verdict.WITHDRAWN:
            continue
        decided += 1
        reason = annotation_folder.why_unfit(review, image, study) or _why_not_used(
            history, second_reads.get(image.id, ()), for_patients
        )
        if reason is None:
            usable.append(_Case(latest, split_of(patient.pseudonym, SPLIT_SEED, TRAIN_SHARE, VAL_SHARE)))
        else:
            left_out.append(LeftOut(image.id, study.id, *reason))
    usable = _without_leaks(usable, left_out)
    usable = _without_too_many_confirmed(usable, left_out)
    refusals = {task: _why_not_taught(task, [case for case in usable if case.task is task]) for task in Task}
    one_sided = [task for task, refused in refusals.items() if refused is not None and refused.code == "one_class"]
    usable = _without_one_sided(usable, one_sided, left_out)
    if for_patients:
        usable = [replace(case, is_replay=not case.is_correction and case.split != "test") for case in usable]
        replayed = dict(Counter(case.task for case in usable if case.is_replay))
    else:
        replayed = dict(replay.COUNTS)
    seen = _seen_by_model_in_use(session)
    new = sum(case.review.id not in seen for case in usable)
    return _Plan(
        cases=usable,
        left_out=sorted(left_out, key=lambda left: left.image_id),
        agreement=reader_agreement.agreement(histories.values(), second_reads),
        replay=replayed,
        tasks_in_service=[Task(task) for task in tasks_present(session)] if for_patients else list(Task),
        not_reviewed=count_images(session) - decided,
        new_decisions=new,
        is_phantom=not for_patients or any(case.decided[2].is_phantom for case in usable),
        refusals=refusals,
        refusal=_refusal(refusals, new, bool(seen)),
    )


def _why_not_used(
    history: list[Decided], second_reads: Sequence[BlindRead], for_patients: bool
) -> tuple[str, str] | None:
    review, image, study, _, _ = history[-1]
    if for_patients and study.is_phantom:
        return "phantom", "a phantom: a model for patients does not learn from drawings"
    if not images.is_kept(image.file_sha256):
        return "film_missing", "the film is gone from the data folder: restore it from a backup"
    doubt = reader_agreement.open_question(history, second_reads)
    return ("readers_differ", doubt) if doubt else None


def _without_leaks(cases: list[_Case], left_out: list[LeftOut]) -> list[_Case]:
    """One picture once. Between two patients the one in the locked test set stays, else the first; none where the
    answers differ."""
    by_pixels: dict[str, list[_Case]] = defaultdict(list)
    for case in cases:
        by_pixels[case.image.pixel_sha256].append(case)
    kept = []
    for same in by_pixels.values():
        if not all(agree(one.answer, other.answer) for one, other in combinations(same, 2)):
            _leave_out(left_out, same, "labels_differ", "the same picture was given different answers")
            continue
        first = min(same, key=lambda case: (case.split != "test", case.image.id))
        kept.append(first)
        for case in same:
            if case is not first and case.patient != first.patient:
                reason = f"another patient's film has exactly these pixels; it is used once, for {first.split}"
                _leave_out(left_out, [case], "leak", reason)
            elif case is not first:
                _leave_out(left_out, [case], "same_pixels", "another film of this child has exactly these pixels")
    return sorted(kept, key=lambda case: case.image.id)


def _without_one_sided(cases: list[_Case], tasks: list[Task], left_out: list[LeftOut]) -> list[_Case]:
    """Without what would train `tasks`; their test cases stay."""
    dropped = [case for case in cases if case.task in tasks and case.split != "test"]
    for case in dropped:
        _leave_out(left_out, [case], "one_class", f"every usable {TASK_WORDS[case.task]} case has the same answer")
    return _all_but(cases, dropped)


def _without_too_many_confirmed(cases: list[_Case], left_out: list[LeftOut]) -> list[_Case]:
    """By the order of their files' hashes, which says nothing about them."""
    room = CONFIRMED_PER_CORRECTION * max(MIN_CORRECTIONS, sum(case.is_correction for case in cases))
    confirmed = [case for case in cases if not case.is_correction and case.split != "test"]
    surplus = sorted(confirmed, key=lambda case: case.image.file_sha256)[room:]
    reason = f"confirmed, and {room} such cases are used already"
    _leave_out(left_out, surplus, "enough_confirmed", reason)
    return _all_but(cases, surplus)


def _all_but(cases: Sequence[_Case], dropped: Sequence[_Case]) -> list[_Case]:
    ids = {case.image.id for case in dropped}
    return [case for case in cases if case.image.id not in ids]


def _leave_out(left_out: list[LeftOut], cases: Sequence[_Case], code: str, reason: str) -> None:
    left_out += [LeftOut(case.image.id, case.image.study_fk, code, reason) for case in cases]


# --- is it enough ---


def _refusal(refusals: dict[Task, Refused | None], new: int, has_seen_some: bool) -> Refused | None:
    reasons = [refused for refused in refusals.values() if refused is not None]
    if len(reasons) == len(refusals):
        return max(reasons, key=lambda refused: REFUSALS.index(refused.code))
    if has_seen_some and not new:
        return Refused(
            "nothing_new", "The model in use has learnt from every usable decision already: review more cases first."
        )
    return None


REFUSALS = ("too_few", "one_class", "too_few_to_test")  # the one nearest to success is told


def _why_not_taught(task: Task, cases: list[_Case]) -> Refused | None:
    corrected = sum(case.is_correction for case in cases)
    name = TASK_WORDS[task]
    if corrected < MIN_CORRECTIONS:
        return Refused(
            "too_few",
            f"Usable corrections of {name} so far: {corrected}. At least {MIN_CORRECTIONS} of one task are needed to "
            "learn from.",
        )
    if len({tuple(case.answer.items()) for case in cases if case.split == "train"}) < 2:
        return Refused(
            "one_class", f"All usable {name} cases have the same answer: a model would learn to say nothing else."
        )
    tested = len({case.patient for case in cases if case.split == "test"})
    if tested < MIN_PATIENTS_BETTER:
        return Refused(
            "too_few_to_test",
            f"Of the {name} cases {tested} patients fall into the locked test set, and {MIN_PATIENTS_BETTER} are "
            "needed to show that a new model is better: review more cases first.",
        )
    return None


def _seen_by_model_in_use(session: Session) -> set[int]:
    pointer = registry_repository.last_deployment(session)
    if pointer is None or pointer.model_version is None or pointer.model_version.data_set_fk is None:
        return set()
    rows = retrain_repository.reviews_of_data_set(session, pointer.model_version.data_set_fk)
    return {row.review_fk for row in rows}


# --- the folder ---


def verify(session: Session, actor: Actor, data_set_id: int, folder: Path) -> None:
    """Raises Damaged unless `folder` still holds the data set that was written there: nothing is learned from, and no
    model judged by, pictures or answers that somebody put in."""
    require(actor, Role.SERVICE)
    sha256 = session.get_one(DataSet, data_set_id).sha256
    found = model_folder.sha256_of(folder, without=ABOUT_FILE)
    if found != sha256:
        raise Damaged(
            f"The data set {data_set_id} in {folder.parent.name}/{folder.name} is not what was written (hash "
            f"{found[:12]} instead of {sha256[:12]}): it was changed or damaged. Start the retraining again."
        )


def _write(folder: Path, plan: _Plan, progress: Callable[[int, int], None]) -> str:
    annotations: dict[Task, dict[Split, list[Annotation]]] = {task: {split: [] for split in SPLITS} for task in Task}
    with closing(_written(folder, plan)) as written:
        for done, (task, split, record) in enumerate(written, start=1):
            annotations[task][split].append(record)
            progress(done, len(plan.cases) + len(plan.drawn))
    annotation_folder.write_annotations(folder, annotations)
    sha256 = model_folder.sha256_of(folder)
    about = {
        **FORMAT,
        "sha256": sha256,
        "split_seed": SPLIT_SEED,
        "tasks": [task.value for task in plan.tasks_in_service],
        "counts": plan.as_counts(),
        "left_out": dict(Counter(left.code for left in plan.left_out)),
        "phantom": plan.is_phantom,
        **({"note": PHANTOM_NOTE} if plan.is_phantom else {}),
    }
    annotation_folder.write_json(folder / ABOUT_FILE, about)
    return sha256


def _written(folder: Path, plan: _Plan) -> Iterator[tuple[Task, Split, Annotation]]:
    """Writes every picture, as many at once as there are cores, and says what it is. Always in the same order."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        places = (folder / TASK_FOLDERS[case.task] for case in plan.cases)
        hashes, splits = [case.image.file_sha256 for case in plan.cases], [case.split for case in plan.cases]
        paths = pool.map(annotation_folder.write_image, hashes, places, splits)
        drawn = pool.map(lambda which: replay.write(folder, *which), plan.drawn)
        for case, path in zip(plan.cases, paths, strict=True):
            record = annotation_folder.annotation_of(path, case.decided, replay=case.is_replay)
            yield case.task, case.split, record
        yield from drawn
    finally:
        pool.shutdown(cancel_futures=True)


def _label(answer: Answer) -> str:
    match Task(answer["task"]):
        case Task.BONE_AGE:
            return age_band(Task.BONE_AGE, float(answer["bone_age_months"]))
        case Task.ROP:
            return f"zone {answer['zone']}"
        case Task.FRACTURE:
            return str(answer["fracture"])


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
