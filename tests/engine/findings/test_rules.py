"""One answer of any task in words and its urgency; the rules of ROP and fractures are in test_rop, test_fracture."""

import pytest

from engine.findings.answers import ALLOWED, Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.summary import answer_urgency, answer_words, no_answer_urgency
from engine.findings.urgency import NO_URGENCY, Level, Urgency, most_urgent


def test_every_answer_has_words_and_an_urgency_that_says_why() -> None:
    for task in Task:
        for answer in ALLOWED[task]:
            assert answer_words(answer)
            urgency = answer_urgency(answer, 100)
            assert (urgency.level == Level.NONE) == (urgency.reason is None) == (urgency.source is None)
            if task == Task.BONE_AGE:
                assert urgency == NO_URGENCY


def test_an_eye_without_a_grade_is_never_counted_as_healthy() -> None:
    urgency = no_answer_urgency(Task.ROP)
    assert urgency.level == Level.SOON and urgency.unverified
    assert no_answer_urgency(Task.BONE_AGE) == NO_URGENCY


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (bone_age_answer(110), "9 y 2 m"),
        (rop_answer("II", "2", "none"), "zone II, stage 2, no plus"),
        (rop_answer("III", "0", "preplus"), "zone III, no ROP, pre-plus"),
        (rop_answer("none", "0", "none"), "fully vascularised, no ROP"),
        (fracture_answer("buckle"), "buckle fracture"),
    ],
)
def test_words(answer: dict, words: str) -> None:
    assert answer_words(answer) == words


def test_the_gravest_counts() -> None:
    soon, urgent = Urgency(Level.SOON, "a"), Urgency(Level.URGENT, "b")
    assert most_urgent([NO_URGENCY, soon, urgent, soon]) == urgent
    assert most_urgent([]) == NO_URGENCY
