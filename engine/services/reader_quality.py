"""How good a reader's reads are: agreement with the other reader of the same image, answers to gold cases, time.

Of images that were read twice, and blind: neither reader knew of the other. Rejected images are counted apart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median

import numpy as np
from sqlalchemy.orm import Session

from db.models import Task as DbTask
from db.repositories import blind as repository
from engine import clustered_figures as clustered
from engine.clustered_figures import Confusion, Sums
from engine.dashboard_sheet import enough
from engine.findings.answers import Answer, Task
from engine.radiology_metrics import Interval
from engine.services.accounts import Actor, require
from engine.services.answer_facts import CLASSES, ORDERED
from engine.services.reader_agreement import agree

LATEST = 500  # decisions whose time counts

Pair = tuple[int, Answer, Answer]  # child, this reader's answer, the other's


@dataclass(frozen=True)
class BlandAltman:
    """This reader minus the other one, in months."""

    bias: Interval
    lower_limit: Interval
    upper_limit: Interval


@dataclass(frozen=True)
class ReaderQuality:
    """One reader and task. `pairs`: images that another reader has answered, too, of so many `children`; `missing` says
    why nothing is estimated from them. `kappas` by field, weighted quadratically where the classes have an order; `icc`
    and `bland_altman` of bone ages. `gold_share` is None for too few gold cases."""

    reader: str  # display name
    username: str
    task: Task
    pairs: int
    missing: str | None
    within_threshold: Interval | None
    kappas: dict[str, Interval]
    icc: Interval | None
    bland_altman: BlandAltman | None
    one_rejected: int  # images that one of the two rejected
    gold: int
    gold_right: int
    gold_share: Interval | None
    timed: int
    median_seconds: float | None


def reader_qualities(session: Session, actor: Actor) -> list[ReaderQuality]:
    """By reader and task; none where a reader has neither been compared nor timed. Admins only: readers must not learn
    which cases were gold."""
    require(actor)
    pairs: dict[tuple[int, Task], list[Pair]] = defaultdict(list)
    rejected: dict[tuple[int, Task], int] = defaultdict(int)
    for read in repository.double_reads(session):
        answers = [answer for answer in (read.first, read.second) if answer is not None]
        readers = (read.first_reader_id, read.second_reader_id)
        if len(answers) == 1:
            for reader in readers:
                rejected[reader, Task(answers[0]["task"])] += 1
        elif len(answers) == 2 and answers[0]["task"] == answers[1]["task"]:
            task = Task(answers[0]["task"])
            pairs[readers[0], task].append((read.patient_id, answers[0], answers[1]))
            pairs[readers[1], task].append((read.patient_id, answers[1], answers[0]))
    gold: dict[tuple[int, Task], list[tuple[int, bool]]] = defaultdict(list)
    for read in repository.gold_reads(session):
        right = read.answer is not None and agree(read.answer, read.known)
        gold[read.reader_id, Task(read.known["task"])].append((read.patient_id, right))
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
                        **_of_gold(gold[key]),
                        timed=len(seconds),
                        median_seconds=median(seconds) if seconds else None,
                    )
                )
    return found


def _of_pairs(task: Task, pairs: list[Pair]) -> dict:
    child = np.array([child for child, *_ in pairs], dtype=int)
    missing = enough(len(pairs), len(set(child.tolist())))
    if missing is not None:
        nothing = dict.fromkeys(("within_threshold", "icc", "bland_altman"))
        return {"pairs": len(pairs), "missing": missing, "kappas": {}, **nothing}
    same = np.array([agree(mine, other) for _, mine, other in pairs], float)
    kappas = {
        name: Confusion.of(
            classes, child, [mine[name] for _, mine, _ in pairs], [other[name] for *_, other in pairs]
        ).kappa(weighted=name in ORDERED)
        for name, classes in CLASSES[task].items()
    }
    icc = bland_altman = None
    if task is Task.BONE_AGE:
        mine, others = (np.array([pair[i]["bone_age_months"] for pair in pairs], float) for i in (1, 2))
        icc, bland_altman = clustered.icc(child, mine, others), _bland_altman(child, mine - others)
    return {
        "pairs": len(pairs),
        "missing": None,
        "within_threshold": clustered.share(Sums.of(child, same)),
        "kappas": kappas,
        "icc": icc,
        "bland_altman": bland_altman,
    }


def _bland_altman(child: np.ndarray, difference: np.ndarray) -> BlandAltman:
    sums = Sums.of(child, difference)
    return BlandAltman(clustered.mean(sums), *clustered.limits_of_agreement(sums, float(difference @ difference)))


def _of_gold(gold: list[tuple[int, bool]]) -> dict:
    child, right = np.array([child for child, _ in gold], int), np.array([right for _, right in gold], float)
    too_few = enough(len(gold), len(set(child.tolist())))
    return {
        "gold": len(gold),
        "gold_right": int(right.sum()),
        "gold_share": None if too_few else clustered.share(Sums.of(child, right)),
    }
