"""How good a reader's reads are: agreement with the other reader of the same image, answers to gold cases, time.

Of images that were read twice, and blind: neither reader knew of the other. Rejected images are counted apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from db.models import Task as DbTask
from db.repositories import blind as repository
from engine import agreement
from engine.agreement import BlandAltman, Estimate
from engine.findings.answers import Answer, Fracture, Plus, Stage, Task, Zone
from engine.services.accounts import Actor, require
from engine.services.reader_agreement import agree

ENOUGH = 10  # images read twice: below, an estimate says nothing
LATEST = 500  # decisions whose time counts

# field -> its classes, and whether they have an order
FIELDS: dict[Task, dict[str, tuple[list[str], bool]]] = {
    Task.BONE_AGE: {},
    Task.ROP: {
        "zone": ([Zone.NONE, Zone.III, Zone.II, Zone.I], True),
        "stage": (list(Stage), True),
        "plus_disease": (list(Plus), True),
    },
    Task.FRACTURE: {"fracture": (list(Fracture), False)},
}


@dataclass(frozen=True)
class ReaderQuality:
    """One reader and task. `pairs`: images that another reader has answered, too; estimates are None below ENOUGH of
    them or where they are not defined. `kappas` by field, weighted quadratically where the classes have an order;
    `icc` and `bland_altman` (this reader minus the other one, months) of bone ages."""

    reader: str  # display name
    username: str
    task: Task
    pairs: int
    within_threshold: Estimate | None
    kappas: dict[str, Estimate | None]
    icc: Estimate | None
    bland_altman: BlandAltman | None
    one_rejected: int  # images that one of the two rejected
    gold: int
    gold_correct: Estimate | None
    timed: int
    median_seconds: float | None


def reader_qualities(session: Session, actor: Actor) -> list[ReaderQuality]:
    """By reader and task; none where a reader has neither been compared nor timed. Admins only: readers must not learn
    which cases were gold."""
    require(actor)
    pairs: dict[tuple[int, Task], list[tuple[Answer, Answer]]] = defaultdict(list)
    rejected: dict[tuple[int, Task], int] = defaultdict(int)
    for first, second in repository.double_reads(session):
        answers = [read.answer for read in (first, second) if read.answer is not None]
        if len(answers) == 1:
            for read in (first, second):
                rejected[read.reader_fk, Task(answers[0]["task"])] += 1
        elif len(answers) == 2 and answers[0]["task"] == answers[1]["task"]:
            task = Task(answers[0]["task"])
            pairs[first.reader_fk, task].append((answers[0], answers[1]))
            pairs[second.reader_fk, task].append((answers[1], answers[0]))
    gold: dict[tuple[int, Task], list[bool]] = defaultdict(list)
    for case, read in repository.gold_reads(session):
        correct = read.answer is not None and agree(read.answer, case.answer)
        gold[read.reader_fk, Task(case.answer["task"])].append(correct)
    found = []
    for reader in repository.readers_with_decisions(session):
        for task in Task:
            key = (reader.id, task)
            seconds = repository.seconds_of(session, reader.id, DbTask(task), LATEST)
            if seconds or pairs[key] or gold[key] or rejected[key]:
                found.append(
                    ReaderQuality(
                        reader=reader.display_name,
                        username=reader.username,
                        task=task,
                        **_of_pairs(task, pairs[key]),
                        one_rejected=rejected[key],
                        gold=len(gold[key]),
                        gold_correct=agreement.share(sum(gold[key]), len(gold[key])),
                        timed=len(seconds),
                        median_seconds=median(seconds) if seconds else None,
                    )
                )
    return found


def _of_pairs(task: Task, pairs: list[tuple[Answer, Answer]]) -> dict:
    enough = len(pairs) >= ENOUGH
    kappas = {
        name: agreement.kappa(
            [mine[name] for mine, _ in pairs], [other[name] for _, other in pairs], classes, weighted=ordered
        )
        if enough
        else None
        for name, (classes, ordered) in FIELDS[task].items()
    }
    compares_months = enough and task is Task.BONE_AGE
    mine, others = ([pair[which]["bone_age_months"] for pair in pairs] if compares_months else [] for which in (0, 1))
    return {
        "pairs": len(pairs),
        "within_threshold": agreement.share(sum(agree(*pair) for pair in pairs), len(pairs)) if enough else None,
        "kappas": kappas,
        "icc": agreement.icc(others, mine) if compares_months else None,
        "bland_altman": agreement.bland_altman(others, mine) if compares_months else None,
    }
