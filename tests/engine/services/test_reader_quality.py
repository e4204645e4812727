"""Per reader: recomputed from what the test itself entered, by scikit-learn and by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from sqlalchemy.orm import Session

from engine.errors import NotAllowed
from engine.findings.answers import Task, bone_age_answer, fracture_answer
from engine.services import quality_rules
from engine.services.quality_rules import Rule
from engine.services.reader_quality import ReaderQuality, reader_qualities
from tests.engine.services.conftest import ADMIN, READER
from tests.engine.services.test_second_read import SECOND, decide

FIRST_SAID = ["buckle", "buckle", "normal", "normal", "distal_radius", "normal", "buckle", "normal", "normal", "buckle"]
SECOND_SAID = ["buckle", "normal", "normal", "normal", "distal_radius", "normal", "buckle", "buckle", "normal", None]


def of(session: Session, username: str, task: Task) -> ReaderQuality:
    session.rollback()
    [found] = [one for one in reader_qualities(session, ADMIN) if (one.username, one.task) == (username, task)]
    return found


def test_agreement_of_two_readers_and_their_time(session: Session, new_case: Callable) -> None:
    for task in Task:
        quality_rules.set_rule(session, ADMIN, Rule(task, second_read_share=1.0))
    for first, second in zip([*FIRST_SAID, "buckle"], [*SECOND_SAID, "buckle"], strict=True):
        case = new_case(Task.FRACTURE)
        decide(session, READER, case, fracture_answer(first))
        decide(session, SECOND, case, fracture_answer(second) if second else None)
    months = [
        (100, 104),
        (60, 59),
        (120, 131),
        (30, 36),
        (150, 149),
        (90, 90),
        (72, 80),
        (140, 132),
        (66, 66),
        (84, 93),
    ]
    for first, second in months:
        case = new_case(Task.BONE_AGE)
        decide(session, READER, case, bone_age_answer(first))
        decide(session, SECOND, case, bone_age_answer(second))

    wrists = of(session, SECOND.username, Task.FRACTURE)
    one, other = [*FIRST_SAID[:-1], "buckle"], [*SECOND_SAID[:-1], "buckle"]
    assert (wrists.pairs, wrists.one_rejected) == (10, 1)
    assert wrists.kappas["fracture"].value == pytest.approx(cohen_kappa_score(one, other))
    assert wrists.within_threshold.value == pytest.approx(np.mean(np.array(one) == np.array(other)))
    assert wrists.icc is None and wrists.bland_altman is None
    assert (wrists.timed, wrists.median_seconds) == (10, 8.0)

    hands = of(session, SECOND.username, Task.BONE_AGE)
    difference = np.diff(np.array(months), axis=1).ravel()
    assert hands.bland_altman.bias.value == pytest.approx(difference.mean())
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (hands.bland_altman.bias.low, hands.bland_altman.bias.high) == pytest.approx((interval.low, interval.high))
    spread = np.std(difference, ddof=1)
    limits = (hands.bland_altman.lower_limit.value, hands.bland_altman.upper_limit.value)
    assert limits == pytest.approx((difference.mean() - 1.96 * spread, difference.mean() + 1.96 * spread))
    assert of(session, READER.username, Task.BONE_AGE).bland_altman.bias.value == pytest.approx(-difference.mean())
    assert hands.within_threshold.value == pytest.approx(np.mean(np.abs(difference) <= 8))
    assert 0.9 < hands.icc.value < 1 and hands.gold == 0 and hands.gold_share is None


def test_too_few_pairs_give_no_estimate(session: Session, new_case: Callable) -> None:
    quality_rules.set_rule(session, ADMIN, Rule(Task.FRACTURE, second_read_share=1.0))
    case = new_case(Task.FRACTURE)
    decide(session, READER, case, fracture_answer("buckle"))
    decide(session, SECOND, case, fracture_answer("buckle"))
    found = of(session, READER.username, Task.FRACTURE)
    assert (found.pairs, found.missing) == (1, "not enough cases (n = 1)")
    assert found.within_threshold is None and found.kappas == {}
    with pytest.raises(NotAllowed):
        reader_qualities(session, READER)
